//! Where the record of a hash is. Twelve bytes each, for there may be many times as many as keys in
//! memory: of the hash only the upper half is kept. Of two hashes with the same one, the older is
//! forgotten; that a record is another hash's, whoever reads it finds out.

use hashbrown::HashTable;
use proto::types::{KeyGroupCount, KeyGroupSet};

/// Fewer are not worth giving memory back.
const SHRINK_MIN: usize = 1 << 12;

/// Place of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    /// Index of its segment.
    pub(super) segment: u16,
    /// Length in units.
    pub(super) units: u16,
    /// Unit at which it begins.
    pub(super) at: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    half: u32,
    place: Place,
}

/// Places by hash.
#[derive(Debug, Default)]
pub(super) struct SpillIndex {
    entries: HashTable<Entry>,
}

fn half(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// hashbrown uses the top and the low bits.
#[inline]
fn spread(half: u32) -> u64 {
    u64::from(half).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl SpillIndex {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Notes a place; the one that it takes the place of.
    pub(super) fn insert(&mut self, hash: u64, place: Place) -> Option<Place> {
        let half = half(hash);
        let found = (self.entries).find_mut(spread(half), |entry| entry.half == half);
        if let Some(entry) = found {
            return Some(std::mem::replace(&mut entry.place, place));
        }
        let entry = Entry { half, place };
        self.entries
            .insert_unique(spread(half), entry, |entry| spread(entry.half));
        None
    }

    /// Forgets a hash; where it was.
    pub(super) fn remove(&mut self, hash: u64) -> Option<Place> {
        let half = half(hash);
        let found = (self.entries).find_entry(spread(half), |entry| entry.half == half);
        let (entry, _) = found.ok()?.remove();
        Some(entry.place)
    }

    /// Whether the record of a hash is at this place.
    pub(super) fn is_at(&self, hash: u64, place: Place) -> bool {
        let half = half(hash);
        let found = (self.entries).find(spread(half), |entry| entry.half == half);
        found.is_some_and(|entry| entry.place == place)
    }

    /// Forgets the hashes of some key groups; calls with each place.
    pub(super) fn forget_groups(
        &mut self,
        key_groups: KeyGroupCount,
        left: &KeyGroupSet,
        mut forgotten: impl FnMut(Place),
    ) {
        self.entries.retain(|entry| {
            // The group is in the upper bits.
            let leaves = left.contains(key_groups.of_hash(u64::from(entry.half) << 32));
            if leaves {
                forgotten(entry.place);
            }
            !leaves
        });
    }

    /// Forgets all places in a segment.
    pub(super) fn forget_segment(&mut self, segment: u16) {
        self.entries.retain(|entry| entry.place.segment != segment);
    }

    pub(super) fn clear(&mut self) {
        self.entries = HashTable::new();
    }

    /// Gives memory back that is not needed.
    pub(super) fn shrink(&mut self) {
        let (len, capacity) = (self.entries.len(), self.entries.capacity());
        if capacity > SHRINK_MIN && len < capacity / 4 {
            self.entries.shrink_to(len * 2, |entry| spread(entry.half));
        }
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        self.entries.allocation_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(at: u32) -> Place {
        Place {
            segment: 1,
            units: 2,
            at,
        }
    }

    #[test]
    fn of_two_hashes_with_one_upper_half_the_younger_is_known() {
        let mut index = SpillIndex::default();
        assert_eq!(index.insert(7 << 32, place(0)), None);
        assert_eq!(index.insert((7 << 32) + 1, place(5)), Some(place(0)));
        assert_eq!(index.remove(7 << 32), Some(place(5)));
        assert!(index.is_empty());
    }

    #[test]
    fn key_groups_leave() {
        let key_groups = KeyGroupCount::new(8).expect("a power of two");
        let mut index = SpillIndex::default();
        for group in 0..8_u64 {
            index.insert(group << 61, place(group as u32));
        }
        let left: KeyGroupSet = key_groups.iter().filter(|group| group.0 % 2 == 1).collect();
        let mut places = Vec::new();
        index.forget_groups(key_groups, &left, |place| places.push(place.at));
        places.sort_unstable();
        assert_eq!(places, [1, 3, 5, 7]);
        assert!(index.is_at(2 << 61, place(2)) && !index.is_at(3 << 61, place(3)));
    }

    #[test]
    fn an_entry_is_twelve_bytes() {
        assert_eq!(size_of::<Entry>(), 12);
    }
}
