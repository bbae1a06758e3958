//! Takes keys out of memory that were not used for long.

use super::index::KeyIndex;
use crate::{operator::StateSize, spill::Evicted};

/// Keys that go in one step.
const KEYS_MAX: usize = 16_384;

/// A working set from which keys may go.
pub trait Evict {
    /// Its size.
    fn size(&self) -> StateSize;

    /// Keys that were not used for long, about `most` of them; see [`KeyIndex::find_old`].
    fn find_old(&mut self, most: usize) -> Vec<u32>;

    /// The index of its keys.
    fn index(&self) -> &KeyIndex;

    /// Takes keys that were found out of memory, with all that belongs to them.
    fn evict(&mut self, slots: &[u32], evicted: &mut Evicted);
}

/// Takes keys of about so many bytes out of a working set, or as many as one step may. Returns how many
/// went.
pub fn evict(of: &mut impl Evict, bytes: u64, evicted: &mut Evicted) -> u64 {
    let keys = of.index().len() as u64;
    if bytes == 0 || keys == 0 {
        return 0;
    }
    // What is known of keys that have gone does not go with others.
    let elsewhere = of.index().elsewhere.memory() as u64;
    let bytes_per_key = (of.size().used_bytes().saturating_sub(elsewhere) / keys).max(1);
    let most = (bytes / bytes_per_key + 1).min(KEYS_MAX as u64);
    let old = of.find_old(most as usize);
    if !old.is_empty() {
        of.evict(&old, evicted);
    }
    old.len() as u64
}
