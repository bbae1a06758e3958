//! Slots in an order that the caller compares by: a list of blocks, so that putting one in moves
//! little whatever the length.

use std::cmp::Ordering;

/// Slots that a block may have before it is split.
const BLOCK_MAX: usize = 512;

/// Slots, sorted.
#[derive(Debug, Default)]
pub(crate) struct SortedSlots {
    /// Never an empty block.
    blocks: Vec<Vec<u32>>,
}

impl SortedSlots {
    /// Puts a slot in; `compare(other)` orders the other slot against the new one.
    pub(crate) fn insert(&mut self, slot: u32, compare: impl Fn(u32) -> Ordering) {
        let Some((block, at)) = self.position(&compare) else {
            match self.blocks.last_mut() {
                Some(last) => last.push(slot),
                None => self.blocks.push(vec![slot]),
            }
            self.split(self.blocks.len() - 1);
            return;
        };
        self.blocks[block].insert(at, slot);
        self.split(block);
    }

    /// Takes a slot out; `compare(other)` orders the other slot against it, and is `Equal` for it
    /// alone.
    pub(crate) fn remove(&mut self, slot: u32, compare: impl Fn(u32) -> Ordering) -> bool {
        let Some((block, at)) = self.position(&compare) else {
            return false;
        };
        if self.blocks[block][at] != slot {
            return false;
        }
        self.blocks[block].remove(at);
        if self.blocks[block].is_empty() {
            self.blocks.remove(block);
        }
        true
    }

    /// The last slot.
    pub(crate) fn last(&self) -> Option<u32> {
        self.blocks.last().and_then(|block| block.last()).copied()
    }

    /// Takes the last slot out.
    pub(crate) fn pop(&mut self) -> Option<u32> {
        let slot = self.blocks.last_mut()?.pop();
        if self.blocks.last().is_some_and(Vec::is_empty) {
            self.blocks.pop();
        }
        slot
    }

    /// The slots in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        self.blocks.iter().flatten().copied()
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Block and place of the first slot that is not less; `None`: after all.
    fn position(&self, compare: &impl Fn(u32) -> Ordering) -> Option<(usize, usize)> {
        let block = self.blocks.partition_point(|block| {
            block
                .last()
                .is_some_and(|last| compare(*last) == Ordering::Less)
        });
        let slots = self.blocks.get(block)?;
        let at = slots.partition_point(|slot| compare(*slot) == Ordering::Less);
        Some((block, at))
    }

    fn split(&mut self, block: usize) {
        if self.blocks[block].len() > BLOCK_MAX {
            let tail = self.blocks[block].split_off(BLOCK_MAX / 2);
            self.blocks.insert(block + 1, tail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_sorted_through_splits_and_removals() {
        let mut slots = SortedSlots::default();
        let value = |slot: u32| slot.wrapping_mul(2_654_435_761) >> 7;
        let key = |slot: u32| (value(slot), slot);
        for slot in 0..5_000 {
            slots.insert(slot, |other| key(other).cmp(&key(slot)));
        }
        for slot in (0..5_000).step_by(3) {
            assert!(slots.remove(slot, |other| key(other).cmp(&key(slot))));
            assert!(!slots.remove(slot, |other| key(other).cmp(&key(slot))));
        }
        let mut expected: Vec<u32> = (0..5_000).filter(|slot| slot % 3 != 0).collect();
        expected.sort_by_key(|slot| key(*slot));
        assert_eq!(slots.iter().collect::<Vec<_>>(), expected);
        while let Some(slot) = slots.last() {
            assert_eq!(slots.pop(), Some(slot));
            assert_eq!(expected.pop(), Some(slot));
        }
        assert!(expected.is_empty() && slots.is_empty());
    }
}
