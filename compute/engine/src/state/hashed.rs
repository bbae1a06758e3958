//! Maps by hashes of keys, which need not be hashed again, and by requests for them.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasherDefault, Hasher},
};

/// A map by the hash of a key.
pub(super) type HashedMap<V> = HashMap<u64, V, BuildHasherDefault<Mixed>>;
/// A set of what has the hash of a key in it.
pub(super) type HashedSet<T> = HashSet<T, BuildHasherDefault<Mixed>>;

/// Odd, half of its bits set.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// What is hashed is as good as random in all bits but the upper ones, which the keys of one task have in
/// common, and by which hashbrown tells entries of one bucket apart.
#[derive(Default)]
pub(super) struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes
            .iter()
            .for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(29) ^ word).wrapping_mul(FACTOR);
    }

    #[inline]
    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    #[inline]
    fn write_i64(&mut self, word: i64) {
        self.write_u64(word as u64);
    }

    #[inline]
    fn write_isize(&mut self, word: isize) {
        self.write_u64(word as u64);
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher as _, Hash};

    use proto::types::TableId;
    use state_client::KeyRequest;

    use super::*;
    use crate::key::hash_bytes;

    fn spread<T: Hash>(all: impl Iterator<Item = T>) -> (usize, usize) {
        let build = BuildHasherDefault::<Mixed>::default();
        let hashes: Vec<u64> = all.map(|one| build.hash_one(one)).collect();
        let low: HashSet<u64> = hashes.iter().map(|hash| hash & 0xfff).collect();
        let high: HashSet<u64> = hashes.iter().map(|hash| hash >> 57).collect();
        (low.len(), high.len())
    }

    #[test]
    fn keys_of_one_key_group_are_spread_over_all_buckets() {
        let hash = |n: u64| (hash_bytes(&n.to_le_bytes()) >> 8) | 7 << 56;
        let (low, high) = spread((0..4096).map(hash));
        assert!(low > 2400 && high == 128, "{low} {high}");
        let request = |n: u64| KeyRequest {
            table: TableId(n as u32 % 2),
            namespace: 0,
            hash: hash(n / 2),
            sub: None,
        };
        let (low, high) = spread((0..4096).map(request));
        assert!(low > 2400 && high == 128, "{low} {high}");
    }
}
