//! A run: rows of one (table, key group, namespace), sorted by (hash, identity), column by
//! column. The unit that is written, merged and read; it knows no schema. Its bytes: `layout`.

use std::ops::Range;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::layout::{
    ALL_VALUES, BASE, Columns, DELETE, HEADER_BYTES, IDENTITY_WIDTH, KNOWN_FLAGS, MAGIC,
    NEAR_EPOCHS, ONE_EPOCH, VALUE, VALUE_WIDTH, VERSION,
};

/// Why bytes are not a run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunError {
    /// Not a run, or of another version.
    #[error("not a run of version {VERSION}")]
    Header,
    /// Lengths do not add up.
    #[error("a run of {rows} rows is cut or damaged")]
    Length {
        /// Rows that its header names.
        rows: usize,
    },
}

/// One row of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RowRef<'a> {
    /// Hash of the key.
    pub hash: u64,
    /// What tells rows of one hash apart.
    pub identity: &'a [u8],
    /// Epoch of the change.
    pub epoch: u64,
    /// `None`: the row was deleted.
    pub value: Option<&'a [u8]>,
}

/// A run, read in place.
#[derive(Clone, Debug)]
pub struct Run {
    bytes: Bytes,
    flags: u8,
    rows: usize,
    columns: Columns,
    identity_width: usize,
    value_width: usize,
    values_at: usize,
}

impl Run {
    /// Bytes of a run without rows.
    pub const EMPTY_BYTES: usize = HEADER_BYTES + 8 + 4 + 4;

    /// Checks the layout of `bytes`.
    ///
    /// # Errors
    /// When they are not a run.
    pub fn open(bytes: Bytes) -> Result<Run, RunError> {
        let header = bytes.get(..HEADER_BYTES).ok_or(RunError::Header)?;
        let flags = header[3];
        if header[..2] != MAGIC.to_le_bytes() || header[2] != VERSION || flags & !KNOWN_FLAGS != 0 {
            return Err(RunError::Header);
        }
        let rows = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let columns = Columns::new(flags, rows);
        let damaged = RunError::Length { rows };
        if bytes.len() < columns.identities {
            return Err(damaged);
        }
        let mut run = Run {
            bytes,
            flags,
            rows,
            columns,
            identity_width: 0,
            value_width: 0,
            values_at: columns.identities,
        };
        if run.has(IDENTITY_WIDTH) {
            run.identity_width = run.u32_at(columns.identity_ends) as usize;
        }
        if run.has(VALUE_WIDTH) {
            run.value_width = run.u32_at(columns.value_ends) as usize;
        }
        let (identity_bytes, value_bytes) = match rows {
            0 => (0, 0),
            _ => (run.identity_end(rows - 1), run.value_end(rows - 1)),
        };
        run.values_at = columns.identities + identity_bytes;
        let marks_in_base = run.is_base() && !run.has(ALL_VALUES);
        if run.bytes.len() != run.values_at + value_bytes || !run.is_ordered() || marks_in_base {
            return Err(damaged);
        }
        Ok(run)
    }

    /// Whether ends grow and kinds are known.
    fn is_ordered(&self) -> bool {
        let monotone = |end: fn(&Run, usize) -> usize| {
            (1..self.rows).all(|row| end(self, row - 1) <= end(self, row))
        };
        (self.has(IDENTITY_WIDTH) || monotone(Run::identity_end))
            && (self.has(VALUE_WIDTH) || monotone(Run::value_end))
            && (self.kind_column(0..self.rows))
                .is_none_or(|kinds| kinds.iter().all(|kind| *kind <= DELETE))
    }

    #[inline]
    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Whether nothing lies below: older runs of the same rows do not exist.
    #[must_use]
    pub fn is_base(&self) -> bool {
        self.has(BASE)
    }

    /// Whether every row has a value: there are no delete marks.
    #[must_use]
    pub fn has_only_values(&self) -> bool {
        self.has(ALL_VALUES)
    }

