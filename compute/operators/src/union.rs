//! UNION ALL: the rows of all inputs, as they come.

use std::sync::Arc;

use arrow::{
    array::{RecordBatch, RecordBatchOptions},
    datatypes::SchemaRef,
};
use engine::{
    ChangeBatch,
    operator::{Operator, OperatorContext, OperatorError, Step},
    schema::arrow_schema,
};
use proto::types::Field;

/// The operator of a `plan::Union`.
pub struct UnionOperator {
    schema: SchemaRef,
}

impl UnionOperator {
    /// A union whose output has the columns `output`; those of the inputs differ in name at most.
    #[must_use]
    pub fn build(output: &[Field]) -> Box<dyn Operator> {
        Box::new(UnionOperator {
            schema: arrow_schema(output),
        })
    }
}

impl Operator for UnionOperator {
    fn batch(
        &mut self,
        _input: usize,
        batch: ChangeBatch,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let (_, columns, _) = batch.rows.into_parts();
        let schema = Arc::clone(&self.schema);
        let rows = RecordBatch::try_new_with_options(schema, columns, &options)?;
        context.out.batch(ChangeBatch::changes(rows, batch.kinds));
        Ok(Step::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{changelog, drive, fields, insert};

    #[test]
    fn inputs_are_interleaved() {
        let (left, right) = (fields(&[("a", "INT")]), fields(&[("b", "INT")]));
        let make = |_: &engine::operator::TaskScope| Ok(UnionOperator::build(&left));
        let events = [insert(0, &left, "1"), insert(1, &right, "-D 2\n3")];
        assert_eq!(changelog(&drive(&make, &events)), "+I 1\n-D 2\n+I 3\n");
    }
}
