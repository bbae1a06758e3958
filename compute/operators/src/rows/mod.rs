//! Rows of bytes as operator state: what joins, rankings, deduplication and sorting share.
//!
//! [`RowTable`] keeps many rows per key and saves them; [`RowCells`] keeps one row per key under
//! a `MapTable`; [`SortedSlots`] keeps slots in an order, which [`RowOrder`] makes bytes of. Knows the state tables' layout, nothing
//! of what an operator does with its rows.

mod ages;
mod birth;
mod cells;
pub(crate) mod fired;
mod order;
mod sorted;
mod table;
mod time;
mod windows;

pub(crate) use ages::Ages;
pub(crate) use cells::RowCells;
pub(crate) use order::{OrderKeys, RowOrder};
pub(crate) use sorted::SortedSlots;
pub(crate) use table::{Identity, RowIds, RowTable};
pub(crate) use time::{instants, milliseconds};
pub(crate) use windows::{WindowState, Windows, window_index_scope};

use arrow::datatypes::DataType;
use engine::{codec::RowCodec, operator::OperatorError, schema::arrow_type};
use proto::types::Field;

/// Arrow types of SQL columns.
pub(crate) fn arrow_types(fields: &[Field]) -> Vec<DataType> {
    fields
        .iter()
        .map(|field| arrow_type(&field.data_type.logical))
        .collect()
}

/// The row codec for SQL columns.
pub(crate) fn row_codec(fields: &[Field]) -> Result<RowCodec, OperatorError> {
    Ok(RowCodec::new(&arrow_types(fields))?)
}

/// Column indices of a plan, checked against the number of columns.
pub(crate) fn columns(indices: &[u32], fields: &[Field]) -> Result<Vec<usize>, OperatorError> {
    indices.iter().map(|index| column(*index, fields)).collect()
}

/// A column index of a plan, checked.
pub(crate) fn column(index: u32, fields: &[Field]) -> Result<usize, OperatorError> {
    let index = index as usize;
    if index >= fields.len() {
        let message = format!("column {index} of an input of {} columns", fields.len());
        return Err(OperatorError::Plan(message));
    }
    Ok(index)
}
