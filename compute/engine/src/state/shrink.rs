//! Makes columns shorter again of which most is free.
//!
//! When less than a quarter of the slots hold keys, the columns are to be cut to twice as many as do. Keys in what
//! is cut off move into free slots below, some at a time, and slots that become free there are not used again;
//! when no key is left there, all columns are cut at once. Another time comes when half of the keys have gone since,
//! so no more keys move than come or go.

use super::index::{KeyIndex, NO_SLOT, table_hash};

/// Columns of fewer slots stay.
const SLOTS_MIN: usize = 4096;
/// They are cut when fewer than one in so many slots holds a key.
const SPARSE_PART: usize = 4;
/// A table with room for so many keys of a key group does not get smaller when they go.
const TABLE_MIN: usize = 32;
/// For each key that may move, so many slots are looked at.
const LOOKS_PER_MOVE: usize = 64;

/// Columns on their way to be cut.
#[derive(Debug)]
pub(super) struct Shrinking {
    /// Slots that stay; [`NO_SLOT`]: all of them.
    stay: u32,
    /// Slots from here on hold no keys.
    end: usize,
    /// As long as columns were when it began.
    slots: usize,
    slots_min: usize,
}

impl Default for Shrinking {
    fn default() -> Self {
        Shrinking {
            stay: NO_SLOT,
            end: 0,
            slots: 0,
            slots_min: SLOTS_MIN,
        }
    }
}

impl Shrinking {
    /// Whether a slot is used again when it is free.
    #[inline]
    pub(super) fn keeps(&self, slot: u32) -> bool {
        slot < self.stay
    }
}

impl KeyIndex {
    /// Columns of fewer slots are made shorter.
    #[cfg(test)]
    pub(super) fn shrink_from(&mut self, slots_min: usize) {
        self.shrinking.slots_min = slots_min;
    }

    /// Goes on making columns shorter, if most of them is free. Up to `most` keys move; `moved` is told from
    /// which slot to which. What is returned is how long columns are from now on, if they are cut.
    pub(super) fn shrink(&mut self, most: usize, mut moved: impl FnMut(u32, u32)) -> Option<usize> {
        // Slots that are still to be freed are found by nothing, and cannot move.
        if self.has_leaving() || !self.begin_shrinking() {
            return None;
        }
        let stay = self.shrinking.stay as usize;
        let (mut moves, mut looks) = (most, most.saturating_mul(LOOKS_PER_MOVE));
        while self.shrinking.end > stay && moves > 0 && looks > 0 {
            looks -= 1;
            let slot = (self.shrinking.end - 1) as u32;
            if self.recency.is_used(slot) {
                let Some(to) = self.free.pop() else {
                    self.stop_shrinking();
                    return None;
                };
                self.move_key(slot, to);
                moved(slot, to);
                moves -= 1;
            }
            self.shrinking.end -= 1;
        }
        if self.shrinking.end > stay {
            return None;
        }
        self.cut(stay);
        Some(stay)
    }

    /// Whether it is under way; begins if most slots are free.
    fn begin_shrinking(&mut self) -> bool {
        let slots = self.slots();
        if self.shrinking.stay != NO_SLOT {
            if slots == self.shrinking.slots {
                return true;
            }
            // So many keys have come that there is no room for them below.
            self.stop_shrinking();
        }
        if slots < self.shrinking.slots_min || self.live * SPARSE_PART >= slots {
            return false;
        }
        let stay = (2 * self.live).max(self.shrinking.slots_min / SPARSE_PART);
        self.shrinking.stay = stay as u32;
        self.shrinking.end = slots;
        self.shrinking.slots = slots;
        self.find_free(stay);
        true
    }

    /// All slots stay.
    fn stop_shrinking(&mut self) {
        self.shrinking.stay = NO_SLOT;
        self.find_free(self.slots());
    }

    /// Finds slots that are free anew, below `slots`; the lowest is used first.
    fn find_free(&mut self, slots: usize) {
        let recency = &self.recency;
        let free = (0..slots as u32)
            .rev()
            .filter(|slot| !recency.is_used(*slot));
        self.free = free.collect();
    }

    /// A key has gone: the table of its key group gets smaller if most of it is free.
    pub(super) fn shrink_table(&mut self, group: usize) {
        let (hashes, table) = (&self.hashes, &mut self.groups[group].slots);
        let least = (2 * table.len()).max(TABLE_MIN);
        if table.capacity() > 2 * least {
            table.shrink_to(least, |slot| table_hash(hashes[*slot as usize]));
        }
    }

    /// A slot is free.
    pub(super) fn give_back(&mut self, slot: u32) {
        if self.shrinking.keeps(slot) {
            self.free.push(slot);
        }
    }

    /// A key is in another slot from now on, which was free.
    fn move_key(&mut self, from: u32, to: u32) {
        let hash = self.hash(from);
        let group = self.group_of(hash);
        let table = &mut self.groups[group].slots;
        let found = table.find_mut(table_hash(hash), |slot| *slot == from);
        *found.expect("a slot that is used is found by its key") = to;
        self.hashes[to as usize] = hash;
        self.keys.relocate(from, to);
        self.recency.relocate(from, to);
    }

