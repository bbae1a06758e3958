//! Rows of a table by key: they lie in the order of their keys' first appearance, so that those of one
//! key are neighbours, and a batch of keys is looked up without touching a row.

use std::ops::Range;

use arrow::{
    array::{ArrayRef, RecordBatch, UInt32Array},
    compute::take_record_batch,
};
use engine::{
    key::{KeyBatch, Keys},
    operator::OperatorError,
};
use hashbrown::HashTable;

/// No key of the table.
pub(super) const NO_KEY: u32 = u32::MAX;

/// All rows of a table, found by key.
#[derive(Debug)]
pub struct LookupIndex {
    rows: RecordBatch,
    /// Numbers of keys by hash.
    numbers: HashTable<u32>,
    keys: KeyBatch,
    /// By number: where its rows begin. One more tells where the last ones end.
    starts: Vec<u32>,
}

impl LookupIndex {
    /// The rows that have these keys.
    pub(super) fn new(rows: &RecordBatch, keys: &KeyBatch) -> Result<LookupIndex, OperatorError> {
        let (numbers, firsts, number_of) = numbered(keys);
        let mut starts = vec![0_u32; firsts.len() + 1];
        for number in &number_of {
            starts[*number as usize + 1] += 1;
        }
        for number in 0..firsts.len() {
            starts[number + 1] += starts[number];
        }
        let mut next = starts.clone();
        let mut order = vec![0_u32; number_of.len()];
        for (row, number) in (0..).zip(&number_of) {
            let place = &mut next[*number as usize];
            order[*place as usize] = row;
            *place += 1;
        }
        Ok(LookupIndex {
            rows: take_record_batch(rows, &UInt32Array::from(order))?,
            numbers,
            keys: keys.take(&firsts),
            starts,
        })
    }

    /// Number of rows.
    #[must_use]
    pub fn num_rows(&self) -> usize {
        self.rows.num_rows()
    }

    pub(super) fn columns(&self) -> &[ArrayRef] {
        self.rows.columns()
    }

    /// The number of each key, [`NO_KEY`] where there is none like it.
    pub(super) fn find(&self, asked: &KeyBatch) -> Vec<u32> {
        match (&self.keys.keys, &asked.keys) {
            (Keys::U64(own), Keys::U64(other)) => {
                self.find_by(asked, |number, row| own[number] == other[row])
            }
            (Keys::U128(own), Keys::U128(other)) => {
                self.find_by(asked, |number, row| own[number] == other[row])
            }
            (Keys::U192(own), Keys::U192(other)) => {
                self.find_by(asked, |number, row| own[number] == other[row])
            }
            (Keys::Bytes(own), Keys::Bytes(other)) => {
                self.find_by(asked, |number, row| own.row(number) == other.row(row))
            }
            // Both sides' types are equal, and nothing else decides.
            _ => vec![NO_KEY; asked.len()],
        }
    }

    fn find_by(&self, asked: &KeyBatch, equal: impl Fn(usize, usize) -> bool) -> Vec<u32> {
        let hashes = asked.hashes.iter().enumerate();
        let number = |(row, hash): (usize, &u64)| {
            let found = self
                .numbers
                .find(*hash, |number| equal(*number as usize, row));
            found.copied().unwrap_or(NO_KEY)
        };
        hashes.map(number).collect()
    }

    /// Rows of a key by its number.
    #[inline]
    pub(super) fn rows_of(&self, number: u32) -> Range<u32> {
        match number {
            NO_KEY => 0..0,
            number => self.starts[number as usize]..self.starts[number as usize + 1],
        }
    }
}

/// Numbers for keys: by hash, the first row of each, and the number of each row's key.
fn numbered(keys: &KeyBatch) -> (HashTable<u32>, Vec<u32>, Vec<u32>) {
    fn by(
        keys: &KeyBatch,
        equal: impl Fn(usize, usize) -> bool,
    ) -> (HashTable<u32>, Vec<u32>, Vec<u32>) {
        let mut numbers: HashTable<u32> = HashTable::new();
        let mut firsts: Vec<u32> = Vec::new();
        let mut number_of = Vec::with_capacity(keys.len());
        for (row, hash) in keys.hashes.iter().enumerate() {
            let same = |number: &u32| equal(firsts[*number as usize] as usize, row);
            let found = numbers.find(*hash, same).copied();
            number_of.push(found.unwrap_or_else(|| {
                let number = firsts.len() as u32;
                firsts.push(row as u32);
                let rehash = |number: &u32| keys.hashes[firsts[*number as usize] as usize];
                numbers.insert_unique(*hash, number, rehash);
                number
            }));
        }
        (numbers, firsts, number_of)
    }
    match &keys.keys {
        Keys::U64(values) => by(keys, |a, b| values[a] == values[b]),
        Keys::U128(values) => by(keys, |a, b| values[a] == values[b]),
        Keys::U192(values) => by(keys, |a, b| values[a] == values[b]),
        Keys::Bytes(values) => by(keys, |a, b| values.row(a) == values.row(b)),
    }
}
