//! Rows that wait for reads, by the hash of their key: an answer lets go of the rows of its keys and
//! looks at no others, however many wait. Later rows of such a key wait behind them, so that the order
//! per key is kept. (One of the five parts of Flink's asynchronous state access, FLIP-425.)

use std::collections::{BTreeMap, hash_map::Entry};

use arrow::error::ArrowError;

use super::hashed::HashedMap;
use crate::ChangeBatch;

/// Rows of batches, by number of the batch and row.
type Places = Vec<(u64, u32)>;

/// Batches with rows that wait.
#[derive(Debug, Default)]
pub(super) struct WaitingRows {
    batches: BTreeMap<u64, Waiting>,
    next: u64,
    keys: HashedMap<Key>,
    /// Whose reads are answered.
    ready: Places,
    /// In all batches, those that do not wait any more included: they take memory.
    rows: usize,
}

#[derive(Debug)]
struct Waiting {
    input: usize,
    batch: ChangeBatch,
    /// Rows that still wait.
    left: usize,
}

/// Keys of one hash that are being read.
#[derive(Debug, Default)]
struct Key {
    reads: usize,
    /// Rows wait for it.
    is_held: bool,
    rows: Places,
}

impl WaitingRows {
    /// Whether no row waits.
    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Rows of all batches with rows that wait.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// A key of this hash is being read.
    pub(super) fn asked(&mut self, hash: u64) {
        self.keys.entry(hash).or_default().reads += 1;
    }

    /// Rows of this hash, of which something is being read, wait from now on.
    pub(super) fn hold(&mut self, hash: u64) {
        self.keys.entry(hash).or_default().is_held = true;
    }

    /// Whether rows of this hash wait.
    pub(super) fn is_held(&self, hash: u64) -> bool {
        self.keys.get(&hash).is_some_and(|key| key.is_held)
    }

    /// Has rows wait, all of them of hashes that are held.
    pub(super) fn push(&mut self, input: usize, batch: ChangeBatch, hashes: &[u64]) {
        let number = self.next;
        self.next += 1;
        self.rows += hashes.len();
        for (row, hash) in (0..).zip(hashes) {
            let key = self.keys.entry(*hash).or_default();
            debug_assert!(key.is_held && key.reads > 0, "nothing will let go of a row");
            key.rows.push((number, row));
        }
        let left = hashes.len();
        let waiting = Waiting { input, batch, left };
        self.batches.insert(number, waiting);
    }

    /// One of the reads of this hash is answered.
    pub(super) fn answered(&mut self, hash: u64) {
        let Entry::Occupied(mut entry) = self.keys.entry(hash) else {
            return;
        };
        let key = entry.get_mut();
        key.reads = key.reads.saturating_sub(1);
        if key.reads == 0 {
            self.ready.append(&mut entry.remove().rows);
        }
    }

    /// The rows whose reads are answered, by input, in the order in which they came.
    ///
    /// # Errors
    /// When rows cannot be put together.
    pub(super) fn take_ready(&mut self) -> Result<Vec<(usize, ChangeBatch)>, ArrowError> {
        let mut ready = std::mem::take(&mut self.ready);
        ready.sort_unstable();
        let mut taken = Vec::new();
        let input = |place: &(u64, u32)| self.batches.get(&place.0).map(|waiting| waiting.input);
        for run in ready.chunk_by(|one, other| input(one) == input(other)) {
            let (mut batches, mut places) = (Vec::new(), Vec::with_capacity(run.len()));
            for rows in run.chunk_by(|one, other| one.0 == other.0) {
                if let Some(waiting) = rows.first().and_then(|row| self.batches.get(&row.0)) {
                    let index = batches.len();
                    batches.push(&waiting.batch);
                    places.extend(rows.iter().map(|(_, row)| (index, *row as usize)));
                }
            }
            if let Some(input) = run.first().and_then(input) {
                taken.push((input, ChangeBatch::interleave(&batches, &places)?));
            }
        }
        for rows in ready.chunk_by(|one, other| one.0 == other.0) {
            let number = rows.first().map_or(0, |row| row.0);
            if let Some(waiting) = self.batches.get_mut(&number) {
                waiting.left -= rows.len();
                if waiting.left == 0 {
                    self.rows -= waiting.batch.num_rows();
                    self.batches.remove(&number);
                }
            }
        }
        Ok(taken)
    }