    fn cut(&mut self, slots: usize) {
        self.shrinking.stay = NO_SLOT;
        self.hashes.truncate(slots);
        self.hashes.shrink_to_fit();
        self.keys.truncate(slots);
        self.recency.truncate(slots);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
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

    use super::*;
    use crate::{
        key::{KeyBatch, KeyEncoder},
        operator::TaskScope,
        spill::Evicted,
        state::{MapTable, Stamped, StateDelta, TimeDomain, Ttl, Values},
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
        /// The frozen epoch is taken, and committed.
        Take,
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
            2 => (1..40_usize).prop_map(Step::Evict),
            6 => (0..9_usize).prop_map(Step::Shrink),
            1 => Just(Step::Expire),
        ];
        prop::collection::vec(step, 1..120)
    }

    struct Harness {
        table: MapTable<Stamped<Cells>>,
        encoder: KeyEncoder,
        is_text: bool,
        rows: BTreeMap<i64, u8>,
        /// By identity, what is committed.
        stored: BTreeMap<Vec<u8>, Vec<u8>>,
        epoch: Epoch,
        is_frozen: bool,
        now: i64,
        /// Keys that have come or gone.
        changes: usize,
    }

    impl Harness {
        fn new(is_text: bool, slots_min: usize) -> Harness {
            let data_type = match is_text {
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
            table.index_mut().shrink_from(slots_min);
            Harness {
                table,
                encoder,
                is_text,
                rows: BTreeMap::new(),
                stored: BTreeMap::new(),
                epoch: Epoch(1),
                is_frozen: false,
                now: 1,
                changes: 0,
            }
        }

        fn key(&self, key: i64) -> KeyBatch {
            let array: ArrayRef = match self.is_text {
                true => Arc::new(StringArray::from(vec![format!("{key}").repeat(3)])),
                false => Arc::new(Int64Array::from(vec![key])),
            };
            self.encoder.encode_arrays(&[array], 1).expect("a key")
        }

        fn slot(&self, key: i64) -> u32 {
            let key = self.key(key);
            self.table.index().find_row(&key.keys, 0, key.hashes[0])
        }

        /// What the store has of a key that is not in memory.
        fn stored(&self, key: i64) -> Option<(Vec<u8>, Vec<u8>)> {
            let key = self.key(key);
            let mut index = KeyIndex::new(
                self.encoder.width(),
                KeyGroupCount::new(1).expect("a power of two"),
                &KeyGroupSet::all(KeyGroupCount::new(1).expect("a power of two")),
                false,
            );
            let slot = index.find_or_insert_row(&key.keys, 0, key.hashes[0], &mut |_| ());
            let mut identity = Vec::new();
            index.write_identity(slot, &mut identity);
            let value = self.stored.get(&identity)?.clone();
            Some((identity, value))
        }

        /// Reads a key if it may be in the store.
        fn read(&mut self, key: i64) {
            let hash = self.key(key).hashes[0];
            if !self.table.index().is_unknown(hash) {
                return;
            }
            if let Some((identity, value)) = self.stored(key) {
                let row = LoadedRow {
                    namespace: 0,
                    hash,
                    identity: identity.into(),
                    value: value.into(),
                };
                self.table.install(&row).expect("a row");
                self.changes += 1;
            }
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
            assert!(self.table.encode(usize::MAX));
            let delta = StateDelta {
                tables: self.table.take_delta().into_iter().collect(),
                ..StateDelta::default()
            };
            let key_groups = self.table.index().key_groups();
            for block in delta.into_changes(self.epoch, key_groups).blocks {
                for row in Run::open(block.run).expect("a run").iter() {
                    match row.value {
                        Some(value) => self.stored.insert(row.identity.to_vec(), value.to_vec()),
                        None => self.stored.remove(row.identity),
                    };
                }
            }
            self.table.committed(self.epoch);
            self.is_frozen = false;
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
                Step::Freeze if self.is_frozen => {}
                Step::Freeze => {
                    self.epoch = self.epoch.next();
                    self.table.freeze(self.epoch);
                    self.is_frozen = true;
                }
                Step::Encode(rows) => drop(self.table.encode(rows)),
                Step::Take if self.is_frozen => self.take(),
                Step::Take => {}
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
                        let stored = self.stored(*key).expect("in the store");
                        assert_eq!(stored.1[0], *value);
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
            is_text in any::<bool>(),
            slots_min in 4..40_usize,
            steps in steps(),
        ) {
            let mut harness = Harness::new(is_text, slots_min);
            for step in steps {
                harness.step(step);
                harness.check();
            }
            // The last epochs are what is there.
            for step in [Step::Take, Step::Freeze, Step::Take] {
                harness.step(step);
            }
            let stored: BTreeSet<Vec<u8>> = harness.stored.keys().cloned().collect();
            let keys = harness.rows.keys().map(|key| harness.stored(*key).expect("stored").0);
            prop_assert_eq!(stored, keys.collect::<BTreeSet<_>>());
        }
    }

    #[test]
    fn memory_of_keys_that_have_gone_is_given_back() {
        for is_text in [false, true] {
            let mut harness = Harness::new(is_text, SLOTS_MIN);
            let keys = 40_000;
            (0..keys).for_each(|key| harness.set(key, 1));
            harness.step(Step::Freeze);
            harness.take();
            let before = harness.table.size().bytes;
            // One in 20 stays.
            let goes = |key: &i64| key % 20 != 7;
            (0..keys).filter(goes).for_each(|key| harness.remove(key));
            harness.step(Step::Freeze);
            harness.take();
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
}
