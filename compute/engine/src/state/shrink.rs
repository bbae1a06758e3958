//! Makes columns shorter again of which most is free.
//!
//! When less than a quarter of the slots hold keys, the columns are to be cut to twice as many as do. Keys in what
//! is cut off move into free slots below, some at a time, and slots that become free there are not used again;
//! when no key is left there, all columns are cut at once. Another time comes when half of the keys have gone since,
//! so no more keys move than come or go.

use super::index::{KeyIndex, NO_SLOT, table_hash};

/// Columns of fewer slots stay.
pub(super) const SLOTS_MIN: usize = 4096;
/// They are cut when fewer than one in so many slots holds a key.
const SPARSE_PART: usize = 4;
/// A table with room for so many keys of a key group does not get smaller when they go.
const TABLE_MIN: usize = 32;
/// For each key that may move, so many slots are looked at.
const LOOKS_PER_MOVE: usize = 64;

/// Columns on their way to be cut.
#[derive(Debug)]
pub(super) struct Shrinking {
    /// Slots that stay; [`NO_SLOT`]: all of them.
    stay: u32,
    /// Slots from here on hold no keys.
    end: usize,
    /// As long as columns were when it began.
    slots: usize,
    slots_min: usize,
}

impl Default for Shrinking {
    fn default() -> Self {
        Shrinking {
            stay: NO_SLOT,
            end: 0,
            slots: 0,
            slots_min: SLOTS_MIN,
        }
    }
}

impl Shrinking {
    /// Whether a slot is used again when it is free.
    #[inline]
    pub(super) fn keeps(&self, slot: u32) -> bool {
        slot < self.stay
    }
}

impl KeyIndex {
    /// Columns of fewer slots are made shorter.
    #[cfg(test)]
    pub(super) fn shrink_from(&mut self, slots_min: usize) {
        self.shrinking.slots_min = slots_min;
    }

    /// Goes on making columns shorter, if most of them is free. Up to `most` keys move; `moved` is told from
    /// which slot to which. What is returned is how long columns are from now on, if they are cut.
    pub(super) fn shrink(&mut self, most: usize, mut moved: impl FnMut(u32, u32)) -> Option<usize> {
        // Slots that are still to be freed are found by nothing, and cannot move.
        if self.has_leaving() || !self.begin_shrinking() {
            return None;
        }
        let stay = self.shrinking.stay as usize;
        let (mut moves, mut looks) = (most, most.saturating_mul(LOOKS_PER_MOVE));
        while self.shrinking.end > stay && moves > 0 && looks > 0 {
            looks -= 1;
            let slot = (self.shrinking.end - 1) as u32;
            if self.recency.is_used(slot) {
                let Some(to) = self.free.pop() else {
                    self.stop_shrinking();
                    return None;
                };
                self.move_key(slot, to);
                moved(slot, to);
                moves -= 1;
            }
            self.shrinking.end -= 1;
        }
        if self.shrinking.end > stay {
            return None;
        }
        self.cut(stay);
        Some(stay)
    }

    /// Whether it is under way; begins if most slots are free.
    fn begin_shrinking(&mut self) -> bool {
        let slots = self.slots();
        if self.shrinking.stay != NO_SLOT {
            if slots == self.shrinking.slots {
                return true;
            }
            // So many keys have come that there is no room for them below.
            self.stop_shrinking();
        }
        if slots < self.shrinking.slots_min || self.live * SPARSE_PART >= slots {
            return false;
        }
        let stay = (2 * self.live).max(self.shrinking.slots_min / SPARSE_PART);
        self.shrinking.stay = stay as u32;
        self.shrinking.end = slots;
        self.shrinking.slots = slots;
        self.find_free(stay);
        true
    }

    /// All slots stay.
    fn stop_shrinking(&mut self) {
        self.shrinking.stay = NO_SLOT;
        self.find_free(self.slots());
    }

    /// Finds slots that are free anew, below `slots`; the lowest is used first.
    fn find_free(&mut self, slots: usize) {
        let recency = &self.recency;
        let free = (0..slots as u32)
            .rev()
            .filter(|slot| !recency.is_used(*slot));
        self.free = free.collect();
    }

    /// A key has gone: the table of its key group gets smaller if most of it is free.
    pub(super) fn shrink_table(&mut self, group: usize) {
        let (hashes, table) = (&self.hashes, &mut self.groups[group].slots);
        let least = (2 * table.len()).max(TABLE_MIN);
        if table.capacity() > 2 * least {
            table.shrink_to(least, |slot| table_hash(hashes[*slot as usize]));
        }
    }

    /// A slot is free.
    pub(super) fn give_back(&mut self, slot: u32) {
        if self.shrinking.keeps(slot) {
            self.free.push(slot);
        }
    }

    /// A key is in another slot from now on, which was free.
    fn move_key(&mut self, from: u32, to: u32) {
        let hash = self.hash(from);
        let group = self.group_of(hash);
        let table = &mut self.groups[group].slots;
        let found = table.find_mut(table_hash(hash), |slot| *slot == from);
        *found.expect("a slot that is used is found by its key") = to;
        self.hashes[to as usize] = hash;
        self.keys.relocate(from, to);
        self.recency.relocate(from, to);
    }

    fn cut(&mut self, slots: usize) {
        self.shrinking.stay = NO_SLOT;
        self.hashes.truncate(slots);
        self.hashes.shrink_to_fit();
        self.keys.truncate(slots);
        self.recency.truncate(slots);
    }
}
