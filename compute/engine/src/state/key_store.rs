//! The keys of an index, by slot.

use super::{
    byte_heap::{ByteHeap, Place},
    index::NO_SLOT,
};
use crate::{
    codec::ByteRows,
    key::{KeyWidth, Keys},
};

/// Keys of one encoder.
#[derive(Debug)]
pub(super) enum KeyStore {
    U64(Vec<u64>),
    U128(Vec<u128>),
    U192(Vec<[u64; 3]>),
    Bytes { places: Vec<Place>, heap: ByteHeap },
}

impl KeyStore {
    pub(super) fn new(width: KeyWidth) -> KeyStore {
        match width {
            KeyWidth::U64 => KeyStore::U64(Vec::new()),
            KeyWidth::U128 => KeyStore::U128(Vec::new()),
            KeyWidth::U192 => KeyStore::U192(Vec::new()),
            KeyWidth::Bytes => KeyStore::Bytes {
                places: Vec::new(),
                heap: ByteHeap::default(),
            },
        }
    }

    #[inline]
    pub(super) fn equals(&self, slot: u32, keys: &Keys, row: usize) -> bool {
        match (self, keys) {
            (KeyStore::U64(store), Keys::U64(keys)) => store[slot as usize] == keys[row],
            (KeyStore::U128(store), Keys::U128(keys)) => store[slot as usize] == keys[row],
            (KeyStore::U192(store), Keys::U192(keys)) => store[slot as usize] == keys[row],
            (KeyStore::Bytes { .. }, Keys::Bytes(keys)) => self.bytes(slot) == keys.row(row),
            _ => false,
        }
    }

    /// Of slots, one for each row, leaves those that have the row's key, and [`NO_SLOT`] in place of others.
    pub(super) fn confirm(&self, keys: &Keys, slots: &mut [u32]) {
        fn fixed<T: PartialEq>(store: &[T], keys: &[T], slots: &mut [u32]) {
            for (slot, key) in slots.iter_mut().zip(keys) {
                // There is no key at NO_SLOT.
                if store.get(*slot as usize) != Some(key) {
                    *slot = NO_SLOT;
                }
            }
        }
        match (self, keys) {
            (KeyStore::U64(store), Keys::U64(keys)) => fixed(store, keys, slots),
            (KeyStore::U128(store), Keys::U128(keys)) => fixed(store, keys, slots),
            (KeyStore::U192(store), Keys::U192(keys)) => fixed(store, keys, slots),
            (KeyStore::Bytes { .. }, Keys::Bytes(keys)) => {
                for (row, slot) in slots.iter_mut().enumerate() {
                    if *slot != NO_SLOT && self.bytes(*slot) != keys.row(row) {
                        *slot = NO_SLOT;
                    }
                }
            }
            _ => slots.fill(NO_SLOT),
        }
    }

    /// Puts a key into a slot that is new or forgotten.
    pub(super) fn put(&mut self, slot: u32, keys: &Keys, row: usize) {
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
            (KeyStore::Bytes { places, heap }, Keys::Bytes(keys)) => {
                set(places, slot, heap.insert(slot, keys.row(row)));
            }
            _ => unreachable!("an index is used with the keys of one encoder"),
        }
    }

    /// The slot's key is not needed any more.
    pub(super) fn forget(&mut self, slot: u32) {
        if let KeyStore::Bytes { places, heap } = self {
            let place = places[slot as usize];
            heap.remove(place, |slot, place| places[slot as usize] = place);
        }
    }

    /// A key is in another slot from now on.
    pub(super) fn relocate(&mut self, from: u32, to: u32) {
        let (from, at) = (from as usize, to as usize);
        match self {
            KeyStore::U64(keys) => keys[at] = keys[from],
            KeyStore::U128(keys) => keys[at] = keys[from],
            KeyStore::U192(keys) => keys[at] = keys[from],
            KeyStore::Bytes { places, heap } => {
                places[at] = places[from];
                heap.set_owner(places[at], to);
            }
        }
    }

    /// Slots from `slots` on, which hold no keys, are not there any more.
    pub(super) fn truncate(&mut self, slots: usize) {
        fn cut<T>(store: &mut Vec<T>, slots: usize) {
            store.truncate(slots);
            store.shrink_to_fit();
        }
        match self {
            KeyStore::U64(keys) => cut(keys, slots),
            KeyStore::U128(keys) => cut(keys, slots),
            KeyStore::U192(keys) => cut(keys, slots),
            KeyStore::Bytes { places, .. } => cut(places, slots),
        }
    }

    /// Appends the bytes of a slot's key.
    pub(super) fn write(&self, slot: u32, out: &mut Vec<u8>) {
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

    /// The key of such bytes, as a batch of one row.
    pub(super) fn read(&self, bytes: &[u8]) -> Option<Keys> {
        let word = |at: usize| {
            let word = bytes.get(at..at + 8)?.try_into().ok();
            word.map(u64::from_be_bytes)
        };
        Some(match self {
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

    /// The keys of slots.
    pub(super) fn keys_of(&self, slots: &[u32]) -> Keys {
        let slots = slots.iter();
        match self {
            KeyStore::U64(keys) => Keys::U64(slots.map(|s| keys[*s as usize]).collect()),
            KeyStore::U128(keys) => Keys::U128(slots.map(|s| keys[*s as usize]).collect()),
            KeyStore::U192(keys) => Keys::U192(slots.map(|s| keys[*s as usize]).collect()),
            KeyStore::Bytes { .. } => {
                let mut rows = ByteRows::default();
                slots.for_each(|slot| rows.push(self.bytes(*slot)));
                Keys::Bytes(rows)
            }
        }
    }

    /// Bytes of memory, and how many of them are free for new keys when `free_slots` are.
    pub(super) fn memory(&self, free_slots: usize) -> (usize, usize) {
        let fixed = |slots: usize, width: usize| (slots * width, free_slots * width);
        match self {
            KeyStore::U64(keys) => fixed(keys.len(), 8),
            KeyStore::U128(keys) => fixed(keys.len(), 16),
            KeyStore::U192(keys) => fixed(keys.len(), 24),
            KeyStore::Bytes { places, heap } => {
                let (bytes, free) = heap.memory();
                let (places, free_places) = fixed(places.len(), size_of::<Place>());
                (bytes + places, free + free_places)
            }
        }
    }

    fn bytes(&self, slot: u32) -> &[u8] {
        match self {
            KeyStore::Bytes { places, heap } => heap.get(places[slot as usize]),
            _ => &[],
        }
    }
}
