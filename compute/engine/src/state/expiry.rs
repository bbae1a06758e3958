//! State that expires by age: how long it lives, in which time, and which slots are due next.
//!
//! Whether something has expired is judged when it is read, exactly; what nobody reads is found by
//! [`DueSlots`], a little later, and removed by [`super::sweep`]. (Flink's TTL state judges on read
//! too and leaves removing to RocksDB's compactions.)

use std::collections::BTreeMap;

use crate::{TIMESTAMP_MIN, Timestamp};

/// Never due.
const NEVER: Timestamp = Timestamp::MAX;
/// Not in the queue.
const NOWHERE: i64 = i64::MAX;
/// Buckets that a lifetime is cut into: what nobody reads goes this much of it late.
const BUCKETS: i64 = 64;
/// The longest lifetime; more is as good as for ever, and sums of it with a time do not overflow.
const TTL_MS_MAX: u64 = i64::MAX as u64 / 4;

/// Which time ages state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimeDomain {
    /// The worker's wall clock.
    Processing,
    /// The operator's watermark. Before the first one no time passes.
    Event,
}

/// How long rows live that nothing touches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ttl {
    /// In milliseconds, above 0.
    pub ms: i64,
    /// In which time.
    pub domain: TimeDomain,
}

impl Ttl {
    /// A lifetime of `ms`; `None` for 0: for ever.
    #[must_use]
    pub fn new(ms: u64, domain: TimeDomain) -> Option<Ttl> {
        (ms > 0).then_some(Ttl {
            ms: ms.min(TTL_MS_MAX) as i64,
            domain,
        })
    }

    /// When something expires that was touched at `stamp`.
    #[must_use]
    pub fn due(&self, stamp: Timestamp) -> Timestamp {
        match stamp {
            TIMESTAMP_MIN => TIMESTAMP_MIN,
            stamp => stamp.saturating_add(self.ms),
        }
    }

    /// When something was touched that expires at `due`.
    #[must_use]
    pub fn stamp(&self, due: Timestamp) -> Timestamp {
        match due {
            TIMESTAMP_MIN => TIMESTAMP_MIN,
            due => due.saturating_sub(self.ms),
        }
    }
}

/// How long the rows of an operator live, by the input that they come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StateTtl {
    input_ms: Vec<u64>,
    domain: TimeDomain,
}

impl StateTtl {
    /// For ever.
    pub const NEVER: StateTtl = StateTtl {
        input_ms: Vec::new(),
        domain: TimeDomain::Processing,
    };

    /// Milliseconds by input; 0: for ever.
    #[must_use]
    pub fn new(input_ms: Vec<u64>, domain: TimeDomain) -> StateTtl {
        StateTtl { input_ms, domain }
    }

    /// The lifetime of what comes from an input.
    #[must_use]
    pub fn of_input(&self, input: usize) -> Option<Ttl> {
        let ms = self.input_ms.get(input).copied().unwrap_or_default();
        Ttl::new(ms, self.domain)
    }
}

/// When slots are due, and which come next: a queue of coarse buckets with one entry per slot. A slot
/// that is touched is not moved; it is when its old bucket comes up.
///
/// A slot whose time is [`TIMESTAMP_MIN`] was touched before time was known; it counts as touched when
/// it is looked at first after that.
#[derive(Debug)]
pub struct DueSlots {
    ttl_ms: i64,
    grain_ms: i64,
    due: Vec<Timestamp>,
    /// Per slot: the bucket that has its one valid entry.
    queued: Vec<i64>,
    buckets: BTreeMap<i64, Vec<u32>>,
}

impl DueSlots {
    /// No slots. `ttl_ms` is the shortest lifetime among them.
    #[must_use]
    pub fn new(ttl_ms: i64) -> DueSlots {
        DueSlots {
            ttl_ms,
            grain_ms: (ttl_ms / BUCKETS).max(1),
            due: Vec::new(),
            queued: Vec::new(),
            buckets: BTreeMap::new(),
        }
    }

    /// Makes room for slots below `slots`.
    pub fn reserve(&mut self, slots: usize) {
        if self.due.len() < slots {
            self.due.resize(slots, NEVER);
            self.queued.resize(slots, NOWHERE);
        }
    }

    /// Something new begins in a slot, or nothing is there any more: it is not due.
    pub fn clear(&mut self, slot: u32) {
        self.due[slot as usize] = NEVER;
    }

    /// What is in a slot is in another one from now on.
    pub fn relocate(&mut self, from: u32, to: u32) {
        let due = self.due[from as usize];
        self.clear(from);
        self.set(to, due);
    }

    /// Slots from `slots` on, in which nothing is, are not there any more.
    pub fn truncate(&mut self, slots: usize) {
        self.due.truncate(slots);
        self.due.shrink_to_fit();
        self.queued.truncate(slots);
        self.queued.shrink_to_fit();
    }

    /// Sets when a slot is due.
    #[inline]
    pub fn set(&mut self, slot: u32, due: Timestamp) {
        self.due[slot as usize] = due;
        if due == NEVER {
            return;
        }
        let bucket = due.div_euclid(self.grain_ms);
        if bucket < self.queued[slot as usize] {
            self.enqueue(slot, bucket);
        }
    }

