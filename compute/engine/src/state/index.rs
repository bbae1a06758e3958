//! Finds the slot of a key, one hash index per key group, and knows which keys are in memory.
//!
//! A slot is a position that the owner's columns share. *Resident* key groups have every key in
//! memory, so a miss is a definite absence. Of others a key that is not in memory may be in the store:
//! those that were evicted or rolled back, or any where a task began with what others had stored. All
//! keys of one hash are in memory, or none.

use std::collections::HashSet;

use hashbrown::HashTable;
use proto::types::{Epoch, KeyGroup, KeyGroupCount, KeyGroupSet};

use super::{
    elsewhere::Elsewhere, hashed::HashedMap, hydrating::Hydrating, key_store::KeyStore,
    leaving::Leaving, recency::Recency, shrink::Shrinking,
};
use crate::key::{KeyWidth, Keys};

/// No slot.
pub const NO_SLOT: u32 = u32::MAX;

/// A key index over the key groups that a task owns.
#[derive(Debug)]
pub struct KeyIndex {
    pub(super) key_groups: KeyGroupCount,
    /// By key group, those of other tasks too.
    pub(super) groups: Vec<Group>,
    pub(super) keys: KeyStore,
    pub(super) hashes: Vec<u64>,
    /// Slots that hold no key and are used next, the last one first.
    pub(super) free: Vec<u32>,
    pub(super) leaving: Leaving,
    pub(super) shrinking: Shrinking,
    pub(super) live: usize,
    pub(super) recency: Recency,
    /// Hashes without keys, in memory and in the store, and the epoch in which that was found out.
    /// Only of key groups that are not resident, or might not be before that epoch is committed.
    pub(super) absent: HashedMap<u32>,
    pub(super) elsewhere: Elsewhere,
    pub(super) hydrating: Option<Hydrating>,
}

#[derive(Debug, Default)]
pub(super) struct Group {
    is_owned: bool,
    pub(super) slots: HashTable<u32>,
    /// What was evicted is in the store as of this epoch, and what was deleted and forgotten is not.
    pub(super) evicted_as_of: Epoch,
}

/// hashbrown tells entries apart by the top 7 bits and finds buckets by the low ones; within a
/// key group the top bits are all the same, so the hash is turned.
#[inline]
pub(super) fn table_hash(hash: u64) -> u64 {
    hash.rotate_left(23)
}

impl KeyIndex {
    /// An empty index. `partial`: the key groups may have state elsewhere that must be asked for.
    #[must_use]
    pub fn new(
        width: KeyWidth,
        key_groups: KeyGroupCount,
        owned: &KeyGroupSet,
        partial: bool,
    ) -> Self {
        let group = |group: KeyGroup| Group {
            is_owned: owned.contains(group),
            ..Group::default()
        };
        KeyIndex {
            key_groups,
            groups: key_groups.iter().map(group).collect(),
            keys: KeyStore::new(width),
            hashes: Vec::new(),
            free: Vec::new(),
            leaving: Leaving::default(),
            shrinking: Shrinking::default(),
            live: 0,
            recency: Recency::default(),
            absent: HashedMap::default(),
            elsewhere: Elsewhere::new(key_groups, owned, partial),
            hydrating: None,
        }
    }

    /// The key groups of the job.
    #[must_use]
    pub fn key_groups(&self) -> KeyGroupCount {
        self.key_groups
    }

    /// The key group of a hash.
    #[inline]
    #[must_use]
    pub fn key_group(&self, hash: u64) -> KeyGroup {
        self.key_groups.of_hash(hash)
    }

