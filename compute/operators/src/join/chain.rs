//! Chains that link the rows of a key, the newest first.

use engine::state::NO_SLOT;

/// By slot of a row: its neighbours.
#[derive(Debug)]
pub(super) struct Chain {
    next: Vec<u32>,
    /// `None`: rows are never taken back.
    previous: Option<Vec<u32>>,
}

impl Chain {
    /// No rows; linked both ways if some may be taken back.
    pub(super) fn new(both_ways: bool) -> Self {
        Chain {
            next: Vec::new(),
            previous: both_ways.then(Vec::new),
        }
    }

    /// The row after another.
    #[inline]
    pub(super) fn next(&self, slot: u32) -> u32 {
        self.next[slot as usize]
    }

    /// Puts a row before another, which was the first.
    #[inline]
    pub(super) fn link(&mut self, slot: u32, next: u32) {
        set(&mut self.next, slot, next);
        if let Some(previous) = &mut self.previous {
            set(previous, slot, NO_SLOT);
            if next != NO_SLOT {
                previous[next as usize] = slot;
            }
        }
    }

    /// Takes a row out of the chain of which `head` is the first.
    pub(super) fn unlink(&mut self, slot: u32, head: &mut u32) {
        let Some(previous) = &mut self.previous else {
            return;
        };
        let (before, after) = (previous[slot as usize], self.next[slot as usize]);
        match before {
            NO_SLOT => *head = after,
            before => self.next[before as usize] = after,
        }
        if after != NO_SLOT {
            previous[after as usize] = before;
        }
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        let previous = self.previous.as_ref().map_or(0, Vec::len);
        (self.next.len() + previous) * 4
    }
}

/// Sets the value of a slot, which is at most one past the last one.
#[inline]
pub(super) fn set(column: &mut Vec<u32>, slot: u32, value: u32) {
    if slot as usize == column.len() {
        column.push(value);
    } else {
        column[slot as usize] = value;
    }
}
