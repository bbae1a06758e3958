//! How many rows wait in files: bytes that are not read, by what a row took of those that were. An estimate,
//! as good as the rows that come are like those that came.

use std::sync::atomic::{AtomicU64, Ordering};

/// What was read of a table by all readers that share this.
#[derive(Debug, Default)]
pub(super) struct RowSizes {
    bytes: AtomicU64,
    rows: AtomicU64,
}

impl RowSizes {
    /// So many more bytes were read, which gave so many rows.
    pub(super) fn add(&self, bytes: u64, rows: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
    }

    /// Rows between two places of a file. `None`: nothing says how large rows are, or where a file ends
    /// that has no length.
    pub(super) fn rows_between(&self, position: u64, end: u64) -> Option<u64> {
        // The last record of a split ends beyond it.
        let left = end.saturating_sub(position);
        if left == 0 {
            return Some(0);
        }
        let bytes = self.bytes.load(Ordering::Relaxed);
        let rows = self.rows.load(Ordering::Relaxed);
        if end == u64::MAX || bytes == 0 || rows == 0 {
            return None;
        }
        let waiting = (u128::from(left) * u128::from(rows)).div_ceil(u128::from(bytes));
        Some(u64::try_from(waiting).unwrap_or(u64::MAX))
    }
}
