//! The table outside as operators see it: what was read last.

use std::sync::{Arc, Mutex, PoisonError};

use super::LookupIndex;

/// What was last read of a table, shared by all tasks of a process that look it up. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LookupTable(Arc<Mutex<Arc<LookupIndex>>>);

impl LookupTable {
    /// A table of these rows.
    #[must_use]
    pub fn new(rows: LookupIndex) -> LookupTable {
        LookupTable(Arc::new(Mutex::new(Arc::new(rows))))
    }

    /// From the next batch on the table has these rows. Who joins with the ones before goes on so.
    pub fn replace(&self, rows: LookupIndex) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(rows);
    }

    /// The rows as of now.
    #[must_use]
    pub fn current(&self) -> Arc<LookupIndex> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
