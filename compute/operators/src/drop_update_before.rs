//! Drops `-U` rows: what follows finds old rows by a key.

use arrow::array::BooleanArray;
use engine::{
    ChangeBatch,
    operator::{Operator, OperatorContext, OperatorError, Step},
};
use proto::types::RowKind;

/// The operator of a `plan::DropUpdateBefore`.
#[derive(Debug)]
pub struct DropUpdateBeforeOperator;

impl DropUpdateBeforeOperator {
    /// The operator.
    #[must_use]
    pub fn build() -> Box<dyn Operator> {
        Box::new(DropUpdateBeforeOperator)
    }
}

impl Operator for DropUpdateBeforeOperator {
    fn batch(
        &mut self,
        _input: usize,
        batch: ChangeBatch,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        const DROPPED: u8 = RowKind::UpdateBefore as u8;
        let kept = match &batch.kinds {
            Some(kinds) if kinds.bytes().contains(&DROPPED) => {
                let kept = kinds.bytes().iter().map(|kind| Some(*kind != DROPPED));
                batch.filter(&kept.collect::<BooleanArray>())?
            }
            _ => batch,
        };
        context.out.batch(kept);
        Ok(Step::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{changelog, drive, fields, insert};

    #[test]
    fn only_update_before_goes() {
        let columns = fields(&[("a", "INT")]);
        let make = |_: &engine::operator::TaskScope| Ok(DropUpdateBeforeOperator::build());
        let events = [
            insert(0, &columns, "1\n-U 1\n+U 2\n-D 2"),
            insert(0, &columns, "-U 3"),
        ];
        assert_eq!(changelog(&drive(&make, &events)), "+I 1\n+U 2\n-D 2\n");
    }
}
