//! Rows of bytes, one behind the other.

/// Rows of bytes, end to end.
#[derive(Clone, Debug, Default)]
pub struct ByteRows {
    pub(super) data: Vec<u8>,
    /// Where each row ends.
    pub(super) ends: Vec<usize>,
}

impl ByteRows {
    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of row `row`.
    #[inline]
    #[must_use]
    pub fn row(&self, row: usize) -> &[u8] {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        &self.data[start..self.ends[row]]
    }

    /// Appends a row.
    pub fn push(&mut self, row: &[u8]) {
        self.data.extend_from_slice(row);
        self.ends.push(self.data.len());
    }

    /// The rows at `indices`.
    #[must_use]
    pub fn take(&self, indices: &[u32]) -> ByteRows {
        let mut taken = ByteRows::default();
        indices
            .iter()
            .for_each(|index| taken.push(self.row(*index as usize)));
        taken
    }
}
