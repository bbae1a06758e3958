//! Builds runs. Columns stay in their narrow form (one width, one epoch, no delete marks) until a
//! row breaks it, so that ordinary rows cost a hash, their bytes and little more.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    RowRef, Run,
    layout::{
        ALL_VALUES, BASE, Columns, DELETE, HEADER_BYTES, IDENTITY_WIDTH, MAGIC, NEAR_EPOCHS,
        ONE_EPOCH, VALUE, VALUE_WIDTH, VERSION,
    },
};

/// Collects rows in (hash, identity) order.
#[derive(Default, Debug)]
pub struct RunBuilder {
    rows: usize,
    hashes: Vec<u8>,
    epochs: Epochs,
    /// Empty while every row has a value.
    kinds: Vec<u8>,
    identities: Slices,
    values: Slices,
}

/// Byte strings, one after the other.
#[derive(Default, Debug)]
struct Slices {
    bytes: Vec<u8>,
    width: usize,
    /// Empty while all have `width`.
    ends: Vec<u32>,
}

#[derive(Default, Debug)]
struct Epochs {
    first: u64,
    /// Empty while all are `first`.
    each: Vec<u64>,
}

impl Slices {
    #[inline]
    fn push(&mut self, rows_before: usize, slice: &[u8]) {
        self.bytes.extend_from_slice(slice);
        if rows_before == 0 {
            self.width = slice.len();
        } else if !self.ends.is_empty() || slice.len() != self.width {
            self.widen(rows_before);
            self.ends.push(self.bytes.len() as u32);
        }
    }

    /// Appends `rows` slices of `width` bytes each.
    #[inline]
    fn extend_fixed(&mut self, rows_before: usize, slices: &[u8], width: usize, rows: usize) {
        if rows_before == 0 {
            self.width = width;
        }
        if self.ends.is_empty() && width == self.width {
            self.bytes.extend_from_slice(slices);
            return;
        }
        self.widen(rows_before);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(slices);
        let ends = (1..=rows).map(|row| (start + row * width) as u32);
        self.ends.extend(ends);
    }

    /// From one width to ends.
    fn widen(&mut self, rows: usize) {
        if self.ends.is_empty() {
            self.ends
                .extend((1..=rows).map(|row| (row * self.width) as u32));
        }
    }

    fn is_fixed(&self) -> bool {
        self.ends.is_empty()
    }

    fn put_ends(&self, out: &mut BytesMut) {
        if self.is_fixed() {
            out.put_u32_le(self.width as u32);
        }
        self.ends.iter().for_each(|end| out.put_u32_le(*end));
    }
}

impl Epochs {
    #[inline]
    fn push(&mut self, rows_before: usize, epoch: u64, rows: usize) {
        if rows_before == 0 {
            self.first = epoch;
        }
        if !self.each.is_empty() || epoch != self.first {
            if self.each.is_empty() {
                self.each.resize(rows_before, self.first);
            }
            self.each.resize(rows_before + rows, epoch);
        }
    }

    /// The smallest, when all are within what a u16 adds to it.
    fn near(&self) -> Option<u64> {
        let least = *self.each.iter().min()?;
        let most = *self.each.iter().max()?;
        (most - least <= u64::from(u16::MAX)).then_some(least)
    }
}

impl RunBuilder {
    /// Room for `rows` rows of `bytes` bytes of identities and values together.
    #[must_use]
    pub fn with_capacity(rows: usize, bytes: usize) -> Self {
        let mut builder = RunBuilder::default();
        builder.hashes.reserve(rows * 8);
        builder.values.bytes.reserve(bytes);
        builder
    }

    /// Appends a row; rows must come in (hash, identity) order.
    #[inline]
    pub fn push(&mut self, row: RowRef<'_>) {
        self.hashes.extend_from_slice(&row.hash.to_le_bytes());
        self.epochs.push(self.rows, row.epoch, 1);
        self.push_kinds(row.value.is_none(), 1);
        self.identities.push(self.rows, row.identity);
        self.values.push(self.rows, row.value.unwrap_or_default());
        self.rows += 1;
    }

