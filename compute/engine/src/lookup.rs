//! What a connector implements whose tables can be looked up.

use std::ops::ControlFlow;

use arrow::array::RecordBatch;

use crate::source::SourceError;

/// A table that is read whole, to be looked up in memory. Cheap to make; reads nothing yet.
pub trait LookupSource: Send + Sync {
    /// Reads all rows that there are now and gives them to `take`, which may have enough. Returns how
    /// many records could not be read and were left out, as the table's options allow. Blocks its
    /// thread: no task may wait for it.
    ///
    /// # Errors
    /// When the table cannot be read; the text says where and what to do.
    fn read(
        &self,
        take: &mut dyn FnMut(RecordBatch) -> ControlFlow<()>,
    ) -> Result<u64, SourceError>;

    /// How long what was read is good for, in ms; `None`: as long as the job runs.
    fn reload_ms(&self) -> Option<u64>;
}
