//! Where the record of a hash is. There may be many times as many as keys in memory, so an entry is
//! eight bytes, and tables are as long as they must be, not the next power of two: of the hash only the
//! upper half is known, eight bits of it by the table that the entry is in. Of two hashes with the same
//! half, the older is forgotten; that a record is another hash's, whoever reads it finds out.
//!
//! ```text
//! 24 bits of the hash · segment 10 bits · unit at which the record begins 22 bits · units 8 bits
//! ```
//! Tables are probed linearly, and closed up when an entry leaves (Knuth, The Art of Computer
//! Programming, volume 3, section 6.4, algorithm R).

use std::collections::HashMap;

use proto::types::{KeyGroupCount, KeyGroupSet};

/// Segments that can be named.
pub(super) const SEGMENTS_MAX: usize = 1 << SEGMENT_BITS;
/// Units that a segment may have.
pub(super) const SEGMENT_UNITS_MAX: u32 = 1 << AT_BITS;

const SEGMENT_BITS: u32 = 10;
const AT_BITS: u32 = 22;
const UNITS_BITS: u32 = 8;
const TAG_BITS: u32 = 24;
const TAGS_MASK: u64 = (1 << TAG_BITS) - 1;
const TAG_FACTOR: u64 = 0x0037_79b1;
const TAG_INVERSE: u64 = 0x008b_2f51;
/// Records of as many units or more have their length beside the table.
const UNITS_LONG: u16 = (1 << UNITS_BITS) - 1;
const TABLES: usize = 256;
/// A table has at least so many places; is grown when more than 16 of 20 are taken, to 13 of 20; and
/// shrunk to that when fewer than 5 of 20 are.
const PLACES_MIN: usize = 16;

/// Place of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    /// Index of its segment.
    pub(super) segment: u16,
    /// Length in units, at least one.
    pub(super) units: u16,
    /// Unit at which it begins.
    pub(super) at: u32,
}

/// Places by hash.
#[derive(Debug, Default)]
pub(super) struct SpillIndex {
    /// By the upper eight bits; none before the first entry.
    tables: Vec<Table>,
    len: usize,
    /// Units of long records, by segment and place.
    long: HashMap<(u16, u32), u16>,
}

/// Entries; 0 where there is none.
#[derive(Debug, Default)]
struct Table {
    entries: Vec<u64>,
    len: usize,
}

fn table_of(hash: u64) -> usize {
    (hash >> 56) as usize
}

/// Tasks with few key groups have few of the values that the upper bits of a tag could have, so these are
/// mixed with the lower ones; by an odd number, which has an inverse.
fn tag_of(hash: u64) -> u64 {
    ((hash >> 32) * TAG_FACTOR) & TAGS_MASK
}

/// Of the hash's upper half, what a tag is of.
fn untagged(tag: u64) -> u64 {
    (tag * TAG_INVERSE) & TAGS_MASK
}

/// What an entry says of the hash.
fn tag(entry: u64) -> u64 {
    entry >> (64 - TAG_BITS)
}

impl SpillIndex {
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Notes a place; the one that it takes the place of.
    pub(super) fn insert(&mut self, hash: u64, place: Place) -> Option<Place> {
        debug_assert!(usize::from(place.segment) < SEGMENTS_MAX && place.at < SEGMENT_UNITS_MAX);
        if self.tables.is_empty() {
            self.tables.resize_with(TABLES, Table::default);
        }
        let before = self.tables[table_of(hash)].insert(pack(tag_of(hash), place));
        let before = before.map(|entry| self.forget_place(entry));
        if place.units >= UNITS_LONG {
            self.long.insert((place.segment, place.at), place.units);
        }
        self.len += usize::from(before.is_none());
        before
    }

    /// Forgets a hash; where it was.
    pub(super) fn remove(&mut self, hash: u64) -> Option<Place> {
        let table = self.tables.get_mut(table_of(hash))?;
        let entry = table.remove(tag_of(hash))?;
        self.len -= 1;
        Some(self.forget_place(entry))
    }

    /// Whether the record of a hash is at this place.
    pub(super) fn is_at(&self, hash: u64, place: Place) -> bool {
        let table = self.tables.get(table_of(hash));
        let found = table.and_then(|table| Some(table.entries[table.find(tag_of(hash))?]));
        found.is_some_and(|entry| self.place(entry) == place)
    }

