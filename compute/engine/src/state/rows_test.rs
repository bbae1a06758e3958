//! A table of one value per key through all that moves its rows: from slot to slot, out of memory and back, and
//! back to what they were.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque},
    ops::Range,
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, Int64Array, StringArray},
    datatypes::DataType,
};
use proptest::prelude::*;
use proto::types::{Epoch, KeyGroupCount, KeyGroupSet, TableId};
use state_client::{LoadedRow, page::Run};

use super::{
    KeyIndex, MapTable, NO_SLOT, Stamped, StateDelta, TimeDomain, Ttl, Values, shrink::SLOTS_MIN,
    undo::UndoLog,
};
use crate::{
    key::{KeyBatch, KeyEncoder},
    operator::TaskScope,
    spill::Evicted,
};

const TTL_MS: u64 = 1_000;

/// A byte per key, and how many have moved.
#[derive(Default)]
struct Cells {
    cells: Vec<u8>,
    moves: usize,
}

impl Values for Cells {
    fn reserve(&mut self, slots: usize) {
        self.cells.resize(slots.max(self.cells.len()), 0);
    }

    fn reset(&mut self, slot: u32) {
        self.cells[slot as usize] = 0;
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        out.push(self.cells[slot as usize]);
    }

    fn decode(&mut self, slot: u32, bytes: &[u8]) -> Result<(), String> {
        self.cells[slot as usize] = *bytes.first().ok_or("no byte")?;
        Ok(())
    }

    fn relocate(&mut self, from: u32, to: u32) {
        assert_eq!(self.cells[to as usize], 0, "the slot is not free");
        self.cells[to as usize] = std::mem::take(&mut self.cells[from as usize]);
        self.moves += 1;
    }

    fn truncate(&mut self, slots: usize) {
        assert!(self.cells[slots..].iter().all(|cell| *cell == 0));
        self.cells.truncate(slots);
    }

    fn memory(&self) -> usize {
        self.cells.len()
    }

    fn free_memory(&self, free_slots: usize) -> usize {
        free_slots
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Keys get a value above 0.
    Set(Range<i64>, u8),
    Remove(Range<i64>),
    Freeze,
    Encode(usize),
    /// The frozen epoch is taken.
    Take,
    /// The oldest epoch that was taken is committed.
    Commit,
    /// Nothing has been since the last commit.
    RollBack,
    Evict(usize),
    Shrink(usize),
    /// So much time passes that all in memory expires.
    Expire,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let keys = || (0..60_i64, 1..30_i64).prop_map(|(start, keys)| start..start + keys);
    let step = prop_oneof![
        4 => (keys(), 1..u8::MAX).prop_map(|(keys, value)| Step::Set(keys, value)),
        4 => keys().prop_map(Step::Remove),
        2 => Just(Step::Freeze),
        1 => (0..9_usize).prop_map(Step::Encode),
        3 => Just(Step::Take),
        3 => Just(Step::Commit),
        1 => Just(Step::RollBack),
        2 => (1..40_usize).prop_map(Step::Evict),
        6 => (0..9_usize).prop_map(Step::Shrink),
        1 => Just(Step::Expire),
    ];
    prop::collection::vec(step, 1..120)
}

/// What a table is like.
#[derive(Clone, Copy, Debug)]
struct Shape {
    is_text: bool,
    /// Keys have one of a few hashes.
    few_hashes: bool,
    slots_min: usize,
    /// Bytes for what rows were.
    undo: usize,
}

const SHAPE: Shape = Shape {
    is_text: false,
    few_hashes: false,
    slots_min: SLOTS_MIN,
    undo: 0,
};

fn shapes() -> impl Strategy<Value = Shape> {
    let undo = prop_oneof![Just(0), Just(200), Just(1_000), Just(1 << 20)];
    (any::<bool>(), any::<bool>(), 4..40_usize, undo).prop_map(
        |(is_text, few_hashes, slots_min, undo)| Shape {
            is_text,
            few_hashes,
            slots_min,
            undo,
        },
    )
}

struct Harness {
    table: MapTable<Stamped<Cells>>,
    encoder: KeyEncoder,
    shape: Shape,
    rows: BTreeMap<i64, u8>,
    /// By identity, what is committed: the hash and the value.
    stored: BTreeMap<Vec<u8>, (u64, Vec<u8>)>,
    /// The same as rows, and as of which epoch.
    committed: (Epoch, BTreeMap<i64, u8>),
    epoch: Epoch,
    /// As of the epoch that is frozen.
    frozen: Option<BTreeMap<i64, u8>>,
    /// Epochs that are taken, with what they changed.
    taken: VecDeque<(Epoch, BTreeMap<i64, u8>, StateDelta)>,
    now: i64,
    /// Keys that have come or gone.
    changes: usize,
}

impl Harness {
    fn new(shape: Shape) -> Harness {
        let data_type = match shape.is_text {
            true => DataType::Utf8,
            false => DataType::Int64,
        };
        let encoder = KeyEncoder::new(vec![0], vec![data_type]).expect("an encoder");
        let key_groups = KeyGroupCount::new(2).expect("a power of two");
        let scope = TaskScope {
            index: 0,
            parallelism: 1,
            owned: KeyGroupSet::all(key_groups),
            key_groups,
            batch_rows: 7,
            restored: Epoch(1),
            came: None,
        };
        let ttl = Ttl::new(TTL_MS, TimeDomain::Processing);
        let values = Stamped::new(Cells::default(), ttl);
        let mut table = MapTable::new(TableId(1), 0, encoder.width(), &scope, false, values);
        table.index_mut().shrink_from(shape.slots_min);
        table.keep_undo_of(UndoLog::with_room(shape.undo));
        Harness {
            table,
            encoder,
            shape,
            rows: BTreeMap::new(),
            stored: BTreeMap::new(),
            committed: (Epoch(1), BTreeMap::new()),
            epoch: Epoch(1),
            frozen: None,
            taken: VecDeque::new(),
            now: 1,
            changes: 0,
        }
    }