    /// Bytes of the whole run.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.bytes.len()
    }

    /// The same run in memory of its own: it may lie in a block with others.
    #[must_use]
    pub fn copied(&self) -> Run {
        Run {
            bytes: Bytes::copy_from_slice(&self.bytes),
            ..*self
        }
    }

    /// The run's bytes.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Row `row`; panics beyond the end, as a slice does.
    #[inline]
    #[must_use]
    pub fn row(&self, row: usize) -> RowRef<'_> {
        RowRef {
            hash: self.hash(row),
            identity: self.identity(row),
            epoch: self.epoch(row),
            value: self.has_value(row).then(|| self.value_or_empty(row)),
        }
    }

    /// Identity of row `row`.
    #[inline]
    #[must_use]
    pub fn identity(&self, row: usize) -> &[u8] {
        &self.bytes[self.identity_range(row)]
    }

    /// Identity of row `row`, sharing the run's memory.
    #[must_use]
    pub fn identity_bytes(&self, row: usize) -> Bytes {
        self.bytes.slice(self.identity_range(row))
    }

    /// Value of row `row`, sharing the run's memory; empty for a delete mark.
    #[must_use]
    pub fn value_bytes(&self, row: usize) -> Bytes {
        self.bytes.slice(self.value_range(row))
    }

    /// About what row `row` takes.
    #[must_use]
    pub fn row_bytes(&self, row: usize) -> usize {
        self.identity_range(row).len() + self.value_range(row).len() + 12
    }

    pub(super) fn value_or_empty(&self, row: usize) -> &[u8] {
        &self.bytes[self.value_range(row)]
    }

    /// Rows in order.
    pub fn iter(&self) -> impl Iterator<Item = RowRef<'_>> {
        (0..self.rows).map(|row| self.row(row))
    }

    /// Rows of one hash.
    #[must_use]
    pub fn rows_of(&self, hash: u64) -> Range<usize> {
        let start = self.lower_bound(hash);
        let mut end = start;
        while end < self.rows && self.hash(end) == hash {
            end += 1;
            // Many rows of one hash: stop counting them one by one.
            if end - start == 8 {
                end = self.partition_point(end, |row| self.hash(row) <= hash);
            }
        }
        start..end
    }

    /// First row whose hash is not below `hash`.
    #[must_use]
    pub fn lower_bound(&self, hash: u64) -> usize {
        self.partition_point(0, |row| self.hash(row) < hash)
    }

    /// First row from `from` on whose hash is not below `hash`; quick when it is near.
    #[must_use]
    pub fn lower_bound_from(&self, from: usize, hash: u64) -> usize {
        let mut step = 1;
        let mut low = from;
        while low + step < self.rows && self.hash(low + step) < hash {
            low += step;
            step *= 2;
        }
        let high = (low + step).min(self.rows);
        partition_point(low, high, |row| self.hash(row) < hash)
    }

    /// First row from `from` on for which `before` is false.
    fn partition_point(&self, from: usize, before: impl Fn(usize) -> bool) -> usize {
        partition_point(from, self.rows, before)
    }

    fn identity_range(&self, row: usize) -> Range<usize> {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        let at = self.columns.identities;
        let start = if row == 0 {
            0
        } else {
            self.identity_end(row - 1)
        };
        at + start..at + self.identity_end(row)
    }

    fn value_range(&self, row: usize) -> Range<usize> {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        let start = if row == 0 { 0 } else { self.value_end(row - 1) };
        self.values_at + start..self.values_at + self.value_end(row)
    }

    /// Hash of row `row`.
    #[inline]
    #[must_use]
    pub fn hash(&self, row: usize) -> u64 {
        self.u64_at(HEADER_BYTES + row * 8)
    }

    /// Epoch of row `row`.
    #[inline]
    #[must_use]
    pub fn epoch(&self, row: usize) -> u64 {
        let at = self.columns.epochs;
        if self.has(ONE_EPOCH) {
            self.u64_at(at)
        } else if self.has(NEAR_EPOCHS) {
            let added = at + 8 + row * 2;
            let added = u16::from_le_bytes([self.bytes[added], self.bytes[added + 1]]);
            self.u64_at(at).wrapping_add(u64::from(added))
        } else {
            self.u64_at(at + row * 8)
        }
    }

    /// Whether row `row` is not a delete mark.
    #[inline]
    #[must_use]
    pub fn has_value(&self, row: usize) -> bool {
        self.has(ALL_VALUES) || self.bytes[self.columns.kinds + row] == VALUE
    }

    #[inline]
    fn identity_end(&self, row: usize) -> usize {
        if self.has(IDENTITY_WIDTH) {
            return (row + 1) * self.identity_width;
        }
        self.u32_at(self.columns.identity_ends + row * 4) as usize
    }

    #[inline]
    fn value_end(&self, row: usize) -> usize {
        if self.has(VALUE_WIDTH) {
            return (row + 1) * self.value_width;
        }
        self.u32_at(self.columns.value_ends + row * 4) as usize
    }

    pub(super) fn hash_column(&self, rows: Range<usize>) -> &[u8] {
        &self.bytes[HEADER_BYTES + rows.start * 8..HEADER_BYTES + rows.end * 8]
    }

    pub(super) fn one_epoch(&self) -> Option<u64> {
        self.has(ONE_EPOCH)
            .then(|| self.u64_at(self.columns.epochs))
    }

    /// `None`: all are values.
    pub(super) fn kind_column(&self, rows: Range<usize>) -> Option<&[u8]> {
        let at = self.columns.kinds;
        (!self.has(ALL_VALUES)).then(|| &self.bytes[at + rows.start..at + rows.end])
    }

    /// Identities of some rows and, if they have one, their width.
    pub(super) fn identity_column(&self, rows: Range<usize>) -> (&[u8], Option<usize>) {
        let start = self.identity_range(rows.start).start;
        let end = self.identity_range(rows.end - 1).end;
        let width = self.has(IDENTITY_WIDTH).then_some(self.identity_width);
        (&self.bytes[start..end], width)
    }

    pub(super) fn value_column(&self, rows: Range<usize>) -> (&[u8], Option<usize>) {
        let start = self.value_range(rows.start).start;
        let end = self.value_range(rows.end - 1).end;
        let width = self.has(VALUE_WIDTH).then_some(self.value_width);
        (&self.bytes[start..end], width)
    }

    #[inline]
    fn u64_at(&self, at: usize) -> u64 {
        let bytes = self.bytes[at..at + 8].try_into().expect("eight bytes");
        u64::from_le_bytes(bytes)
    }

    #[inline]
    fn u32_at(&self, at: usize) -> u32 {
        let bytes = self.bytes[at..at + 4].try_into().expect("four bytes");
        u32::from_le_bytes(bytes)
    }
}

fn partition_point(mut low: usize, mut high: usize, before: impl Fn(usize) -> bool) -> usize {
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle) {
            low = middle + 1
        } else {
            high = middle
        }
    }
    low
}