    /// Forgets the hashes of some key groups; calls with each place.
    pub(super) fn forget_groups(
        &mut self,
        key_groups: KeyGroupCount,
        left: &KeyGroupSet,
        mut forgotten: impl FnMut(Place),
    ) {
        // The group is in the upper bits.
        let leaves = |table: usize, entry: u64| {
            let half = (table as u64) << TAG_BITS | untagged(tag(entry));
            left.contains(key_groups.of_hash(half << 32))
        };
        for entry in self.retain(|table, entry| !leaves(table, entry)) {
            forgotten(self.forget_place(entry));
        }
    }

    /// Forgets all places in a segment.
    pub(super) fn forget_segment(&mut self, segment: u16) {
        let gone = self.retain(|_, entry| segment_of(entry) != segment);
        drop(gone);
        self.long.retain(|(of, _), _| *of != segment);
    }

    pub(super) fn clear(&mut self) {
        *self = SpillIndex::default();
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        let entries: usize = self
            .tables
            .iter()
            .map(|table| table.entries.capacity())
            .sum();
        entries * size_of::<u64>() + self.long.capacity() * 16 + self.tables.capacity() * 32
    }

    /// Keeps entries; those that went.
    fn retain(&mut self, keeps: impl Fn(usize, u64) -> bool) -> Vec<u64> {
        let mut gone = Vec::new();
        for (number, table) in self.tables.iter_mut().enumerate() {
            let before = gone.len();
            let there = table.entries.iter().copied().filter(|entry| *entry != 0);
            let (stay, go): (Vec<u64>, Vec<u64>) = there.partition(|entry| keeps(number, *entry));
            gone.extend(go);
            if gone.len() > before {
                table.rebuild(&stay);
            }
        }
        self.len -= gone.len();
        gone
    }

    fn place(&self, entry: u64) -> Place {
        let (segment, at) = (segment_of(entry), at_of(entry));
        let units = match (entry & u64::from(UNITS_LONG)) as u16 {
            UNITS_LONG => self.long.get(&(segment, at)).copied(),
            units => Some(units),
        };
        Place {
            segment,
            units: units.unwrap_or(UNITS_LONG),
            at,
        }
    }

    /// The place of an entry that has left.
    fn forget_place(&mut self, entry: u64) -> Place {
        let place = self.place(entry);
        if place.units >= UNITS_LONG {
            self.long.remove(&(place.segment, place.at));
        }
        place
    }
}

fn pack(tag: u64, place: Place) -> u64 {
    let units = place.units.clamp(1, UNITS_LONG);
    tag << (64 - TAG_BITS)
        | u64::from(place.segment) << (AT_BITS + UNITS_BITS)
        | u64::from(place.at) << UNITS_BITS
        | u64::from(units)
}

fn segment_of(entry: u64) -> u16 {
    ((entry >> (AT_BITS + UNITS_BITS)) & (SEGMENTS_MAX as u64 - 1)) as u16
}

fn at_of(entry: u64) -> u32 {
    ((entry >> UNITS_BITS) & (u64::from(SEGMENT_UNITS_MAX) - 1)) as u32
}

impl Table {
    /// Where an entry would best be: tables are in the order of tags, nearly.
    #[inline]
    fn home(&self, tag: u64) -> usize {
        ((tag * self.entries.len() as u64) >> TAG_BITS) as usize
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 == self.entries.len() {
            0
        } else {
            at + 1
        }
    }

    fn find(&self, wanted: u64) -> Option<usize> {
        if self.len == 0 {
            return None;
        }
        let mut at = self.home(wanted);
        loop {
            match self.entries[at] {
                0 => return None,
                entry if tag(entry) == wanted => return Some(at),
                _ => at = self.after(at),
            }
        }
    }

    fn insert(&mut self, entry: u64) -> Option<u64> {
        if let Some(at) = self.find(tag(entry)) {
            return Some(std::mem::replace(&mut self.entries[at], entry));
        }
        if (self.len + 1) * 20 > self.entries.len() * 16 {
            self.resize();
        }
        self.put(entry);
        None
    }

    fn put(&mut self, entry: u64) {
        let mut at = self.home(tag(entry));
        while self.entries[at] != 0 {
            at = self.after(at);
        }
        self.entries[at] = entry;
        self.len += 1;
    }

    fn remove(&mut self, wanted: u64) -> Option<u64> {
        let mut hole = self.find(wanted)?;
        let removed = self.entries[hole];
        let places = self.entries.len();
        let distance = |from: usize, to: usize| (to + places - from) % places;
        let mut at = self.after(hole);
        while self.entries[at] != 0 {
            let home = self.home(tag(self.entries[at]));
            // What is as far from home as from the hole may go there.
            if distance(home, at) >= distance(hole, at) {
                self.entries[hole] = self.entries[at];
                hole = at;
            }
            at = self.after(at);
        }
        self.entries[hole] = 0;
        self.len -= 1;
        if places > PLACES_MIN && self.len * 20 < places * 5 {
            self.resize();
        }
        Some(removed)
    }

