//! The lookup join: each row with what a table outside holds when it comes. All of the table is in
//! memory, found by key, and may be replaced between two batches.

mod index;
#[cfg(test)]
mod lookup_test;
mod operator;
mod read;
mod table;

pub use index::LookupIndex;
pub use operator::LookupJoinOperator;
pub use read::LookupReader;
pub use table::LookupTable;

use arrow::datatypes::DataType;
use engine::{key::KeyEncoder, operator::OperatorError};
use proto::{plan, types::Field};

use super::shape::{check_keys, key_types};

/// By what rows are found.
struct LookupKeys {
    encoder: KeyEncoder,
    /// Per key: its NULL matches nothing.
    strict: Vec<bool>,
}

impl LookupKeys {
    /// Key columns of both sides: of left rows, and of `right`, the columns of the table.
    fn of(
        spec: &plan::LookupJoin,
        left: &[Field],
        right: &[Field],
    ) -> Result<[LookupKeys; 2], OperatorError> {
        let left = key_types(&spec.left_keys, left)?;
        let right = key_types(&spec.right_keys, right)?;
        check_keys(&left.1, &right.1)?;
        Ok([LookupKeys::new(spec, left)?, LookupKeys::new(spec, right)?])
    }

    fn new(
        spec: &plan::LookupJoin,
        (columns, types): (Vec<usize>, Vec<DataType>),
    ) -> Result<LookupKeys, OperatorError> {
        let safe = spec.null_safe.iter().copied();
        let safe = safe.chain(std::iter::repeat(false));
        Ok(LookupKeys {
            strict: columns.iter().zip(safe).map(|(_, safe)| !safe).collect(),
            encoder: KeyEncoder::new(columns, types)?,
        })
    }
}

/// The part of the plan that says what is looked up.
fn lookup_table(spec: &plan::LookupJoin) -> Result<&plan::LookupTable, OperatorError> {
    let table = spec.table.as_ref();
    table.ok_or_else(|| OperatorError::Plan("a lookup join without table".to_owned()))
}

/// Columns of a row type that must be there.
fn columns_of(row: Option<&plan::RowType>) -> Result<Vec<Field>, OperatorError> {
    let row = row.ok_or_else(|| OperatorError::Plan("a table without columns".to_owned()))?;
    plan::fields(row).map_err(|error| OperatorError::Plan(error.to_string()))
}
