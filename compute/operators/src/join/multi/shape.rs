//! What is fixed about a join of many inputs: its keys, how rows lie in memory, which columns it puts out.

use arrow::{
    array::ArrayRef,
    buffer::BooleanBuffer,
    datatypes::{DataType, SchemaRef},
};
use engine::{codec::RowCodec, key::KeyEncoder, operator::OperatorError, schema::arrow_schema};
use proto::{plan, types::Field};

use crate::{
    join::shape::{check_keys, key_types, null_rows},
    rows::row_codec,
};

/// What does not change while a join runs.
#[derive(Debug)]
pub(super) struct MultiShape {
    pub(super) inputs: Vec<InputShape>,
    /// Per column of the key: its NULL matches nothing.
    strict: Vec<bool>,
    /// Per output column: its input, and which column of that it is.
    pub(super) output: Vec<(usize, usize)>,
    /// Of the output.
    pub(super) schema: SchemaRef,
    pub(super) batch_rows: usize,
}

/// One input.
#[derive(Debug)]
pub(super) struct InputShape {
    pub(super) keys: KeyEncoder,
    pub(super) codec: RowCodec,
}

impl MultiShape {
    /// Of a join of `inputs`.
    ///
    /// # Errors
    /// When the plan cannot be run.
    pub(super) fn compile(
        spec: &plan::MultiJoin,
        inputs: &[&[Field]],
        batch_rows: usize,
    ) -> Result<Self, OperatorError> {
        let refused = |message: &str| Err(OperatorError::Plan(message.to_owned()));
        if inputs.len() < 2 || spec.inputs.len() != inputs.len() {
            return refused("a join has another number of inputs than its plan says");
        }
        let mut shapes = Vec::with_capacity(inputs.len());
        let mut first: Option<Vec<DataType>> = None;
        for (input, fields) in spec.inputs.iter().zip(inputs) {
            let (keys, types) = key_types(&input.keys, fields)?;
            check_keys(first.as_ref().unwrap_or(&types), &types)?;
            first.get_or_insert_with(|| types.clone());
            shapes.push(InputShape {
                keys: KeyEncoder::new(keys, types)?,
                codec: row_codec(fields)?,
            });
        }
        if first.is_none_or(|types| types.len() != spec.null_safe.len()) {
            return refused("it is not said of each key whether NULL equals NULL");
        }
        let numbered = inputs.iter().enumerate();
        let all = numbered.flat_map(|(input, fields)| (0..fields.len()).map(move |c| (input, c)));
        let all: Vec<(usize, usize)> = all.collect();
        let output = spec.columns.iter().map(|at| all.get(*at as usize).copied());
        let Some(output) = output.collect::<Option<Vec<_>>>() else {
            return refused("a join puts out a column that no input has");
        };
        let fields: Vec<Field> = output.iter().map(|(i, c)| inputs[*i][*c].clone()).collect();
        Ok(MultiShape {
            inputs: shapes,
            strict: spec.null_safe.iter().map(|safe| !safe).collect(),
            output,
            schema: arrow_schema(&fields),
            batch_rows: batch_rows.max(1),
        })
    }

    /// Rows of an input whose key matches nothing because of a NULL; `None`: there are none.
    pub(super) fn null_keys(&self, input: usize, columns: &[ArrayRef]) -> Option<BooleanBuffer> {
        let keys = self.inputs[input].keys.columns().iter();
        let keys: Vec<ArrayRef> = keys.map(|column| columns[*column].clone()).collect();
        null_rows(&keys, &self.strict)
    }
}