    /// Nothing waits, and nothing is being read any more.
    pub(super) fn clear(&mut self) {
        *self = WaitingRows {
            next: self.next,
            ..WaitingRows::default()
        };
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::Arc};

    use arrow::{
        array::{AsArray as _, Int64Array, RecordBatch},
        datatypes::{DataType, Field, Int64Type, Schema},
    };
    use proptest::prelude::*;

    use super::*;

    fn batch(rows: Vec<i64>) -> ChangeBatch {
        let schema = Schema::new(vec![Field::new("n", DataType::Int64, false)]);
        let column = Arc::new(Int64Array::from(rows));
        ChangeBatch::inserts(RecordBatch::try_new(Arc::new(schema), vec![column]).expect("a batch"))
    }

    fn numbers(batch: &ChangeBatch) -> Vec<i64> {
        let column = batch.rows.column(0).as_primitive::<Int64Type>();
        column.values().to_vec()
    }

    #[derive(Clone, Debug)]
    enum Act {
        /// An input and the hashes of rows that want a read.
        Rows(usize, Vec<u64>),
        /// One of the reads under way.
        Answer(prop::sample::Index),
    }

    fn act() -> impl Strategy<Value = Act> {
        let rows = (0..2_usize, prop::collection::vec(0..9_u64, 1..6));
        prop_oneof![
            rows.prop_map(|(input, hashes)| Act::Rows(input, hashes)),
            any::<prop::sample::Index>().prop_map(Act::Answer),
        ]
    }

    proptest! {
        #[test]
        fn rows_go_when_their_reads_are_answered_in_the_order_of_their_key(
            acts in prop::collection::vec(act(), 1..60),
        ) {
            let mut waiting = WaitingRows::default();
            // Rows are numbered as they come; one in two asks for another read of its hash.
            let (mut next, mut reads) = (0, Vec::new());
            let mut model: Vec<(u64, usize, i64)> = Vec::new();
            for act in acts {
                match act {
                    Act::Rows(input, hashes) => {
                        let first = next;
                        for hash in &hashes {
                            if !waiting.is_held(*hash) || next % 2 == 0 {
                                waiting.asked(*hash);
                                reads.push(*hash);
                            }
                            waiting.hold(*hash);
                            model.push((*hash, input, next));
                            next += 1;
                        }
                        waiting.push(input, batch((first..next).collect()), &hashes);
                    }
                    Act::Answer(index) if !reads.is_empty() => {
                        let hash = reads.swap_remove(index.index(reads.len()));
                        waiting.answered(hash);
                        let still: BTreeSet<u64> = reads.iter().copied().collect();
                        let (goes, stays): (Vec<_>, Vec<_>) =
                            model.into_iter().partition(|(hash, _, _)| !still.contains(hash));
                        model = stays;
                        let taken = waiting.take_ready().expect("rows");
                        let taken: Vec<(usize, i64)> = taken
                            .iter()
                            .flat_map(|(input, batch)| numbers(batch).into_iter().map(|n| (*input, n)))
                            .collect();
                        let expected: Vec<(usize, i64)> =
                            goes.into_iter().map(|(_, input, number)| (input, number)).collect();
                        prop_assert_eq!(taken, expected);
                    }
                    Act::Answer(_) => {}
                }
                prop_assert_eq!(waiting.is_empty(), model.is_empty());
                prop_assert!(waiting.rows() >= model.len());
            }
            for hash in reads {
                waiting.answered(hash);
            }
            let rest = waiting.take_ready().expect("rows");
            let rest = rest.iter().map(|(_, batch)| batch.num_rows()).sum::<usize>();
            prop_assert_eq!(rest, model.len());
            prop_assert_eq!((waiting.rows(), waiting.is_empty()), (0, true));
        }
    }
}