    fn resize(&mut self) {
        let there = std::mem::take(&mut self.entries).into_iter();
        let there: Vec<u64> = there.filter(|entry| *entry != 0).collect();
        self.rebuild(&there);
    }

    fn rebuild(&mut self, entries: &[u64]) {
        let places = ((entries.len() + 1) * 20 / 13).max(PLACES_MIN);
        self.entries = vec![0; places];
        self.len = 0;
        entries.iter().for_each(|entry| self.put(*entry));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

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
        assert_eq!(index.len(), 4);
    }

    #[test]
    fn many_entries_take_little_more_than_eight_bytes_each_and_none_when_they_are_gone() {
        let mut index = SpillIndex::default();
        let hash = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for n in 0..100_000 {
            index.insert(hash(n), place(n as u32));
        }
        let bytes = index.memory() as f64 / index.len() as f64;
        assert!((8.0..14.0).contains(&bytes), "{bytes}");
        assert!((0..100_000).all(|n| index.remove(hash(n)).is_some()));
        assert!(index.is_empty() && index.memory() < 64 << 10);
    }

    #[test]
    fn tags_can_be_undone_and_neighbours_are_far_apart() {
        for half in [0, 1, 77, 0xff_ffff, 0xab_cdef] {
            assert_eq!(untagged(tag_of(half << 32)), half);
        }
        let mut table = Table::default();
        assert!((0..10_000).all(|half| table.insert(pack(tag_of(half << 32), place(0))).is_none()));
        let far = |at: &usize| {
            let home = table.home(tag(table.entries[*at]));
            (at + table.entries.len() - home) % table.entries.len() > 64
        };
        let taken = (0..table.entries.len()).filter(|at| table.entries[*at] != 0);
        assert_eq!(taken.filter(far).count(), 0);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u64, Place),
        Remove(u64),
        ForgetSegment(u16),
        ForgetGroup(u16),
    }

    fn steps() -> impl Strategy<Value = Step> {
        // Few tables and tags, near each other and at the end of a table.
        let hash = (0..2_u64, prop_oneof![0..40_u64, 0xff_fff0..0x100_0000_u64])
            .prop_map(|(table, tag)| table << 63 | tag << 32);
        let units = prop_oneof![1..4_u16, 250..260_u16, Just(u16::MAX)];
        let place = (0..3_u16, units, 0..1_000_u32);
        let place = place.prop_map(|(segment, units, at)| Place { segment, units, at });
        prop_oneof![
            8 => (hash.clone(), place).prop_map(|(hash, place)| Step::Insert(hash, place)),
            6 => hash.prop_map(Step::Remove),
            1 => (0..3_u16).prop_map(Step::ForgetSegment),
            1 => (0..2_u16).prop_map(Step::ForgetGroup),
        ]
    }

    proptest! {
        /// Against a map. No two records begin at one place, as in files.
        #[test]
        fn it_knows_what_a_map_knows(steps in prop::collection::vec(steps(), 1..300)) {
            let key_groups = KeyGroupCount::new(2).expect("a power of two");
            let (mut index, mut model) = (SpillIndex::default(), BTreeMap::new());
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Insert(hash, place) => {
                        let at = number as u32 * 1_000 + place.at;
                        let place = Place { at, ..place };
                        prop_assert_eq!(index.insert(hash, place), model.insert(hash, place));
                    }
                    Step::Remove(hash) => prop_assert_eq!(index.remove(hash), model.remove(&hash)),
                    Step::ForgetSegment(segment) => {
                        index.forget_segment(segment);
                        model.retain(|_, place| place.segment != segment);
                    }
                    Step::ForgetGroup(group) => {
                        let left: KeyGroupSet = key_groups.iter().filter(|g| g.0 == group).collect();
                        let mut gone = 0;
                        index.forget_groups(key_groups, &left, |_| gone += 1);
                        let before = model.len();
                        model.retain(|hash, _| !left.contains(key_groups.of_hash(*hash)));
                        prop_assert_eq!(gone, before - model.len());
                    }
                }
                prop_assert_eq!(index.len(), model.len());
                for (hash, place) in &model {
                    prop_assert!(index.is_at(*hash, *place));
                }
            }
        }
    }
}