    /// A slot is due at `due` at the latest.
    #[inline]
    pub fn lower(&mut self, slot: u32, due: Timestamp) {
        if due < self.due[slot as usize] {
            self.set(slot, due);
        }
    }

    /// When a slot is due.
    #[inline]
    #[must_use]
    pub fn due(&self, slot: u32) -> Timestamp {
        self.due[slot as usize]
    }

    /// Whether a slot is due at `now`.
    #[inline]
    pub fn is_due(&mut self, slot: u32, now: Timestamp) -> bool {
        match self.due[slot as usize] {
            TIMESTAMP_MIN if now > TIMESTAMP_MIN => {
                self.set(slot, now.saturating_add(self.ttl_ms));
                false
            }
            due => now > TIMESTAMP_MIN && due <= now,
        }
    }

    /// Up to `slots_max` slots that are due at `now`, or were touched before time was known, each taken
    /// out of the queue: whoever does not remove what is there sets its time again. `true`: there may
    /// be more.
    pub fn take_due(&mut self, now: Timestamp, slots_max: usize, slots: &mut Vec<u32>) -> bool {
        if now == TIMESTAMP_MIN {
            return false;
        }
        // Only buckets that are over as a whole, or their slots would be looked at again and again.
        let over = now.div_euclid(self.grain_ms);
        let mut looked_at = 0;
        while let Some(mut bucket) = self.buckets.first_entry().filter(|b| *b.key() < over) {
            let number = *bucket.key();
            let Some(slot) = bucket.get_mut().pop() else {
                bucket.remove();
                continue;
            };
            if self.queued.get(slot as usize) != Some(&number) {
                continue;
            }
            self.queued[slot as usize] = NOWHERE;
            looked_at += 1;
            match self.due[slot as usize] {
                NEVER => {}
                due if due <= now => slots.push(slot),
                due => self.set(slot, due),
            }
            if looked_at >= slots_max {
                return true;
            }
        }
        false
    }

    /// Bytes of memory.
    #[must_use]
    pub fn memory(&self) -> usize {
        // One entry per slot, but for a few that are out of date.
        self.due.len() * 20
    }

    #[cold]
    fn enqueue(&mut self, slot: u32, bucket: i64) {
        self.queued[slot as usize] = bucket;
        self.buckets.entry(bucket).or_default().push(slot);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_lives_for_ever_but_without_a_lifetime() {
        assert_eq!(Ttl::new(0, TimeDomain::Processing), None);
        let ttl = Ttl::new(u64::MAX, TimeDomain::Processing).expect("a lifetime");
        assert!(ttl.due(i64::MAX / 2) > i64::MAX / 2);
        assert_eq!(ttl.due(TIMESTAMP_MIN), TIMESTAMP_MIN);
        let ttl = Ttl::new(5, TimeDomain::Event).expect("a lifetime");
        assert_eq!((ttl.due(7), ttl.stamp(12)), (12, 7));
    }

    #[test]
    fn what_was_touched_before_time_was_known_is_as_old_as_time() {
        let mut slots = DueSlots::new(100);
        slots.reserve(2);
        slots.set(0, TIMESTAMP_MIN);
        slots.set(1, TIMESTAMP_MIN);
        let mut due = Vec::new();
        assert!(!slots.is_due(0, TIMESTAMP_MIN));
        assert!(!slots.take_due(TIMESTAMP_MIN, 9, &mut due));
        assert!(!slots.is_due(0, 50));
        assert!(!slots.take_due(60, 9, &mut due));
        assert_eq!(due, [1]);
        assert!(!slots.is_due(1, 60));
        assert!(slots.is_due(0, 150) && !slots.is_due(1, 159) && slots.is_due(1, 160));
    }

    proptest! {
        /// Against a map: what is due comes, once, at the latest a bucket after its time; nothing else.
        #[test]
        fn what_is_due_comes_once(
            ttl in 1_i64..300,
            steps in prop::collection::vec((0_u32..8, 0_i64..40, 0_u8..8, 1_usize..4), 1..200),
        ) {
            let mut slots = DueSlots::new(ttl);
            slots.reserve(8);
            let mut model: BTreeMap<u32, i64> = BTreeMap::new();
            let mut now = 1_000;
            for (slot, passed, act, slots_max) in steps {
                now += passed;
                match act {
                    0..4 => {
                        slots.set(slot, now + ttl);
                        model.insert(slot, now + ttl);
                    }
                    4 => {
                        slots.clear(slot);
                        model.remove(&slot);
                    }
                    5 => {
                        // Another lifetime, shorter than what is queued.
                        slots.set(slot, now + 1);
                        model.insert(slot, now + 1);
                    }
                    _ => {
                        let mut due = Vec::new();
                        while slots.take_due(now, slots_max, &mut due) {}
                        for slot in due {
                            let at = model.remove(&slot);
                            prop_assert!(at.is_some_and(|at| at <= now), "{slot} at {now}");
                            slots.clear(slot);
                        }
                        let late = now - (ttl / BUCKETS).max(1);
                        prop_assert!(model.values().all(|at| *at > late), "{model:?} at {now}");
                    }
                }
                let is_due = |(slot, at): (&u32, &i64)| slots.due(*slot) == *at;
                prop_assert!(model.iter().all(is_due));
            }
        }
    }
}
