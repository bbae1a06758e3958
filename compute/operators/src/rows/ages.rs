//! When keys that expire by age are due: a key goes as a whole once nothing in it has changed for
//! long enough.

use engine::{
    TIMESTAMP_MIN, Timestamp,
    state::{DueSlots, Ttl},
};

/// When keys are due, by their slot.
#[derive(Debug)]
pub(crate) struct Ages {
    ttl: Ttl,
    now: Timestamp,
    slots: DueSlots,
}

impl Ages {
    /// No keys; each lives for `ttl`.
    pub(crate) fn new(ttl: Ttl) -> Ages {
        Ages {
            ttl,
            now: TIMESTAMP_MIN,
            slots: DueSlots::new(ttl.ms),
        }
    }

    /// How long keys live.
    pub(crate) fn ttl(&self) -> Ttl {
        self.ttl
    }

    /// What time it is from now on.
    pub(crate) fn set_now(&mut self, now: Timestamp) {
        self.now = now;
    }

    /// A key begins.
    pub(crate) fn begin(&mut self, key_slot: u32) {
        self.slots.reserve(key_slot as usize + 1);
        self.slots.clear(key_slot);
    }

    /// Nothing is in a slot any more.
    pub(crate) fn clear(&mut self, key_slot: u32) {
        self.slots.clear(key_slot);
    }

    /// A key has changed now.
    pub(crate) fn touch(&mut self, key_slot: u32) {
        self.slots.set(key_slot, self.ttl.due(self.now));
    }

    /// A row of a key was changed at `stamp`, as others may have been later.
    pub(crate) fn raise(&mut self, key_slot: u32, stamp: Timestamp) {
        let due = self.ttl.due(stamp);
        let known = self.slots.due(key_slot);
        if known == Timestamp::MAX || known < due {
            self.slots.set(key_slot, due);
        }
    }

    /// Whether a key has expired.
    pub(crate) fn has_expired(&mut self, key_slot: u32) -> bool {
        self.slots.is_due(key_slot, self.now)
    }

    /// Whether what was touched at a stored time has expired.
    pub(crate) fn is_overdue(&self, stamp: Timestamp) -> bool {
        stamp > TIMESTAMP_MIN && self.ttl.due(stamp) <= self.now
    }

    /// See [`DueSlots::take_due`].
    pub(crate) fn take_due(&mut self, keys_max: usize, due: &mut Vec<u32>) -> bool {
        self.slots.take_due(self.now, keys_max, due)
    }

    /// Bytes of memory.
    pub(crate) fn memory(&self) -> usize {
        self.slots.memory()
    }
}
