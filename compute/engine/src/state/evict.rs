//! Takes keys out of memory that were not used for long.

use crate::operator::StateSize;

/// Keys that go in one step.
const KEYS_MAX: usize = 16_384;

/// A working set from which keys may go.
pub trait Evict {
    /// Its size.
    fn size(&self) -> StateSize;

    /// Keys that were not used for long, about `most` of them; see [`KeyIndex::find_old`].
    ///
    /// [`KeyIndex::find_old`]: super::KeyIndex::find_old
    fn find_old(&mut self, most: usize) -> Vec<u32>;

    /// Number of keys.
    fn keys(&self) -> usize;

    /// Takes keys that were found out of memory, with all that belongs to them.
    fn evict(&mut self, slots: &[u32]);
}

/// Makes room in a working set until one byte in `part` is free, or it has done its share for now.
/// Returns the number of keys that went.
pub fn evict(of: &mut impl Evict, part: u64) -> u64 {
    let (size, keys) = (of.size(), of.keys());
    let wanted = (size.bytes / part).saturating_sub(size.free_bytes);
    if wanted == 0 || keys == 0 {
        return 0;
    }
    let bytes_per_key = (size.bytes.saturating_sub(size.free_bytes) / keys as u64).max(1);
    let most = (wanted / bytes_per_key + 1).min(KEYS_MAX as u64);
    let old = of.find_old(most as usize);
    if !old.is_empty() {
        of.evict(&old);
    }
    old.len() as u64
}
