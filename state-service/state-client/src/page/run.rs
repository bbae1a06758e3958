//! A run: rows of one (table, key group, namespace), sorted by (hash, identity), column by
//! column. The unit that is written, merged and read; it knows no schema.
//!
//! ```text
//! magic u16 · version u8 · flags u8 · rows u32
//! hashes      rows × u64
//! epochs      rows × u64
//! kinds       rows × u8          0 value, 1 delete mark
//! id ends     rows × u32         ends of the identities in their bytes
//! value ends  rows × u32
//! identities  bytes
//! values      bytes
//! ```
//! All integers little endian. Merging keeps, of rows with the same (hash, identity), the one of
//! the newest epoch, so it is associative.

use bytes::{BufMut, Bytes, BytesMut};

const MAGIC: u16 = 0x4d53;
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 8;
const VALUE: u8 = 0;
const DELETE: u8 = 1;

/// Why bytes are not a run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
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

/// Collects rows in (hash, identity) order.
#[derive(Default, Debug)]
pub struct RunBuilder {
    hashes: Vec<u64>,
    epochs: Vec<u64>,
    kinds: Vec<u8>,
    identity_ends: Vec<u32>,
    value_ends: Vec<u32>,
    identities: Vec<u8>,
    values: Vec<u8>,
}

impl RunBuilder {
    /// Appends a row; rows must come in (hash, identity) order.
    pub fn push(&mut self, row: RowRef<'_>) {
        self.hashes.push(row.hash);
        self.epochs.push(row.epoch);
        self.kinds
            .push(if row.value.is_some() { VALUE } else { DELETE });
        self.identities.extend_from_slice(row.identity);
        self.values.extend_from_slice(row.value.unwrap_or_default());
        self.identity_ends.push(self.identities.len() as u32);
        self.value_ends.push(self.values.len() as u32);
    }

    /// Rows so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Bytes of the run so far.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        HEADER_BYTES + self.len() * (8 + 8 + 1 + 4 + 4) + self.identities.len() + self.values.len()
    }

    /// The run.
    #[must_use]
    pub fn finish(self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.encoded_len());
        out.put_u16_le(MAGIC);
        out.put_u8(VERSION);
        out.put_u8(0);
        out.put_u32_le(self.hashes.len() as u32);
        self.hashes.iter().for_each(|hash| out.put_u64_le(*hash));
        self.epochs.iter().for_each(|epoch| out.put_u64_le(*epoch));
        out.put_slice(&self.kinds);
        self.identity_ends
            .iter()
            .for_each(|end| out.put_u32_le(*end));
        self.value_ends.iter().for_each(|end| out.put_u32_le(*end));
        out.put_slice(&self.identities);
        out.put_slice(&self.values);
        out.freeze()
    }
}

/// A run, read in place.
#[derive(Clone, Debug)]
pub struct Run {
    bytes: Bytes,
    rows: usize,
    identities_at: usize,
    values_at: usize,
}

impl Run {
    /// Checks the layout of `bytes`.
    ///
    /// # Errors
    /// When they are not a run.
    pub fn open(bytes: Bytes) -> Result<Run, RunError> {
        let header = bytes.get(..HEADER_BYTES).ok_or(RunError::Header)?;
        if header[..2] != MAGIC.to_le_bytes() || header[2] != VERSION {
            return Err(RunError::Header);
        }
        let rows = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let fixed = HEADER_BYTES + rows * (8 + 8 + 1 + 4 + 4);
        let damaged = RunError::Length { rows };
        if bytes.len() < fixed {
            return Err(damaged);
        }
        let mut run = Run {
            bytes,
            rows,
            identities_at: fixed,
            values_at: fixed,
        };
        let (identity_bytes, value_bytes) = match rows {
            0 => (0, 0),
            _ => (run.identity_end(rows - 1), run.value_end(rows - 1)),
        };
        run.values_at = fixed + identity_bytes;
        let monotone = |end: fn(&Run, usize) -> usize| {
            (1..rows).all(|row| end(&run, row - 1) <= end(&run, row))
        };
        if run.bytes.len() != run.values_at + value_bytes
            || !monotone(Run::identity_end)
            || !monotone(Run::value_end)
        {
            return Err(damaged);
        }
        Ok(run)
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

    /// Bytes of the whole run.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.bytes.len()
    }

