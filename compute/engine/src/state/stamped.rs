//! Values of one key each with the time at which they were last touched, where they expire.
//!
//! Persisted after the value: the time in milliseconds, 8 bytes, little endian. Without a lifetime
//! nothing is added.

use std::ops::{Deref, DerefMut};

use super::{
    expiry::{DueSlots, Ttl},
    map_table::Values,
};
use crate::{TIMESTAMP_MIN, Timestamp};

/// Bytes of a persisted time.
pub const STAMP_BYTES: usize = 8;

/// Splits the time off a stored value.
///
/// # Errors
/// When it is too short.
pub fn split_stamp(bytes: &[u8]) -> Result<(&[u8], Timestamp), String> {
    match bytes.split_last_chunk::<STAMP_BYTES>() {
        Some((value, stamp)) => Ok((value, Timestamp::from_le_bytes(*stamp))),
        None => Err("a value has no time".to_owned()),
    }
}

/// Values, and when each expires if any does.
#[derive(Debug)]
pub struct Stamped<V> {
    values: V,
    ages: Option<Ages>,
}

#[derive(Debug)]
struct Ages {
    ttl: Ttl,
    now: Timestamp,
    slots: DueSlots,
}

impl<V> Stamped<V> {
    /// Values that expire after `ttl`, if that is given.
    pub fn new(values: V, ttl: Option<Ttl>) -> Stamped<V> {
        let ages = |ttl: Ttl| Ages {
            ttl,
            now: TIMESTAMP_MIN,
            slots: DueSlots::new(ttl.ms),
        };
        Stamped {
            values,
            ages: ttl.map(ages),
        }
    }

    /// How long values live.
    #[must_use]
    pub fn ttl(&self) -> Option<Ttl> {
        self.ages.as_ref().map(|ages| ages.ttl)
    }

    /// What time it is from now on.
    pub fn set_now(&mut self, now: Timestamp) {
        if let Some(ages) = &mut self.ages {
            ages.now = now;
        }
    }

    /// A value is as young as can be.
    #[inline]
    pub fn stamp(&mut self, slot: u32) {
        if let Some(ages) = &mut self.ages {
            ages.slots.set(slot, ages.ttl.due(ages.now));
        }
    }

    /// Whether a value has expired.
    #[inline]
    pub fn has_expired(&mut self, slot: u32) -> bool {
        (self.ages.as_mut()).is_some_and(|ages| ages.slots.is_due(slot, ages.now))
    }

    /// Nothing is in a slot any more.
    pub fn clear_age(&mut self, slot: u32) {
        if let Some(ages) = &mut self.ages {
            ages.slots.clear(slot);
        }
    }

    /// See [`DueSlots::take_due`]; only slots that have expired.
    pub fn take_due(&mut self, slots_max: usize, slots: &mut Vec<u32>) -> bool {
        let Some(ages) = &mut self.ages else {
            return false;
        };
        let more = ages.slots.take_due(ages.now, slots_max, slots);
        slots.retain(|slot| ages.slots.is_due(*slot, ages.now));
        more
    }

    /// Puts a slot back that [`Stamped::take_due`] has taken.
    pub fn keep_due(&mut self, slot: u32) {
        if let Some(ages) = &mut self.ages {
            let due = ages.slots.due(slot);
            ages.slots.set(slot, due);
        }
    }

    /// Whether a stored value has expired.
    #[must_use]
    pub fn is_overdue(&self, stored: &[u8]) -> bool {
        let Some(ages) = &self.ages else {
            return false;
        };
        let stamp = split_stamp(stored).map_or(TIMESTAMP_MIN, |(_, stamp)| stamp);
        stamp > TIMESTAMP_MIN && ages.ttl.due(stamp) <= ages.now
    }
}

impl<V> Deref for Stamped<V> {
    type Target = V;

    fn deref(&self) -> &V {
        &self.values
    }
}

impl<V> DerefMut for Stamped<V> {
    fn deref_mut(&mut self) -> &mut V {
        &mut self.values
    }
}

impl<V: Values> Values for Stamped<V> {
    fn reserve(&mut self, slots: usize) {
        self.values.reserve(slots);
        if let Some(ages) = &mut self.ages {
            ages.slots.reserve(slots);
        }
    }

    fn reset(&mut self, slot: u32) {
        self.values.reset(slot);
        if let Some(ages) = &mut self.ages {
            ages.slots.clear(slot);
        }
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        self.values.encode(slot, out);
        if let Some(ages) = &self.ages {
            let stamp = ages.ttl.stamp(ages.slots.due(slot));
            out.extend_from_slice(&stamp.to_le_bytes());
        }
    }

    fn decode(&mut self, slot: u32, bytes: &[u8]) -> Result<(), String> {
        let Some(ages) = &mut self.ages else {
            return self.values.decode(slot, bytes);
        };
        let (value, stamp) = split_stamp(bytes)?;
        ages.slots.set(slot, ages.ttl.due(stamp));
        self.values.decode(slot, value)
    }

    fn relocate(&mut self, from: u32, to: u32) {
        self.values.relocate(from, to);
        if let Some(ages) = &mut self.ages {
            ages.slots.relocate(from, to);
        }
    }

    fn truncate(&mut self, slots: usize) {
        self.values.truncate(slots);
        if let Some(ages) = &mut self.ages {
            ages.slots.truncate(slots);
        }
    }

    fn free_memory(&self, free_slots: usize) -> usize {
        let ages = self.ages.as_ref().map_or(0, |_| free_slots * 16);
        self.values.free_memory(free_slots) + ages
    }

    fn memory(&self) -> usize {
        let ages = self.ages.as_ref().map_or(0, |ages| ages.slots.memory());
        self.values.memory() + ages
    }
}
