//! Key groups: the unit of state ownership, the top bits of the 64-bit key hash.

use serde::{Deserialize, Serialize};

/// One key group of a job.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyGroup(pub u16);

/// How many key groups a job has: a power of two, 1 to 32,768, fixed at its creation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(into = "u32", try_from = "u32")]
pub struct KeyGroupCount {
    bits: u8,
}

impl From<KeyGroupCount> for u32 {
    fn from(count: KeyGroupCount) -> u32 {
        count.count()
    }
}

impl TryFrom<u32> for KeyGroupCount {
    type Error = String;

    fn try_from(count: u32) -> Result<Self, String> {
        let not = || format!("{count} key groups are not a power of two up to 32768");
        KeyGroupCount::new(count).ok_or_else(not)
    }
}

impl KeyGroupCount {
    /// 256, the default.
    pub const DEFAULT: KeyGroupCount = KeyGroupCount { bits: 8 };

    /// `None` unless `count` is a power of two within the limits.
    #[must_use]
    pub fn new(count: u32) -> Option<Self> {
        let valid = count.is_power_of_two() && count <= 32_768;
        valid.then(|| KeyGroupCount {
            bits: count.trailing_zeros() as u8,
        })
    }

    /// The number of key groups.
    #[must_use]
    pub const fn count(self) -> u32 {
        1 << self.bits
    }

    /// The key group of a key by its hash.
    #[inline]
    #[must_use]
    pub fn of_hash(self, hash: u64) -> KeyGroup {
        // Two shifts, because a shift by 64 (one key group) overflows.
        KeyGroup((hash >> 1 >> (63 - self.bits)) as u16)
    }

    /// All key groups.
    pub fn iter(self) -> impl Iterator<Item = KeyGroup> {
        (0..self.count()).map(|group| KeyGroup(group as u16))
    }

    /// The range that part `index` of `parts` owns. Ranges differ in size by at most one and
    /// cover all key groups in order.
    #[must_use]
    pub fn range(self, index: u32, parts: u32) -> KeyGroupRange {
        let count = u64::from(self.count());
        let bound = |i: u32| (count * u64::from(i) / u64::from(parts)) as u32;
        KeyGroupRange {
            start: bound(index),
            end: bound(index + 1),
        }
    }

    /// The part that owns a key group: the inverse of [`KeyGroupCount::range`].
    #[inline]
    #[must_use]
    pub fn part_of(self, group: KeyGroup, parts: u32) -> u32 {
        let count = u64::from(self.count());
        (((u64::from(group.0) + 1) * u64::from(parts) - 1) / count) as u32
    }
}

/// Key groups `start..end`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyGroupRange {
    /// First key group.
    pub start: u32,
    /// One past the last.
    pub end: u32,
}

impl KeyGroupRange {
    /// Whether the range owns `group`.
    #[must_use]
    pub fn contains(self, group: KeyGroup) -> bool {
        (self.start..self.end).contains(&u32::from(group.0))
    }

    /// Number of key groups.
    #[must_use]
    pub fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether it owns none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Its key groups, in order.
    pub fn iter(self) -> impl Iterator<Item = KeyGroup> {
        (self.start..self.end).map(|group| KeyGroup(group as u16))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_ranges_are_inverse() {
        for count in [1, 2, 8, 256] {
            let groups = KeyGroupCount::new(count).expect("a power of two");
            for parts in 1..=count {
                for part in 0..parts {
                    for group in groups.range(part, parts).iter() {
                        assert_eq!(groups.part_of(group, parts), part, "{count} {parts}");
                    }
                }
            }
        }
    }

    #[test]
    fn group_is_the_top_bits() {
        assert_eq!(KeyGroupCount::DEFAULT.of_hash(u64::MAX), KeyGroup(255));
        assert_eq!(
            KeyGroupCount::new(1).expect("one").of_hash(u64::MAX),
            KeyGroup(0)
        );
        assert!(KeyGroupCount::new(3).is_none());
        assert!(KeyGroupCount::new(65_536).is_none());
        let json = serde_json::to_string(&KeyGroupCount::DEFAULT).expect("json");
        assert_eq!(json, "256");
        assert!(serde_json::from_str::<KeyGroupCount>("3").is_err());
    }
}