    /// Appends rows of a run.
    pub fn extend_from_run(&mut self, run: &Run, rows: Range<usize>) {
        let count = rows.len();
        if count == 0 {
            return;
        }
        self.hashes.extend_from_slice(run.hash_column(rows.clone()));
        match run.one_epoch() {
            Some(epoch) => self.epochs.push(self.rows, epoch, count),
            None => (rows.clone().enumerate())
                .for_each(|(i, row)| self.epochs.push(self.rows + i, run.epoch(row), 1)),
        }
        self.extend_kinds(run, rows.clone());
        let (slices, width) = run.identity_column(rows.clone());
        match width {
            Some(width) => (self.identities).extend_fixed(self.rows, slices, width, count),
            None => (rows.clone().enumerate())
                .for_each(|(i, row)| self.identities.push(self.rows + i, run.identity(row))),
        }
        let (slices, width) = run.value_column(rows.clone());
        match width {
            Some(width) => self.values.extend_fixed(self.rows, slices, width, count),
            None => (rows.enumerate())
                .for_each(|(i, row)| self.values.push(self.rows + i, run.value_or_empty(row))),
        }
        self.rows += count;
    }

    fn extend_kinds(&mut self, run: &Run, rows: Range<usize>) {
        match run.kind_column(rows.clone()) {
            None => self.push_kinds(false, rows.len()),
            Some(kinds) if self.kinds.is_empty() && kinds.iter().all(|kind| *kind == VALUE) => {}
            Some(kinds) => {
                self.kinds.resize(self.rows, VALUE);
                self.kinds.extend_from_slice(kinds);
            }
        }
    }

    #[inline]
    fn push_kinds(&mut self, deleted: bool, rows: usize) {
        if deleted || !self.kinds.is_empty() {
            let kind = if deleted { DELETE } else { VALUE };
            self.kinds.resize(self.rows, VALUE);
            self.kinds.resize(self.rows + rows, kind);
        }
    }

    /// Rows so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    fn flags(&self, near: Option<u64>) -> u8 {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        flag(self.identities.is_fixed(), IDENTITY_WIDTH)
            | flag(self.values.is_fixed(), VALUE_WIDTH)
            | flag(self.epochs.each.is_empty(), ONE_EPOCH)
            | flag(near.is_some(), NEAR_EPOCHS)
            | flag(self.kinds.is_empty(), ALL_VALUES)
    }

    /// Bytes of the run so far.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let columns = Columns::new(self.flags(self.epochs.near()), self.rows);
        columns.identities + self.identities.bytes.len() + self.values.bytes.len()
    }

    /// Bytes of identities and values so far.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        self.identities.bytes.len() + self.values.bytes.len()
    }

    /// The run.
    #[must_use]
    pub fn finish(self) -> Bytes {
        self.encode(0)
    }

    /// The run, marked as having nothing below it; it must have no delete marks.
    #[must_use]
    pub fn finish_base(self) -> Bytes {
        debug_assert!(self.kinds.is_empty(), "a base image has no delete marks");
        self.encode(BASE)
    }

    fn encode(self, base: u8) -> Bytes {
        let near = self.epochs.near();
        let flags = self.flags(near) | base;
        let columns = Columns::new(flags, self.rows);
        let bytes = columns.identities + self.identities.bytes.len() + self.values.bytes.len();
        let mut out = BytesMut::with_capacity(bytes);
        out.put_u16_le(MAGIC);
        out.put_u8(VERSION);
        out.put_u8(flags);
        out.put_u32_le(self.rows as u32);
        debug_assert_eq!(out.len(), HEADER_BYTES);
        out.put_slice(&self.hashes);
        match (self.epochs.each.is_empty(), near) {
            (true, _) => out.put_u64_le(self.epochs.first),
            (false, Some(least)) => {
                out.put_u64_le(least);
                let added = self.epochs.each.iter().map(|epoch| epoch - least);
                added.for_each(|added| out.put_u16_le(added as u16));
            }
            (false, None) => {
                (self.epochs.each.iter()).for_each(|epoch| out.put_u64_le(*epoch));
            }
        }
        out.put_slice(&self.kinds);
        self.identities.put_ends(&mut out);
        self.values.put_ends(&mut out);
        out.put_slice(&self.identities.bytes);
        out.put_slice(&self.values.bytes);
        debug_assert_eq!(out.len(), bytes);
        out.freeze()
    }
}