    /// Row `row`; panics beyond the end, as a slice does.
    #[must_use]
    pub fn row(&self, row: usize) -> RowRef<'_> {
        let (identity, value) = (self.identity_range(row), self.value_range(row));
        let kind = self.bytes[HEADER_BYTES + self.rows * 16 + row];
        RowRef {
            hash: self.hash(row),
            identity: &self.bytes[identity],
            epoch: self.u64_at(HEADER_BYTES + self.rows * 8 + row * 8),
            value: (kind == VALUE).then(|| &self.bytes[value]),
        }
    }

    /// Identity of row `row`, sharing the run's memory.
    #[must_use]
    pub fn identity_bytes(&self, row: usize) -> Bytes {
        self.bytes.slice(self.identity_range(row))
    }

    /// Value of row `row`, sharing the run's memory.
    #[must_use]
    pub fn value_bytes(&self, row: usize) -> Bytes {
        self.bytes.slice(self.value_range(row))
    }

    /// Rows in order.
    pub fn iter(&self) -> impl Iterator<Item = RowRef<'_>> {
        (0..self.rows).map(|row| self.row(row))
    }

    /// Rows of one hash.
    #[must_use]
    pub fn rows_of(&self, hash: u64) -> std::ops::Range<usize> {
        let start = self.partition_point(|row| self.hash(row) < hash);
        let end = self.partition_point(|row| self.hash(row) <= hash);
        start..end
    }

    fn partition_point(&self, before: impl Fn(usize) -> bool) -> usize {
        let (mut low, mut high) = (0, self.rows);
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

    fn identity_range(&self, row: usize) -> std::ops::Range<usize> {
        let start = if row == 0 {
            0
        } else {
            self.identity_end(row - 1)
        };
        self.identities_at + start..self.identities_at + self.identity_end(row)
    }

    fn value_range(&self, row: usize) -> std::ops::Range<usize> {
        let start = if row == 0 { 0 } else { self.value_end(row - 1) };
        self.values_at + start..self.values_at + self.value_end(row)
    }

    fn hash(&self, row: usize) -> u64 {
        self.u64_at(HEADER_BYTES + row * 8)
    }

    fn identity_end(&self, row: usize) -> usize {
        self.u32_at(HEADER_BYTES + self.rows * 17 + row * 4) as usize
    }

    fn value_end(&self, row: usize) -> usize {
        self.u32_at(HEADER_BYTES + self.rows * 21 + row * 4) as usize
    }

    fn u64_at(&self, at: usize) -> u64 {
        let bytes = self.bytes[at..at + 8].try_into().expect("eight bytes");
        u64::from_le_bytes(bytes)
    }

    fn u32_at(&self, at: usize) -> u32 {
        let bytes = self.bytes[at..at + 4].try_into().expect("four bytes");
        u32::from_le_bytes(bytes)
    }
}

