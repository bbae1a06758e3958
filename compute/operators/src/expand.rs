//! GROUPING SETS: every row once per set.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, new_null_array},
    datatypes::SchemaRef,
};
use engine::{
    ChangeBatch,
    operator::{Operator, OperatorContext, OperatorError, Step},
    schema::arrow_schema,
};
use proto::{
    plan,
    types::{Field, LogicalType},
};

use crate::rows;

/// The operator of a [`plan::Expand`]. Appends the set's number, a BIGINT.
pub struct ExpandOperator {
    /// Per set: its number, and per column whether it is NULL.
    sets: Vec<(i64, Vec<bool>)>,
    schema: SchemaRef,
}

impl ExpandOperator {
    /// An expansion of `input`.
    ///
    /// # Errors
    /// When the plan cannot be run.
    pub fn build(spec: &plan::Expand, input: &[Field]) -> Result<Box<dyn Operator>, OperatorError> {
        if spec.sets.len() != spec.grouping_ids.len() {
            let message = "an expansion needs one number per set";
            return Err(OperatorError::Plan(message.to_owned()));
        }
        let columns = rows::columns(&spec.columns, input)?;
        let mut sets = Vec::with_capacity(spec.sets.len());
        for (set, id) in spec.sets.iter().zip(&spec.grouping_ids) {
            let mut is_null = vec![false; input.len()];
            columns.iter().for_each(|column| is_null[*column] = true);
            let kept = rows::columns(&set.columns, input)?;
            kept.iter().for_each(|column| is_null[*column] = false);
            sets.push((*id as i64, is_null));
        }
        let mut output = input.to_vec();
        output.push(Field::new("$e", LogicalType::BigInt.not_null()));
        Ok(Box::new(ExpandOperator {
            sets,
            schema: arrow_schema(&output),
        }))
    }
}

impl Operator for ExpandOperator {
    fn batch(
        &mut self,
        _input: usize,
        batch: ChangeBatch,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        let count = batch.num_rows();
        for (id, is_null) in &self.sets {
            let column = |(column, is_null): (&ArrayRef, &bool)| match is_null {
                true => new_null_array(column.data_type(), count),
                false => Arc::clone(column),
            };
            let columns = batch.rows.columns().iter().zip(is_null).map(column);
            let mut columns: Vec<ArrayRef> = columns.collect();
            columns.push(Arc::new(Int64Array::from(vec![*id; count])));
            let options = RecordBatchOptions::new().with_row_count(Some(count));
            let schema = Arc::clone(&self.schema);
            let rows = RecordBatch::try_new_with_options(schema, columns, &options)?;
            context
                .out
                .batch(ChangeBatch::changes(rows, batch.kinds.clone()));
        }
        Ok(Step::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{changelog, drive, fields, insert};

    #[test]
    fn each_set_has_its_columns() {
        let columns = fields(&[("a", "INT"), ("b", "STRING"), ("v", "INT")]);
        let set = |columns: &[u32]| plan::ColumnSet {
            columns: columns.to_vec(),
        };
        let spec = plan::Expand {
            columns: vec![0, 1],
            sets: vec![set(&[0, 1]), set(&[0]), set(&[])],
            grouping_ids: vec![0, 1, 3],
        };
        let make = |_: &engine::operator::TaskScope| ExpandOperator::build(&spec, &columns);
        let events = [insert(0, &columns, "1, x, 10\n-D 2, y, 20")];
        let expected = "\
+I 1, x, 10, 0
-D 2, y, 20, 0
+I 1, NULL, 10, 1
-D 2, NULL, 20, 1
+I NULL, NULL, 10, 3
-D NULL, NULL, 20, 3
";
        assert_eq!(changelog(&drive(&make, &events)), expected);
    }
}