    fn key(&self, key: i64) -> KeyBatch {
        let array: ArrayRef = match self.shape.is_text {
            true => Arc::new(StringArray::from(vec![format!("{key}").repeat(3)])),
            false => Arc::new(Int64Array::from(vec![key])),
        };
        let mut key = self.encoder.encode_arrays(&[array], 1).expect("a key");
        if self.shape.few_hashes {
            key.hashes[0] &= 0xf000_0000_0000_0000;
        }
        key
    }

    fn slot(&self, key: i64) -> u32 {
        let key = self.key(key);
        self.table.index().find_row(&key.keys, 0, key.hashes[0])
    }

    fn identity(&self, key: i64) -> Vec<u8> {
        let key = self.key(key);
        let one = KeyGroupCount::new(1).expect("a power of two");
        let mut index = KeyIndex::new(self.encoder.width(), one, &KeyGroupSet::all(one), false);
        let slot = index.find_or_insert_row(&key.keys, 0, key.hashes[0], &mut |_| ());
        let mut identity = Vec::new();
        index.write_identity(slot, &mut identity);
        identity
    }

    /// Reads a key, and all others of its hash, if it may be in the store.
    fn read(&mut self, key: i64) {
        let hash = self.key(key).hashes[0];
        if !self.table.index().is_unknown(hash) {
            return;
        }
        let before = self.table.index().len();
        for (identity, (_, value)) in self.stored.iter().filter(|(_, (of, _))| *of == hash) {
            let row = LoadedRow {
                namespace: 0,
                hash,
                identity: identity.clone().into(),
                value: value.clone().into(),
            };
            self.table.install(&row).expect("a row");
        }
        self.changes += self.table.index().len() - before;
        self.table.index_mut().mark_loaded(hash);
    }

    fn set(&mut self, key: i64, value: u8) {
        self.read(key);
        let mut slots = Vec::new();
        self.table.upsert(&self.key(key), &mut slots);
        self.table.values.cells[slots[0] as usize] = value;
        self.table.values.set_now(self.now);
        self.table.values.stamp(slots[0]);
        self.changes += usize::from(self.rows.insert(key, value).is_none());
    }

    fn remove(&mut self, key: i64) {
        self.read(key);
        let slot = self.slot(key);
        assert_eq!(slot != NO_SLOT, self.rows.remove(&key).is_some());
        if slot != NO_SLOT {
            self.table.remove(slot);
            self.changes += 1;
        }
    }

    fn take(&mut self) {
        let Some(rows) = self.frozen.take() else {
            return;
        };
        assert!(self.table.encode(usize::MAX));
        let delta = StateDelta {
            tables: self.table.take_delta().into_iter().collect(),
            ..StateDelta::default()
        };
        self.taken.push_back((self.epoch, rows, delta));
    }

    fn commit(&mut self) {
        let Some((epoch, rows, delta)) = self.taken.pop_front() else {
            return;
        };
        let key_groups = self.table.index().key_groups();
        for block in delta.into_changes(epoch, key_groups).blocks {
            for row in Run::open(block.run).expect("a run").iter() {
                let identity = row.identity.to_vec();
                match row.value {
                    Some(value) => self.stored.insert(identity, (row.hash, value.to_vec())),
                    None => self.stored.remove(&identity),
                };
            }
        }
        self.committed = (epoch, rows);
        self.table.committed(epoch);
    }

