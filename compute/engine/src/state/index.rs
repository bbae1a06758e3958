//! Finds the slot of a key, one hash index per key group, and knows which keys are in memory.
//!
//! A slot is a position that the owner's columns share. *Resident* key groups have every key in
//! memory, so a miss is a definite absence; of *partial* ones a miss is unknown until the key's
//! hash has been read.

use std::collections::{BTreeSet, HashSet};

use hashbrown::HashTable;
use proto::types::{KeyGroup, KeyGroupCount, KeyGroupSet};

use crate::{
    codec::ByteRows,
    key::{KeyBatch, KeyWidth, Keys},
};

/// No slot.
pub const NO_SLOT: u32 = u32::MAX;

/// A key index over the key groups that a task owns.
#[derive(Debug)]
pub struct KeyIndex {
    key_groups: KeyGroupCount,
    /// By key group, those of other tasks too.
    groups: Vec<Group>,
    keys: KeyStore,
    hashes: Vec<u64>,
    free: Vec<u32>,
    live: usize,
    /// Number of groups that are partial: the fast path asks only this.
    partial_groups: usize,
}

#[derive(Debug, Default)]
struct Group {
    is_owned: bool,
    slots: HashTable<u32>,
    /// `Some`: partial; hashes whose keys are all in memory or do not exist.
    loaded: Option<BTreeSet<u64>>,
    /// Of a group that is not partial: hashes of which nothing is known all the same.
    unknown: BTreeSet<u64>,
}

impl Group {
    /// Whether some of its keys may have to be read.
    fn is_partial(&self) -> bool {
        self.loaded.is_some() || !self.unknown.is_empty()
    }
}

#[derive(Debug)]
enum KeyStore {
    U64(Vec<u64>),
    U128(Vec<u128>),
    U192(Vec<[u64; 3]>),
    Bytes {
        spans: Vec<(usize, u32)>,
        data: Vec<u8>,
        garbage: usize,
    },
}

