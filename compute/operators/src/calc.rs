//! Filter, then project: the core of Calc, sharing sub-expressions between condition and
//! projections; and the operator around it.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray as _, BooleanArray, RecordBatch, RecordBatchOptions},
    compute::filter,
    datatypes::{SchemaRef, UInt8Type},
};
use engine::{
    ChangeBatch, Element, Kinds, Timestamp,
    operator::{Operator, OperatorContext, OperatorError, Step},
    schema::arrow_schema,
};
use proto::{plan, types::Field};

use crate::{
    EvalContext, EvalError, ExprError,
    expr::{Frame, Graph, NodeId, is_true},
};

/// A condition and projections over one input. Column references cost nothing; sub-expressions
/// that occur more than once are computed once per batch.
pub struct Projector {
    graph: Graph,
    condition: Option<NodeId>,
    projections: Vec<NodeId>,
    schema: SchemaRef,
}

impl Projector {
    /// Compiles a Calc over `input` whose output columns are `output` (names; types are the
    /// expressions').
    ///
    /// # Errors
    /// When the plan is broken or asks for a function or cast that does not exist.
    pub fn compile(
        calc: &plan::Calc,
        input: &[Field],
        output: &[Field],
    ) -> Result<Self, ExprError> {
        let mut graph = Graph::new(input);
        let condition = match &calc.condition {
            Some(condition) => Some(graph.add(condition)?),
            None => None,
        };
        let condition = condition.filter(|id| !graph.is_true(*id));
        let mut projections = Vec::with_capacity(calc.projections.len());
        for projection in &calc.projections {
            projections.push(graph.add(projection)?);
        }
        let fields: Vec<Field> = projections
            .iter()
            .enumerate()
            .map(|(index, id)| {
                let name = output.get(index).map_or("", |field| field.name.as_str());
                Field::new(name, graph.nodes[*id].data_type.clone())
            })
            .collect();
        Ok(Projector {
            graph,
            condition,
            projections,
            schema: arrow_schema(&fields),
        })
    }

    /// Schema of the output.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The rows of `batch` that pass the condition, projected; `None` if there are none.
    ///
    /// # Errors
    /// When a value cannot be computed.
    pub fn evaluate(
        &self,
        batch: &ChangeBatch,
        context: &EvalContext,
    ) -> Result<Option<ChangeBatch>, EvalError> {
        let rows = batch.num_rows();
        if rows == 0 {
            return Ok(None);
        }
        let frame = Frame::new(&self.graph, context, batch.rows.columns(), rows);
        let Some(condition) = self.condition else {
            return Ok(Some(self.all(&frame, batch)?));
        };
        let condition = frame
            .evaluate(condition)
            .map_err(|error| error.at("in a condition"))?;
        match condition.is_constant_true() {
            Some(true) => return Ok(Some(self.all(&frame, batch)?)),
            Some(false) => return Ok(None),
            None => {}
        }
        let mask = is_true(condition.array().as_boolean());
        let passed = mask.count_set_bits();
        if passed == rows {
            return Ok(Some(self.all(&frame, batch)?));
        }
        if passed == 0 {
            return Ok(None);
        }
        let selected = self.project(&frame.select(&mask))?;
        let kinds = match &batch.kinds {
            Some(kinds) => {
                let kept = filter(kinds.array(), &BooleanArray::new(mask, None))?;
                let bytes = kept.as_primitive::<UInt8Type>().values().to_vec();
                Some(Kinds::from_bytes(bytes))
            }
            None => None,
        };
        Ok(Some(ChangeBatch::changes(selected, kinds)))
    }

    fn all(&self, frame: &Frame<'_>, batch: &ChangeBatch) -> Result<ChangeBatch, EvalError> {
        Ok(ChangeBatch::changes(
            self.project(frame)?,
            batch.kinds.clone(),
        ))
    }

    fn project(&self, frame: &Frame<'_>) -> Result<RecordBatch, EvalError> {
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.projections.len());
        for (id, field) in self.projections.iter().zip(self.schema.fields()) {
            let value = frame
                .evaluate(*id)
                .map_err(|error| error.at(place(field.name())))?;
            columns.push(value.into_array(frame.rows)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(frame.rows));
        Ok(RecordBatch::try_new_with_options(
            Arc::clone(&self.schema),
            columns,
            &options,
        )?)
    }
}

/// The operator of a Calc node.
pub struct CalcOperator {
    projector: Projector,
    watermark: Option<Timestamp>,
}

impl CalcOperator {
    /// An operator that filters and projects.
    #[must_use]
    pub fn new(projector: Projector) -> Self {
        CalcOperator {
            projector,
            watermark: None,
        }
    }
}

impl Operator for CalcOperator {
    fn batch(
        &mut self,
        _input: usize,
        batch: ChangeBatch,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        let evaluation = EvalContext {
            now_ms: context.clock.wall_ms(),
            watermark: self.watermark,
        };
        let projected = self
            .projector
            .evaluate(&batch, &evaluation)
            .map_err(|error| OperatorError::Evaluate(error.to_string()))?;
        if let Some(projected) = projected {
            context.out.batch(projected);
        }
        Ok(Step::Done)
    }

    fn watermark(
        &mut self,
        watermark: Timestamp,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        self.watermark = Some(watermark);
        context.out.element(Element::Watermark(watermark));
        Ok(Step::Done)
    }
}

/// Where an expression stands, for errors. Columns that the planner made mean nothing to a user.
fn place(column: &str) -> String {
    match column.starts_with('$') {
        true => "in a key of a join, a group or an order".to_owned(),
        false => format!("for column `{column}`"),
    }
}

#[cfg(test)]
#[path = "calc_test.rs"]
mod calc_test;
