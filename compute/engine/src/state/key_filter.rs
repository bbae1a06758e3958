//! Which keys may be in the store though they are not in memory: a filter over key hashes.
//!
//! A split block Bloom filter (as Parquet's) in levels of doubling size, each as full as its bits
//! allow, since nobody knows how many keys there will be (Almeida et al., Scalable Bloom Filters,
//! 2007). Nothing is ever taken out: a key that was and is not any more costs a read in vain.

use std::mem::size_of;

/// Eight words, one bit in each.
type Block = [u32; 8];

const BLOCKS_MIN: usize = 16;
/// Keys per block of 256 bits: sixteen bits for each, of which about one in five hundred asks in vain.
const KEYS_PER_BLOCK: usize = 16;
/// Odd numbers that spread a hash over the bits of a word.
const SALTS: Block = [
    0x47b6_137b,
    0x4497_4d91,
    0x8824_ad5b,
    0xa2b7_289d,
    0x7054_95c7,
    0x2df1_424b,
    0x9efc_4947,
    0x5c6b_fb31,
];

/// A set of hashes that may say yes in vain, never no.
#[derive(Debug, Default)]
pub(super) struct KeyFilter {
    levels: Vec<Vec<Block>>,
    /// Keys of the last level.
    keys: usize,
}

impl KeyFilter {
    /// Adds a hash.
    pub(super) fn insert(&mut self, hash: u64) {
        if self.contains(hash) {
            return;
        }
        let last = self.levels.last().map_or(0, Vec::len);
        if self.keys == last * KEYS_PER_BLOCK {
            let blocks = (2 * last).max(BLOCKS_MIN);
            self.levels.push(vec![Block::default(); blocks]);
            self.keys = 0;
        }
        self.keys += 1;
        let Some(level) = self.levels.last_mut() else {
            return;
        };
        let hash = spread(hash);
        let at = block_of(hash, level.len());
        let bits = bits_of(hash);
        for (word, bit) in level[at].iter_mut().zip(bits) {
            *word |= bit;
        }
    }

    /// Whether it was added, or looks so.
    #[inline]
    pub(super) fn contains(&self, hash: u64) -> bool {
        let hash = spread(hash);
        let bits = bits_of(hash);
        self.levels.iter().rev().any(|level| {
            let block = &level[block_of(hash, level.len())];
            block.iter().zip(bits).all(|(word, bit)| word & bit != 0)
        })
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        self.levels.iter().map(Vec::len).sum::<usize>() * size_of::<Block>()
    }
}

/// The hashes of a key group have their top bits in common.
#[inline]
fn spread(hash: u64) -> u64 {
    hash.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32)
}

#[inline]
fn block_of(hash: u64, blocks: usize) -> usize {
    (((hash >> 32) * blocks as u64) >> 32) as usize
}

#[inline]
fn bits_of(hash: u64) -> Block {
    SALTS.map(|salt| 1 << ((hash as u32).wrapping_mul(salt) >> 27))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::mix;

    #[test]
    fn it_never_says_no_in_vain_and_seldom_yes() {
        // As in a key group: the top bits are the same.
        let hash = |key: u64| 0x4200_0000_0000_0000 | mix(key, 7) >> 8;
        let mut filter = KeyFilter::default();
        for key in 0..100_000 {
            filter.insert(hash(key));
        }
        assert!((0..100_000).all(|key| filter.contains(hash(key))));
        let vain = (100_000..200_000).filter(|key| filter.contains(hash(*key)));
        let vain = vain.count();
        assert!(vain < 3_000, "{vain} of 100,000");
        assert!(filter.memory() < 100_000 * 5, "{} bytes", filter.memory());
    }
}