    /// Live keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Slots ever made: how long the owner's columns must be.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.hashes.len()
    }

    /// Whether every key is in memory.
    #[inline]
    #[must_use]
    pub fn is_resident(&self) -> bool {
        self.elsewhere.is_nothing()
    }

    /// Whether keys with this hash are of this task's key groups.
    pub(super) fn owns(&self, hash: u64) -> bool {
        self.groups[usize::from(self.key_groups.of_hash(hash).0)].is_owned
    }

    /// The hash of a slot's key.
    #[inline]
    #[must_use]
    pub fn hash(&self, slot: u32) -> u64 {
        self.hashes[slot as usize]
    }

    /// Whether keys with this hash must be read first.
    #[must_use]
    pub fn is_unknown(&self, hash: u64) -> bool {
        let in_vain = || self.absent.contains_key(&hash) || self.has(hash);
        self.elsewhere.may_have(hash, in_vain)
    }

    /// The epoch that a read of this hash must see because of what was evicted, or deleted and forgotten.
    #[must_use]
    pub fn evicted_as_of(&self, hash: u64) -> Epoch {
        self.groups[self.group_of(hash)].evicted_as_of
    }

    /// Nothing is known of keys with these hashes any more; none of them is in memory. Some may be of key
    /// groups that are another task's by now, of which nothing is to be known.
    pub fn mark_unknown(&mut self, hashes: &HashSet<u64>) {
        for hash in hashes {
            if self.owns(*hash) {
                self.absent.remove(hash);
                self.elsewhere.add(*hash);
            }
        }
    }

    /// All keys with this hash are in memory now, or do not exist.
    pub fn mark_loaded(&mut self, hash: u64) {
        self.elsewhere.loaded(hash);
        if !self.elsewhere.is_resident(hash) && !self.has(hash) {
            self.absent.insert(hash, self.recency.mark());
        }
    }

    /// A whole key group has been read.
    pub fn mark_resident(&mut self, key_group: KeyGroup) {
        self.elsewhere.narrow(key_group, std::iter::empty());
    }

    /// What it knows of keys that are not in memory.
    pub fn elsewhere(&mut self) -> &mut Elsewhere {
        &mut self.elsewhere
    }

    /// The open epoch ends: what is used from now on is used in the next one.
    pub fn freeze(&mut self, epoch: Epoch) {
        self.recency.freeze(epoch);
        self.forget_absent_beyond(self.live);
    }

    /// Epochs up to this one are committed.
    pub fn committed(&mut self, epoch: Epoch) {
        self.recency.commit(epoch);
    }

    /// Nothing but what is as it was at `restored` will be left.
    pub fn roll_back(&mut self, restored: Epoch) {
        self.recency.roll_back(restored);
        self.hydrating = None;
    }

    /// Slots of keys that were not used for long and that are as they are in the store, about `most`
    /// of them: whoever asks gives each to [`KeyIndex::evict`]. Keys of one hash are among them
    /// together.
    pub fn find_old(&mut self, most: usize) -> Vec<u32> {
        self.forget_absent_beyond(0);
        let mut old = Vec::new();
        let mut recency = std::mem::take(&mut self.recency);
        recency.find_old(most, |slot| old.push(slot));
        let mut found = Vec::with_capacity(old.len());
        for slot in old {
            let hash = self.hash(slot);
            let start = found.len();
            found.extend(self.slots_of_hash(hash));
            let together = &mut found[start..];
            together.sort_unstable();
            // The first of them stands for all.
            if together.first() != Some(&slot) || !together.iter().all(|slot| recency.is_old(*slot))
            {
                found.truncate(start);
            }
        }
        self.recency = recency;
        found
    }

    /// A key goes from memory and stays in the store.
    pub fn evict(&mut self, slot: u32) {
        let hash = self.hash(slot);
        self.forget(slot);
        self.leave_out(hash);
        self.elsewhere.add(hash);
        let group = self.group_of(hash);
        self.groups[group].evicted_as_of = self.recency.committed_epoch();
        self.shrink_table(group);
    }

    /// Whether a key with this hash is in memory.
    pub(super) fn has(&self, hash: u64) -> bool {
        self.slots_of_hash(hash).next().is_some()
    }

    pub(super) fn slots_of_hash(&self, hash: u64) -> impl Iterator<Item = u32> + '_ {
        let table = &self.groups[self.group_of(hash)].slots;
        let slots = table.iter_hash(table_hash(hash)).copied();
        slots.filter(move |slot| self.hashes[*slot as usize] == hash)
    }

    /// The slots of some key groups.
    #[must_use]
    pub fn slots_of(&self, groups: &KeyGroupSet) -> Vec<u32> {
        let slots = groups
            .iter()
            .flat_map(|group| &self.groups[usize::from(group.0)].slots);
        slots.copied().collect()
    }

    /// Key groups that left, of which no slot may be there any more, and such that came, of which
    /// nothing is known.
    pub fn reassign(&mut self, left: &KeyGroupSet, came: &KeyGroupSet) {
        for group in left.iter() {
            self.elsewhere.narrow(group, std::iter::empty());
            let group = &mut self.groups[usize::from(group.0)];
            debug_assert!(group.slots.is_empty(), "rows of a key group that left");
            *group = Group::default();
        }
        if self.hydrates().is_some_and(|group| left.contains(group)) {
            self.hydrating = None;
        }
        if !left.is_empty() {
            let key_groups = self.key_groups;
            self.absent
                .retain(|hash, _| !left.contains(key_groups.of_hash(*hash)));
        }
        for group in came.iter() {
            self.groups[usize::from(group.0)].is_owned = true;
            self.elsewhere.forget_group(group);
        }
    }

    /// The slot of one row's key; a new key gets one and `created` is called with it.
    #[inline]
    pub fn find_or_insert_row(
        &mut self,
        keys: &Keys,
        row: usize,
        hash: u64,
        created: &mut impl FnMut(u32),
    ) -> u32 {
        let group = self.group_of(hash);
        let store = &self.keys;
        let table = &mut self.groups[group].slots;
        // Equal keys have equal hashes, which would be read from somewhere else in memory.
        let same = |slot: &u32| store.equals(*slot, keys, row);
        if let Some(slot) = table.find(table_hash(hash), same) {
            self.recency.touch(*slot);
            return *slot;
        }
        let slot = match self.free.pop() {
            Some(slot) => {
                self.hashes[slot as usize] = hash;
                slot
            }
            None => {
                self.hashes.push(hash);
                (self.hashes.len() - 1) as u32
            }
        };
        self.keys.put(slot, keys, row);
        self.recency.begin(slot);
        if !self.absent.is_empty() {
            self.absent.remove(&hash);
        }
        let hashes = &self.hashes;
        table.insert_unique(table_hash(hash), slot, |slot| {
            table_hash(hashes[*slot as usize])
        });
        self.live += 1;
        created(slot);
        slot
    }

    /// The slot of one row's key, or [`NO_SLOT`].
    #[inline]
    #[must_use]
    pub fn find_row(&self, keys: &Keys, row: usize, hash: u64) -> u32 {
        let same = |slot: &u32| self.keys.equals(*slot, keys, row);
        let table = &self.groups[self.group_of(hash)].slots;
        table
            .find(table_hash(hash), same)
            .copied()
            .unwrap_or(NO_SLOT)
    }

    /// Whether a key is in the slot.
    #[must_use]
    pub fn holds(&self, slot: u32) -> bool {
        let Some(hash) = self.hashes.get(slot as usize) else {
            return false;
        };
        let table = &self.groups[self.group_of(*hash)].slots;
        table
            .find(table_hash(*hash), |other| *other == slot)
            .is_some()
    }

    /// The slot's key is used, whatever for.
    #[inline]
    pub fn touch(&mut self, slot: u32) {
        self.recency.touch(slot);
    }

    /// The slot's key does not exist any more.
    pub fn remove(&mut self, slot: u32) {
        let hash = self.hash(slot);
        self.forget(slot);
        self.leave_out(hash);
        let is_partial = !self.elsewhere.is_resident(hash);
        let others: Vec<u32> = self.slots_of_hash(hash).collect();
        // They go from memory when that it does not exist is committed: it would come back with them.
        others.iter().for_each(|slot| self.recency.touch(*slot));
        if (is_partial || self.recency.is_tracking()) && others.is_empty() {
            self.absent.insert(hash, self.recency.mark());
        }
        self.shrink_table(self.group_of(hash));
    }

    /// The slot's key is not in memory any more; whoever calls it says what is known of it.
    pub fn forget(&mut self, slot: u32) {
        let hash = self.hash(slot);
        let group = self.group_of(hash);
        let table = &mut self.groups[group].slots;
        if let Ok(entry) = table.find_entry(table_hash(hash), |other| *other == slot) {
            entry.remove();
            self.keys.forget(slot);
            self.recency.end(slot);
            self.give_back(slot);
            self.live -= 1;
        }
    }

    /// Appends the bytes that identify a slot's key among keys of one hash.
    pub fn write_identity(&self, slot: u32, out: &mut Vec<u8>) {
        self.keys.write(slot, out);
    }

    /// The key of such bytes, as a batch of one row.
    #[must_use]
    pub fn read_identity(&self, bytes: &[u8]) -> Option<Keys> {
        self.keys.read(bytes)
    }

    /// The keys of slots, for decoding back to columns.
    #[must_use]
    pub fn keys_of(&self, slots: &[u32]) -> Keys {
        self.keys.keys_of(slots)
    }

    /// Live slots, key group by key group.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.groups
            .iter()
            .flat_map(|group| group.slots.iter().copied())
    }

    /// Bytes of memory.
    #[must_use]
    pub fn memory(&self) -> usize {
        let (keys, _) = self.keys.memory(0);
        let of_group = |group: &Group| group.slots.allocation_size();
        keys + self.hashes.len() * 8
            + self.recency.memory()
            + self.free.len() * 4
            + self.absent.capacity() * 17
            + self.elsewhere.memory()
            + self.groups.iter().map(of_group).sum::<usize>()
    }

    /// Bytes of it that are free for new keys.
    #[must_use]
    pub fn free_memory(&self) -> usize {
        let free = self.slots() - self.live;
        let (_, keys) = self.keys.memory(free);
        keys + free * 12
    }

    #[inline]
    pub(super) fn group_of(&self, hash: u64) -> usize {
        let group = self.key_groups.of_hash(hash);
        let group = usize::from(group.0);
        debug_assert!(
            self.groups[group].is_owned,
            "a key of another task's key group"
        );
        group
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use arrow::{
        array::{ArrayRef, Int64Array, StringArray},
        datatypes::DataType,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::key::{KeyBatch, KeyEncoder};

    fn encoder(text: bool) -> KeyEncoder {
        let data_type = if text {
            DataType::Utf8
        } else {
            DataType::Int64
        };
        KeyEncoder::new(vec![0], vec![data_type]).expect("encoder")
    }

    fn keys(encoder: &KeyEncoder, text: bool, values: &[i64]) -> KeyBatch {
        let array: ArrayRef = if text {
            Arc::new(StringArray::from_iter_values(
                values.iter().map(|v| "k".repeat(*v as usize)),
            ))
        } else {
            Arc::new(Int64Array::from(values.to_vec()))
        };
        encoder
            .encode_arrays(&[array], values.len())
            .expect("encode")
    }

    proptest! {
        #[test]
        fn behaves_like_a_map(
            text in any::<bool>(),
            steps in prop::collection::vec((0..40_i64, any::<bool>()), 1..300),
        ) {
            let encoder = encoder(text);
            let all = KeyGroupSet::all(KeyGroupCount::DEFAULT);
            let mut index = KeyIndex::new(encoder.width(), KeyGroupCount::DEFAULT, &all, false);
            let mut model: BTreeMap<i64, u32> = BTreeMap::new();
            for (value, remove) in steps {
                let batch = keys(&encoder, text, &[value]);
                let mut slots = Vec::new();
                if remove {
                    index.find(&batch, &mut slots);
                    prop_assert_eq!(slots[0], model.remove(&value).unwrap_or(NO_SLOT));
                    if slots[0] != NO_SLOT {
                        index.remove(slots[0]);
                    }
                } else {
                    let mut created = 0;
                    index.find_or_insert(&batch, &mut slots, |_| created += 1);
                    prop_assert_eq!(created == 1, model.insert(value, slots[0]).is_none());
                }
                prop_assert_eq!(index.len(), model.len());
            }
            for (value, slot) in &model {
                let batch = keys(&encoder, text, &[*value]);
                prop_assert_eq!(index.find_row(&batch.keys, 0, batch.hashes[0]), *slot);
                let mut identity = Vec::new();
                index.write_identity(*slot, &mut identity);
                let read = index.read_identity(&identity).expect("own bytes");
                prop_assert_eq!(index.find_row(&read, 0, index.hash(*slot)), *slot);
            }
            prop_assert_eq!(index.iter().count(), model.len());
        }
    }

    #[test]
    fn what_finds_keys_gets_smaller_when_most_of_them_have_gone() {
        let encoder = encoder(false);
        let all = KeyGroupSet::all(KeyGroupCount::DEFAULT);
        let mut index = KeyIndex::new(encoder.width(), KeyGroupCount::DEFAULT, &all, false);
        let batch = keys(&encoder, false, &(0..60_000).collect::<Vec<i64>>());
        let mut slots = Vec::new();
        index.find_or_insert(&batch, &mut slots, |_| ());
        let tables = |index: &KeyIndex| -> usize {
            let sizes = index
                .groups
                .iter()
                .map(|group| group.slots.allocation_size());
            sizes.sum()
        };
        let before = tables(&index);
        slots[3_000..].iter().for_each(|slot| index.evict(*slot));
        assert!(
            tables(&index) * 4 < before,
            "{} of {before} bytes",
            tables(&index)
        );
        for (row, hash) in batch.hashes.iter().enumerate() {
            let slot = index.find_row(&batch.keys, row, *hash);
            assert_eq!(slot == NO_SLOT, row >= 3_000);
            assert_eq!(index.is_unknown(*hash), row >= 3_000);
        }
    }

    #[test]
    fn a_partial_index_knows_what_it_does_not_know() {
        let encoder = encoder(false);
        let all = KeyGroupSet::all(KeyGroupCount::DEFAULT);
        let mut index = KeyIndex::new(encoder.width(), KeyGroupCount::DEFAULT, &all, true);
        let batch = keys(&encoder, false, &[1, 2]);
        assert!(!index.is_resident());
        assert!(index.is_unknown(batch.hashes[0]));
        index.mark_loaded(batch.hashes[0]);
        assert!(!index.is_unknown(batch.hashes[0]));
        assert!(index.is_unknown(batch.hashes[1]));
        (0..256).for_each(|group| index.mark_resident(KeyGroup(group)));
        assert!(index.is_resident());
        assert!(!index.is_unknown(batch.hashes[1]));
    }
}