    fn roll_back(&mut self) {
        let before: BTreeSet<i64> = self.in_memory().collect();
        self.frozen = None;
        self.taken.clear();
        self.rows.clone_from(&self.committed.1);
        let mut dirty = HashSet::new();
        self.table.roll_back(self.committed.0, &mut dirty);
        self.table.forget_dirty(&dirty);
        if self.shape.undo > 100_000 {
            assert!(dirty.is_empty(), "there is room for all");
        }
        let after: BTreeSet<i64> = self.in_memory().collect();
        self.changes += before.symmetric_difference(&after).count();
    }

    fn in_memory(&self) -> impl Iterator<Item = i64> + '_ {
        (0..90).filter(|key| self.slot(*key) != NO_SLOT)
    }

    fn evict(&mut self, most: usize) {
        let old = self.table.index_mut().find_old(most);
        self.changes += old.len();
        self.table.evict(&old, &mut Evicted::dropped());
    }

    fn expire(&mut self) {
        let in_memory = |key: &i64| self.slot(*key) != NO_SLOT;
        let expected: BTreeSet<i64> = self.rows.keys().copied().filter(in_memory).collect();
        self.now += 10 * TTL_MS as i64;
        self.table.values.set_now(self.now);
        let mut due = Vec::new();
        while self.table.values.take_due(3, &mut due) {}
        let by_slot: BTreeMap<u32, i64> =
            expected.iter().map(|key| (self.slot(*key), *key)).collect();
        let key = |slot: &u32| by_slot.get(slot).copied().expect("a key that expires");
        let keys: BTreeSet<i64> = due.iter().map(key).collect();
        assert_eq!(keys.len(), due.len(), "a key expires twice");
        assert_eq!(keys, expected);
        keys.into_iter().for_each(|key| self.remove(key));
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Set(keys, value) => keys.for_each(|key| self.set(key, value)),
            Step::Remove(keys) => keys.for_each(|key| self.remove(key)),
            Step::Freeze if self.frozen.is_some() => {}
            Step::Freeze => {
                self.epoch = self.epoch.next();
                self.table.freeze(self.epoch);
                self.frozen = Some(self.rows.clone());
            }
            Step::Encode(rows) => drop(self.table.encode(rows)),
            Step::Take => self.take(),
            Step::Commit => self.commit(),
            Step::RollBack => self.roll_back(),
            Step::Evict(most) => self.evict(most),
            Step::Shrink(most) => self.table.shrink_some(most),
            Step::Expire => self.expire(),
        }
    }

    fn check(&self) {
        let mut in_memory = 0;
        for (key, value) in &self.rows {
            match self.slot(*key) {
                NO_SLOT => {
                    let hash = self.key(*key).hashes[0];
                    assert!(self.table.index().is_unknown(hash), "{key} is lost");
                    assert_eq!(self.stored[&self.identity(*key)].1[0], *value);
                }
                slot => {
                    in_memory += 1;
                    assert_eq!(self.table.values.cells[slot as usize], *value, "{key}");
                }
            }
        }
        let index = self.table.index();
        assert_eq!(index.len(), in_memory);
        assert_eq!(index.iter().count(), in_memory);
        assert!(self.table.values.moves <= self.changes);
    }
}

proptest! {
    #[test]
    fn rows_are_the_same_wherever_they_move(
        shape in shapes(),
        steps in steps(),
    ) {
        let mut harness = Harness::new(shape);
        for step in steps {
            harness.step(step);
            harness.check();
        }
        // The last epochs are what is there.
        let last = [Step::Take, Step::Freeze, Step::Take];
        last.into_iter().for_each(|step| harness.step(step));
        while !harness.taken.is_empty() {
            harness.step(Step::Commit);
        }
        let stored: BTreeSet<Vec<u8>> = harness.stored.keys().cloned().collect();
        let keys = harness.rows.keys().map(|key| harness.identity(*key));
        prop_assert_eq!(stored, keys.collect::<BTreeSet<_>>());
    }
}

#[test]
fn memory_of_keys_that_have_gone_is_given_back() {
    for is_text in [false, true] {
        let mut harness = Harness::new(Shape { is_text, ..SHAPE });
        let keys = 40_000;
        (0..keys).for_each(|key| harness.set(key, 1));
        let commits = [Step::Freeze, Step::Take, Step::Commit];
        commits.into_iter().for_each(|step| harness.step(step));
        let before = harness.table.size().bytes;
        // One in 20 stays.
        let goes = |key: &i64| key % 20 != 7;
        (0..keys).filter(goes).for_each(|key| harness.remove(key));
        let commits = [Step::Freeze, Step::Take, Step::Commit];
        commits.into_iter().for_each(|step| harness.step(step));
        for _ in 0..100 {
            harness.table.shrink_some(100);
        }
        let index = harness.table.index();
        assert_eq!((index.len(), index.slots()), (2_000, 4_000));
        let after = harness.table.size().bytes;
        assert!(after * 6 < before, "{after} of {before} bytes");
        harness.check();
    }
}
