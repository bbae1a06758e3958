//! The slices of a batch's rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch};
use engine::{ChangeBatch, operator::OperatorError};

use super::{slices::Slices, time_column::times};

/// Slices by a time column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SliceColumn {
    slices: Slices,
    column: usize,
}

impl SliceColumn {
    /// Slices of the times in `column`.
    pub(crate) fn new(slices: Slices, column: usize) -> Self {
        SliceColumn { slices, column }
    }

    /// The rows that are in any window: HOP leaves gaps where it slides further than it is long.
    pub(crate) fn within_windows(&self, batch: ChangeBatch) -> Result<ChangeBatch, OperatorError> {
        let is_within = |time: &i64| {
            let slice = self.slices.of_time(*time);
            self.slices.last_window(slice) >= slice
        };
        let within: Vec<bool> = times(batch.rows.column(self.column))?
            .iter()
            .map(is_within)
            .collect();
        if within.iter().all(|within| *within) {
            return Ok(batch);
        }
        Ok(batch.filter(&BooleanArray::from(within))?)
    }

    /// The end of each row's slice.
    pub(crate) fn ends(&self, batch: &RecordBatch) -> Result<ArrayRef, OperatorError> {
        let times = times(batch.column(self.column))?;
        let ends = times.into_iter().map(|time| self.slices.of_time(time));
        Ok(Arc::new(Int64Array::from_iter_values(ends)))
    }
}
