//! Keys of which it is known that they are neither in memory nor in the store: when they are forgotten, and what
//! must hold from then on.

use super::index::KeyIndex;

/// Keys that are known to be absent are forgotten when there are more than so many, and more than keys.
const ABSENT_MAX: usize = 1 << 16;

impl KeyIndex {
    /// Forgets what can be asked for again if there is much of it, and more than so many keys.
    pub(super) fn forget_absent_beyond(&mut self, keys: usize) {
        if self.absent.len() > ABSENT_MAX.max(keys) {
            self.forget_absent();
        }
    }

    /// What is absent can be asked for again, unless that it went is not committed. The answer must not be from
    /// before it went, nor may what a scan has from then be taken: shards hear of commits when they do.
    fn forget_absent(&mut self) {
        let (key_groups, recency) = (self.key_groups, &self.recency);
        let (groups, elsewhere) = (&mut self.groups, &mut self.elsewhere);
        let mut hydrating = self.hydrating.as_mut();
        self.absent.retain(|hash, mark| {
            let stays = recency.is_uncommitted(*mark);
            if !stays {
                let group = key_groups.of_hash(*hash);
                groups[usize::from(group.0)].evicted_as_of = recency.committed_epoch();
                elsewhere.gone(*hash);
                if let Some(hydrating) = &mut hydrating {
                    hydrating.leave_out(group, *hash);
                }
            }
            stays
        });
        if self.absent.capacity() > 4 * self.absent.len().max(ABSENT_MAX) {
            self.absent.shrink_to(2 * self.absent.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{array::Int64Array, datatypes::DataType};
    use proto::types::{Epoch, KeyGroupCount, KeyGroupSet};

    use super::*;
    use crate::key::{KeyEncoder, mix};

    /// Of which nothing is known but a key, which goes in epoch 5; 4 is committed.
    fn after_a_key_went() -> (KeyIndex, u64) {
        let encoder = KeyEncoder::new(vec![0], vec![DataType::Int64]).expect("encoder");
        let all = KeyGroupSet::all(KeyGroupCount::DEFAULT);
        let mut index = KeyIndex::new(encoder.width(), KeyGroupCount::DEFAULT, &all, true);
        let column = Arc::new(Int64Array::from(vec![1]));
        let batch = encoder.encode_arrays(&[column], 1).expect("a key");
        let mut slots = Vec::new();
        index.find_or_insert(&batch, &mut slots, |_| ());
        index.freeze(Epoch(4));
        index.committed(Epoch(4));
        index.remove(slots[0]);
        (index, batch.hashes[0])
    }

    /// Epoch 5 is committed, and more is found to be absent than can be remembered.
    fn forget_what_went(index: &mut KeyIndex) {
        index.freeze(Epoch(5));
        index.committed(Epoch(5));
        (0..=ABSENT_MAX as u64).for_each(|n| index.mark_loaded(mix(n, 3)));
        index.freeze(Epoch(6));
    }

    #[test]
    fn what_went_and_was_forgotten_is_not_read_as_of_before_it_went() {
        let (mut index, hash) = after_a_key_went();
        assert!(!index.is_unknown(hash));
        forget_what_went(&mut index);
        assert!(index.is_unknown(hash));
        assert_eq!(index.evicted_as_of(hash), Epoch(5));
    }

    #[test]
    fn what_went_before_a_scan_and_was_forgotten_during_it_is_not_taken_from_it() {
        let (mut index, hash) = after_a_key_went();
        let group = index.key_group(hash);
        assert_eq!(index.begin_hydration(group), Epoch(4));
        forget_what_went(&mut index);
        assert!(!index.may_hydrate(hash));
        index.end_hydration(group);
        assert!(index.is_unknown(hash), "it is asked for again");
    }
}
