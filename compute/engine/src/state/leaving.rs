//! Keys of key groups that left: nothing finds them from one moment to the next, however many they are,
//! and their slots are freed bit by bit.

use hashbrown::hash_table;
use proto::types::KeyGroupSet;

use super::index::KeyIndex;

/// Slots that nothing finds and that are still to be freed, by key group.
#[derive(Debug, Default)]
pub(super) struct Leaving(Vec<hash_table::IntoIter<u32>>);

impl KeyIndex {
    /// Lets go of all slots of some key groups at once; they are freed by
    /// [`KeyIndex::next_leaving`] and [`KeyIndex::free_leaving`].
    pub(super) fn let_go(&mut self, groups: &KeyGroupSet) {
        for group in groups.iter() {
            let slots = std::mem::take(&mut self.groups[usize::from(group.0)].slots);
            self.live -= slots.len();
            self.leaving.0.push(slots.into_iter());
        }
    }

    /// Whether there are slots that were let go of and are not freed.
    pub(super) fn has_leaving(&self) -> bool {
        self.leaving.0.iter().any(|slots| slots.len() > 0)
    }

    /// A slot that was let go of and is not freed.
    pub(super) fn next_leaving(&mut self) -> Option<u32> {
        loop {
            match self.leaving.0.last_mut()?.next() {
                Some(slot) => return Some(slot),
                None => drop(self.leaving.0.pop()),
            }
        }
    }

    /// Frees a slot that was let go of.
    pub(super) fn free_leaving(&mut self, slot: u32) {
        self.keys.forget(slot);
        self.recency.end(slot);
        self.give_back(slot);
    }
}
