//! Places by the upper bits of hashes, in little more than four bytes each: of an entry's hash sixteen
//! bits are stored, and eight follow from where it is.
//!
//! ```text
//! tag: 24 bits of a hash           home of a tag: tag · homes / 2^24
//! entry: lower 16 bits of the tag · place 16 bits, not 0
//! ```
//! Entries are in the order of their tags, each at its home or right behind others (linear probing in
//! order; Amble and Knuth, Ordered hash tables, 1974), and never so far from it that a tag with other upper
//! bits could be there instead. Nothing is taken out. A table is made longer an eighth at a time.

/// What a tag may be.
pub(super) const TAG_BITS: u32 = 24;
const LOW_BITS: u32 = 16;
const LOW_MASK: u64 = (1 << LOW_BITS) - 1;
/// Tables have at least so many homes, and so many for each entry at most.
const HOMES_MIN: usize = 512;
const HOMES_PER_ENTRY_MAX: usize = 4;

/// Places by tag.
#[derive(Debug, Default)]
pub(super) struct PlaceTable {
    /// 0 where there is none; longer than `homes` by what the last entries may be away from theirs.
    entries: Vec<u32>,
    homes: usize,
    len: usize,
}

/// A tag and a place that a table has no room for, however long it is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Crowded;

fn pack(tag: u64, place: u16) -> u32 {
    ((tag & LOW_MASK) as u32) << 16 | u32::from(place)
}

fn place_of(entry: u32) -> u16 {
    entry as u16
}

/// Where an entry would best be.
#[inline]
fn home(tag: u64, homes: usize) -> usize {
    ((tag * homes as u64) >> TAG_BITS) as usize
}

/// One past the last position at which an entry can be told from those with other upper bits.
#[inline]
fn end(tag: u64, homes: usize) -> usize {
    home(tag + (1 << LOW_BITS), homes)
}

/// Positions of a table with so many homes.
fn positions(homes: usize) -> usize {
    homes + (homes >> (TAG_BITS - LOW_BITS)) + 1
}

impl PlaceTable {
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Tags.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Entries that it has, free ones among them.
    pub(super) fn room(&self) -> usize {
        self.entries.len()
    }

    /// The place of a tag.
    #[inline]
    pub(super) fn get(&self, tag: u64) -> Option<u16> {
        self.find(tag).map(|at| place_of(self.entries[at]))
    }

    /// Changes the place of a tag, if it has one; what it was.
    pub(super) fn replace(&mut self, tag: u64, place: u16) -> Option<u16> {
        let at = self.find(tag)?;
        let before = std::mem::replace(&mut self.entries[at], pack(tag, place));
        Some(place_of(before))
    }

    /// Adds a tag, unless it is there.
    ///
    /// # Errors
    /// When it is too far from its home in any table of a sensible length.
    pub(super) fn insert(&mut self, tag: u64, place: u16) -> Result<(), Crowded> {
        debug_assert!(tag >> TAG_BITS == 0 && place != 0);
        if self.find(tag).is_some() {
            return Ok(());
        }
        if (self.len + 1) * 10 > self.homes * 9 {
            self.grow((self.len + 1) * 10 / 8)?;
        }
        while !self.put(tag, place) {
            self.grow(self.homes + self.homes / 8)?;
        }
        self.len += 1;
        Ok(())
    }

    /// Calls with each place, to change it.
    pub(super) fn change(&mut self, mut act: impl FnMut(u16) -> u16) {
        for entry in self.entries.iter_mut().filter(|entry| **entry != 0) {
            let place = act(place_of(*entry));
            *entry = *entry & !u32::from(u16::MAX) | u32::from(place);
        }
    }