/// Merges runs: of rows with the same (hash, identity) the newest epoch wins, and on equal epochs
/// the later run. `onto_base`: nothing lies below, so delete marks are dropped.
#[must_use]
pub fn merge(runs: &[Run], onto_base: bool) -> Bytes {
    let mut cursors: Vec<(usize, usize)> = runs
        .iter()
        .enumerate()
        .filter(|(_, run)| !run.is_empty())
        .map(|(i, _)| (i, 0))
        .collect();
    let mut out = RunBuilder::default();
    while let Some(first) = cursors.first().copied() {
        let mut newest = runs[first.0].row(first.1);
        for (run, row) in &cursors[1..] {
            let row = runs[*run].row(*row);
            let key = (row.hash, row.identity);
            let least = (newest.hash, newest.identity);
            if key < least || (key == least && row.epoch >= newest.epoch) {
                newest = row;
            }
        }
        let key = (newest.hash, newest.identity);
        if newest.value.is_some() || !onto_base {
            out.push(newest);
        }
        for (run, row) in &mut cursors {
            let at = runs[*run].row(*row);
            if (at.hash, at.identity) == key {
                *row += 1;
            }
        }
        cursors.retain(|(run, row)| *row < runs[*run].len());
    }
    out.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    type Model = BTreeMap<(u64, Vec<u8>), (u64, Option<Vec<u8>>)>;

    fn run_of(model: &Model) -> Run {
        let mut builder = RunBuilder::default();
        for ((hash, identity), (epoch, value)) in model {
            let value = value.as_deref();
            builder.push(RowRef {
                hash: *hash,
                identity,
                epoch: *epoch,
                value,
            });
        }
        assert_eq!(builder.len(), model.len());
        Run::open(builder.finish()).expect("own bytes")
    }

    fn rows(run: &Run) -> Model {
        let row = |row: RowRef<'_>| {
            (
                (row.hash, row.identity.to_vec()),
                (row.epoch, row.value.map(<[u8]>::to_vec)),
            )
        };
        run.iter().map(row).collect()
    }

    fn model(epoch: u64) -> impl Strategy<Value = Model> {
        let key = (0..4_u64, prop::collection::vec(0..3_u8, 0..3));
        let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..5));
        prop::collection::btree_map(key, value.prop_map(move |v| (epoch, v)), 0..12)
    }

    proptest! {
        #[test]
        fn round_trip_and_lookup(model in model(7)) {
            let run = run_of(&model);
            prop_assert_eq!(rows(&run), model.clone());
            for hash in 0..5 {
                let found = run.rows_of(hash).len();
                prop_assert_eq!(found, model.keys().filter(|key| key.0 == hash).count());
            }
        }

        #[test]
        fn merging_is_associative_and_newest_wins(a in model(1), b in model(2), c in model(3)) {
            let mut expected = a.clone();
            expected.extend(b.clone());
            expected.extend(c.clone());
            let (a, b, c) = (run_of(&a), run_of(&b), run_of(&c));
            let open = |bytes| Run::open(bytes).expect("own bytes");
            let at_once = open(merge(&[a.clone(), b.clone(), c.clone()], false));
            let left = open(merge(&[open(merge(&[a.clone(), b.clone()], false)), c.clone()], false));
            let right = open(merge(&[a, open(merge(&[b, c], false))], false));
            prop_assert_eq!(rows(&at_once), expected.clone());
            prop_assert_eq!(rows(&left), expected.clone());
            prop_assert_eq!(rows(&right), expected.clone());
            expected.retain(|_, row| row.1.is_some());
            prop_assert_eq!(rows(&open(merge(&[left], true))), expected);
        }

        #[test]
        fn damaged_bytes_are_refused(model in model(1), cut in 0..40_usize) {
            let bytes = run_of(&model).bytes;
            if cut > 0 && cut <= bytes.len() {
                prop_assert!(Run::open(bytes.slice(..bytes.len() - cut)).is_err());
            }
        }
    }

    #[test]
    fn layout_is_fixed() {
        let mut builder = RunBuilder::default();
        builder.push(RowRef {
            hash: 1,
            identity: b"a",
            epoch: 2,
            value: Some(b"xy"),
        });
        builder.push(RowRef {
            hash: 3,
            identity: b"",
            epoch: 4,
            value: None,
        });
        let expected = [
            &[0x53, 0x4d, 1, 0, 2, 0, 0, 0][..],
            &1_u64.to_le_bytes(),
            &3_u64.to_le_bytes(),
            &2_u64.to_le_bytes(),
            &4_u64.to_le_bytes(),
            &[0, 1],
            &1_u32.to_le_bytes(),
            &1_u32.to_le_bytes(),
            &2_u32.to_le_bytes(),
            &2_u32.to_le_bytes(),
            b"a",
            b"xy",
        ]
        .concat();
        assert_eq!(&builder.finish()[..], &expected[..]);
    }
}