/// hashbrown tells entries apart by the top 7 bits and finds buckets by the low ones; within a
/// key group the top bits are all the same, so the hash is turned.
#[inline]
fn table_hash(hash: u64) -> u64 {
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
        let group = |group: KeyGroup| {
            let is_owned = owned.contains(group);
            Group {
                is_owned,
                slots: HashTable::new(),
                loaded: (is_owned && partial).then(BTreeSet::new),
                unknown: BTreeSet::new(),
            }
        };
        KeyIndex {
            key_groups,
            groups: key_groups.iter().map(group).collect(),
            keys: match width {
                KeyWidth::U64 => KeyStore::U64(Vec::new()),
                KeyWidth::U128 => KeyStore::U128(Vec::new()),
                KeyWidth::U192 => KeyStore::U192(Vec::new()),
                KeyWidth::Bytes => KeyStore::Bytes {
                    spans: Vec::new(),
                    data: Vec::new(),
                    garbage: 0,
                },
            },
            hashes: Vec::new(),
            free: Vec::new(),
            live: 0,
            partial_groups: if partial { owned.len() } else { 0 },
        }
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
        self.partial_groups == 0
    }

    /// The hash of a slot's key.
    #[inline]
    #[must_use]
    pub fn hash(&self, slot: u32) -> u64 {
        self.hashes[slot as usize]
    }

    /// Whether nothing is known of keys with this hash: they must be read first.
    #[must_use]
    pub fn is_unknown(&self, hash: u64) -> bool {
        let group = &self.groups[self.group_of(hash)];
        match &group.loaded {
            Some(loaded) => !loaded.contains(&hash),
            None => group.unknown.contains(&hash),
        }
    }

    /// Nothing is known of keys with these hashes any more; none of them is in memory.
    pub fn mark_unknown(&mut self, hashes: &HashSet<u64>) {
        for hash in hashes {
            let group = &mut self.groups[usize::from(self.key_groups.of_hash(*hash).0)];
            let was_partial = group.is_partial();
            match &mut group.loaded {
                Some(loaded) => loaded.remove(hash),
                None => group.unknown.insert(*hash),
            };
            self.partial_groups += usize::from(!was_partial);
        }
    }

    /// All keys with this hash are in memory now, or do not exist.
    pub fn mark_loaded(&mut self, hash: u64) {
        let group = self.group_of(hash);
        let group = &mut self.groups[group];
        let was_partial = group.is_partial();
        match &mut group.loaded {
            Some(loaded) => loaded.insert(hash),
            None => group.unknown.remove(&hash),
        };
        self.partial_groups -= usize::from(was_partial && !group.is_partial());
    }

    /// A whole key group has been read.
    pub fn mark_resident(&mut self, key_group: KeyGroup) {
        let group = &mut self.groups[usize::from(key_group.0)];
        self.partial_groups -= usize::from(group.is_partial());
        group.loaded = None;
        group.unknown.clear();
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
            let group = &mut self.groups[usize::from(group.0)];
            debug_assert!(group.slots.is_empty(), "rows of a key group that left");
            group.is_owned = false;
            group.slots = HashTable::new();
            self.partial_groups -= usize::from(group.is_partial());
            group.loaded = None;
            group.unknown.clear();
        }
        for group in came.iter() {
            let group = &mut self.groups[usize::from(group.0)];
            group.is_owned = true;
            group.loaded = Some(BTreeSet::new());
            self.partial_groups += 1;
        }
    }

    /// The slot of each row's key; new keys get one. `created` gets the slots that are new, in
    /// order. `slots` is cleared first.
    pub fn find_or_insert(
        &mut self,
        batch: &KeyBatch,
        slots: &mut Vec<u32>,
        mut created: impl FnMut(u32),
    ) {
        slots.clear();
        slots.reserve(batch.len());
        for (row, hash) in batch.hashes.iter().enumerate() {
            slots.push(self.find_or_insert_row(&batch.keys, row, *hash, &mut created));
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
        let (store, hashes) = (&self.keys, &self.hashes);
        let table = &mut self.groups[group].slots;
        let same = |slot: &u32| hashes[*slot as usize] == hash && store.equals(*slot, keys, row);
        if let Some(slot) = table.find(table_hash(hash), same) {
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
        let hashes = &self.hashes;
        table.insert_unique(table_hash(hash), slot, |slot| {
            table_hash(hashes[*slot as usize])
        });
        self.live += 1;
        created(slot);
        slot
    }

    /// The slot of each row's key, [`NO_SLOT`] where there is none. `slots` is cleared first.
    pub fn find(&self, batch: &KeyBatch, slots: &mut Vec<u32>) {
        slots.clear();
        slots.extend(
            batch
                .hashes
                .iter()
                .enumerate()
                .map(|(row, hash)| self.find_row(&batch.keys, row, *hash)),
        );
    }

    /// The slot of one row's key, or [`NO_SLOT`].
    #[inline]
    #[must_use]
    pub fn find_row(&self, keys: &Keys, row: usize, hash: u64) -> u32 {
        let same =
            |slot: &u32| self.hashes[*slot as usize] == hash && self.keys.equals(*slot, keys, row);
        let table = &self.groups[self.group_of(hash)].slots;
        table
            .find(table_hash(hash), same)
            .copied()
            .unwrap_or(NO_SLOT)
    }

    /// Frees a slot.
    pub fn remove(&mut self, slot: u32) {
        let hash = self.hash(slot);
        let group = self.group_of(hash);
        let table = &mut self.groups[group].slots;
        if let Ok(entry) = table.find_entry(table_hash(hash), |other| *other == slot) {
            entry.remove();
            self.keys.forget(slot);
            self.free.push(slot);
            self.live -= 1;
            self.keys.compact();
        }
    }

    /// Appends the bytes that identify a slot's key among keys of one hash.
    pub fn write_identity(&self, slot: u32, out: &mut Vec<u8>) {
        self.keys.write(slot, out);
    }

    /// The key of such bytes, as a batch of one row.
    #[must_use]
    pub fn read_identity(&self, bytes: &[u8]) -> Option<Keys> {
        let word = |at: usize| {
            bytes
                .get(at..at + 8)?
                .try_into()
                .ok()
                .map(u64::from_be_bytes)
        };
        Some(match &self.keys {
            KeyStore::U64(_) => Keys::U64(vec![word(0)?]),
            KeyStore::U128(_) => {
                Keys::U128(vec![u128::from(word(0)?) << 64 | u128::from(word(8)?)])
            }
            KeyStore::U192(_) => Keys::U192(vec![[word(0)?, word(8)?, word(16)?]]),
            KeyStore::Bytes { .. } => {
                let mut keys = ByteRows::default();
                keys.push(bytes);
                Keys::Bytes(keys)
            }
        })
    }

    /// The keys of slots, for decoding back to columns.
    #[must_use]
    pub fn keys_of(&self, slots: &[u32]) -> Keys {
        match &self.keys {
            KeyStore::U64(keys) => Keys::U64(slots.iter().map(|s| keys[*s as usize]).collect()),
            KeyStore::U128(keys) => Keys::U128(slots.iter().map(|s| keys[*s as usize]).collect()),
            KeyStore::U192(keys) => Keys::U192(slots.iter().map(|s| keys[*s as usize]).collect()),
            KeyStore::Bytes { .. } => {
                let mut rows = ByteRows::default();
                slots
                    .iter()
                    .for_each(|slot| rows.push(self.keys.bytes(*slot)));
                Keys::Bytes(rows)
            }
        }
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
        let keys = match &self.keys {
            KeyStore::U64(keys) => keys.capacity() * 8,
            KeyStore::U128(keys) => keys.capacity() * 16,
            KeyStore::U192(keys) => keys.capacity() * 24,
            KeyStore::Bytes { spans, data, .. } => spans.capacity() * 16 + data.capacity(),
        };
        let tables: usize = self
            .groups
            .iter()
            .map(|group| group.slots.capacity() * 5)
            .sum();
        let loaded = |group: &Group| {
            let loaded = group.loaded.as_ref().map_or(0, BTreeSet::len);
            (loaded + group.unknown.len()) * 16
        };
        keys + tables
            + self.hashes.capacity() * 8
            + self.free.capacity() * 4
            + self.groups.iter().map(loaded).sum::<usize>()
    }

    #[inline]
    fn group_of(&self, hash: u64) -> usize {
        let group = self.key_groups.of_hash(hash);
        let group = usize::from(group.0);
        debug_assert!(
            self.groups[group].is_owned,
            "a key of another task's key group"
        );
        group
    }
}

impl KeyStore {
    #[inline]
    fn equals(&self, slot: u32, keys: &Keys, row: usize) -> bool {
        match (self, keys) {
            (KeyStore::U64(store), Keys::U64(keys)) => store[slot as usize] == keys[row],
            (KeyStore::U128(store), Keys::U128(keys)) => store[slot as usize] == keys[row],
            (KeyStore::U192(store), Keys::U192(keys)) => store[slot as usize] == keys[row],
            (KeyStore::Bytes { .. }, Keys::Bytes(keys)) => self.bytes(slot) == keys.row(row),
            _ => false,
        }
    }

    fn put(&mut self, slot: u32, keys: &Keys, row: usize) {
        fn set<T: Copy>(store: &mut Vec<T>, slot: u32, key: T) {
            if slot as usize == store.len() {
                store.push(key);
            } else {
                store[slot as usize] = key;
            }
        }
        match (self, keys) {
            (KeyStore::U64(store), Keys::U64(keys)) => set(store, slot, keys[row]),
            (KeyStore::U128(store), Keys::U128(keys)) => set(store, slot, keys[row]),
            (KeyStore::U192(store), Keys::U192(keys)) => set(store, slot, keys[row]),
            (KeyStore::Bytes { spans, data, .. }, Keys::Bytes(keys)) => {
                let key = keys.row(row);
                set(spans, slot, (data.len(), key.len() as u32));
                data.extend_from_slice(key);
            }
            _ => unreachable!("an index is used with the keys of one encoder"),
        }
    }

    fn bytes(&self, slot: u32) -> &[u8] {
        match self {
            KeyStore::Bytes { spans, data, .. } => {
                let (start, length) = spans[slot as usize];
                &data[start..start + length as usize]
            }
            _ => &[],
        }
    }

    fn write(&self, slot: u32, out: &mut Vec<u8>) {
        match self {
            KeyStore::U64(store) => out.extend_from_slice(&store[slot as usize].to_be_bytes()),
            KeyStore::U128(store) => out.extend_from_slice(&store[slot as usize].to_be_bytes()),
            KeyStore::U192(store) => {
                store[slot as usize]
                    .iter()
                    .for_each(|w| out.extend_from_slice(&w.to_be_bytes()));
            }
            KeyStore::Bytes { .. } => out.extend_from_slice(self.bytes(slot)),
        }
    }

    fn forget(&mut self, slot: u32) {
        if let KeyStore::Bytes { spans, garbage, .. } = self {
            *garbage += spans[slot as usize].1 as usize;
            spans[slot as usize].1 = 0;
        }
    }

    /// Rewrites the bytes once half of them are garbage.
    fn compact(&mut self) {
        let KeyStore::Bytes {
            spans,
            data,
            garbage,
        } = self
        else {
            return;
        };
        if *garbage < 4096 || *garbage * 2 < data.len() {
            return;
        }
        let mut kept = Vec::with_capacity(data.len() - *garbage);
        for (start, length) in spans.iter_mut() {
            let key = &data[*start..*start + *length as usize];
            *start = kept.len();
            kept.extend_from_slice(key);
        }
        *data = kept;
        *garbage = 0;
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
    use crate::key::KeyEncoder;

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