    /// All places.
    pub(super) fn places(&self) -> impl Iterator<Item = u16> + '_ {
        let there = self.entries.iter().filter(|entry| **entry != 0);
        there.map(|entry| place_of(*entry))
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        self.entries.capacity() * size_of::<u32>()
    }

    #[inline]
    fn find(&self, tag: u64) -> Option<usize> {
        let low = pack(tag, 0);
        let (start, end) = (home(tag, self.homes), end(tag, self.homes));
        let near = self.entries.get(start..end)?;
        for (at, entry) in near.iter().enumerate() {
            if *entry == 0 {
                return None;
            }
            if *entry & !u32::from(u16::MAX) == low {
                return Some(start + at);
            }
        }
        None
    }

    /// The tag of the entry at a position.
    fn tag(&self, at: usize) -> u64 {
        // The greatest tag with a home at or before the position; the entry's is the greatest of those
        // with its lower bits.
        let next = ((at as u64 + 1) << TAG_BITS).div_ceil(self.homes as u64);
        let greatest = next - 1;
        let low = u64::from(self.entries[at] >> 16);
        greatest - (greatest.wrapping_sub(low) & LOW_MASK)
    }

    /// Puts a tag that is not there into its place in the order; `false`: an entry would be too far from its
    /// home.
    fn put(&mut self, tag: u64, place: u16) -> bool {
        let mut at = home(tag, self.homes);
        while self.entries[at] != 0 && self.tag(at) < tag {
            at += 1;
        }
        if at >= end(tag, self.homes) {
            return false;
        }
        let mut hole = at;
        while self.entries[hole] != 0 {
            if hole + 1 >= end(self.tag(hole), self.homes) {
                return false;
            }
            hole += 1;
        }
        self.entries.copy_within(at..hole, at + 1);
        self.entries[at] = pack(tag, place);
        true
    }

    /// Makes it so long, or longer if that is too short.
    fn grow(&mut self, homes: usize) -> Result<(), Crowded> {
        let most = (self.len + 1) * HOMES_PER_ENTRY_MAX;
        let mut homes = homes.max(HOMES_MIN);
        while homes <= most.max(HOMES_MIN * 2) {
            if let Some(entries) = self.spread(homes) {
                (self.entries, self.homes) = (entries, homes);
                return Ok(());
            }
            homes += homes / 8;
        }
        Err(Crowded)
    }

    /// Its entries in a table of another length.
    fn spread(&self, homes: usize) -> Option<Vec<u32>> {
        let mut entries = vec![0; positions(homes)];
        let mut next = 0;
        for at in (0..self.entries.len()).filter(|at| self.entries[*at] != 0) {
            let tag = self.tag(at);
            next = home(tag, homes).max(next);
            if next >= end(tag, homes) {
                return None;
            }
            entries[next] = self.entries[at];
            next += 1;
        }
        Some(entries)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::key::mix;

    fn tag(n: u64) -> u64 {
        mix(n, 7) >> (u64::BITS - TAG_BITS)
    }

    #[test]
    fn an_entry_takes_five_bytes_where_there_are_many() {
        for (entries, most) in [(1_000, 9.0), (4_000, 5.6), (12_000, 5.1), (40_000, 5.1)] {
            let mut table = PlaceTable::default();
            let (mut greatest, mut sum) = (0.0_f64, 0.0);
            for n in 0..entries {
                table.insert(tag(n), 1).expect("room");
                if n >= entries / 2 {
                    let bytes = table.memory() as f64 / table.len as f64;
                    greatest = greatest.max(bytes);
                    sum += bytes / (entries - entries / 2) as f64;
                }
            }
            println!("{entries} entries: {sum:.2} bytes each, at most {greatest:.2}");
            assert!(sum < most, "{sum:.2} bytes for each of {entries}");
            assert!((0..entries).all(|n| table.get(tag(n)) == Some(1)));
        }
    }

    #[test]
    fn what_is_there_is_found_and_seldom_anything_else() {
        let mut table = PlaceTable::default();
        let count = 20_000;
        (0..count).for_each(|n| table.insert(tag(n), 1).expect("room"));
        let has = |n: &u64| table.get(tag(*n)).is_some();
        assert!((0..count).all(|n| has(&n)));
        let vain = (count..10 * count).filter(has).count();
        assert!(vain < 400, "{vain} tags are there by chance");
    }

    #[test]
    fn tags_that_are_too_near_each_other_are_refused_and_the_others_stay() {
        let mut table = PlaceTable::default();
        let refused: Vec<u64> = (0..3_000)
            .filter(|tag| table.insert(*tag, 5).is_err())
            .collect();
        assert!(!refused.is_empty(), "3,000 tags in a row have one home");
        assert!(table.memory() < 3_000 * 4 * (HOMES_PER_ENTRY_MAX + 1));
        for tag in 0..3_000 {
            assert_eq!(
                table.get(tag).is_none(),
                refused.binary_search(&tag).is_ok()
            );
        }
    }

    fn tags() -> impl Strategy<Value = u64> {
        // Near each other, with the same lower bits, at both ends, anywhere.
        prop_oneof![
            0..200_u64,
            (0..256_u64).prop_map(|high| high << LOW_BITS | 77),
            (1 << TAG_BITS) - 200..1_u64 << TAG_BITS,
            0..1_u64 << TAG_BITS,
        ]
    }

    proptest! {
        #[test]
        fn it_knows_what_a_map_knows(
            steps in prop::collection::vec((tags(), 1..u16::MAX, 0..4_u8), 1..900),
        ) {
            let (mut table, mut model) = (PlaceTable::default(), BTreeMap::new());
            for (tag, place, what) in steps {
                match what {
                    0 => prop_assert_eq!(
                        table.replace(tag, place),
                        model.get_mut(&tag).map(|before| std::mem::replace(before, place))
                    ),
                    _ => match table.insert(tag, place) {
                        Ok(()) => { model.entry(tag).or_insert(place); }
                        Err(Crowded) => prop_assert!(!model.contains_key(&tag)),
                    },
                }
                prop_assert_eq!(table.get(tag), model.get(&tag).copied());
            }
            for tag in model.keys().flat_map(|tag| [*tag, tag ^ 1, tag ^ (1 << LOW_BITS)]) {
                prop_assert_eq!(table.get(tag), model.get(&tag).copied());
            }
            table.change(|place| place / 2 + 1);
            let places: Vec<u16> = model.values().map(|place| place / 2 + 1).collect();
            prop_assert_eq!(table.places().collect::<Vec<_>>(), places);
            prop_assert_eq!(table.is_empty(), model.is_empty());
        }
    }
}
