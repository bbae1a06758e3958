//! Finds the slots of a batch's keys, in passes over all of its rows. What a pass reads lies anywhere in
//! memory, and a processor has the more such reads under way at once the less there is to do between two
//! of them (as in "staged" or group probing of hash tables: Chen and others, ICDE 2004).

use super::index::{KeyIndex, NO_SLOT, table_hash};
use crate::key::KeyBatch;

impl KeyIndex {
    /// The slot of each row's key; new keys get one. `created` gets the slots that are new, in
    /// order. `slots` is cleared first.
    pub fn find_or_insert(
        &mut self,
        batch: &KeyBatch,
        slots: &mut Vec<u32>,
        mut created: impl FnMut(u32),
    ) {
        self.likely(batch, slots);
        for (row, slot) in slots.iter_mut().enumerate() {
            if self.use_found(*slot).is_none() {
                let hash = batch.hashes[row];
                *slot = self.find_or_insert_row(&batch.keys, row, hash, &mut created);
            }
        }
    }

    /// The slot of each row's key, [`NO_SLOT`] where there is none. `slots` is cleared first.
    pub fn find(&self, batch: &KeyBatch, slots: &mut Vec<u32>) {
        self.likely(batch, slots);
        for (row, slot) in slots.iter_mut().enumerate() {
            if *slot == NO_SLOT {
                *slot = self.find_row(&batch.keys, row, batch.hashes[row]);
            }
        }
    }

    /// A slot that [`KeyIndex::likely`] has found, whose key is used; `None`: it has found none.
    #[inline]
    pub fn use_found(&mut self, found: u32) -> Option<u32> {
        if found == NO_SLOT {
            return None;
        }
        self.recency.touch(found);
        Some(found)
    }

    /// The slot of each row's key where the first that its hash leads to has it, which is nearly always;
    /// else [`NO_SLOT`], though there may be another one. `slots` is cleared first.
    pub fn likely(&self, batch: &KeyBatch, slots: &mut Vec<u32>) {
        slots.clear();
        slots.extend(batch.hashes.iter().map(|hash| {
            let table = &self.groups[self.group_of(*hash)].slots;
            let mut found = table.iter_hash(table_hash(*hash));
            found.next().copied().unwrap_or(NO_SLOT)
        }));
        self.keys.confirm(&batch.keys, slots);
    }
}

#[cfg(test)]
mod tests {
    use proto::types::{KeyGroupCount, KeyGroupSet};

    use super::*;
    use crate::{
        codec::ByteRows,
        key::{KeyWidth, Keys},
    };

    /// Keys of which all have one of two hashes.
    fn batch(numbers: &[u64]) -> KeyBatch {
        let mut keys = ByteRows::default();
        numbers.iter().for_each(|n| keys.push(&n.to_le_bytes()));
        KeyBatch {
            hashes: numbers.iter().map(|n| n % 2).collect(),
            keys: Keys::Bytes(keys),
        }
    }

    #[test]
    fn keys_of_one_hash_are_told_apart() {
        let groups = KeyGroupCount::DEFAULT;
        let all = KeyGroupSet::all(groups);
        let mut index = KeyIndex::new(KeyWidth::Bytes, groups, &all, false);
        let (mut slots, mut created) = (Vec::new(), Vec::new());
        index.find_or_insert(&batch(&[4, 6, 4, 5, 6]), &mut slots, |slot| {
            created.push(slot);
        });
        assert_eq!(
            (&slots[..], &created[..]),
            (&[0, 1, 0, 2, 1][..], &[0, 1, 2][..])
        );
        index.find(&batch(&[6, 4, 8, 7, 5]), &mut slots);
        assert_eq!(slots, [1, 0, NO_SLOT, NO_SLOT, 2]);
        index.remove(0);
        index.find(&batch(&[4, 6]), &mut slots);
        assert_eq!(slots, [NO_SLOT, 1]);
    }
}
