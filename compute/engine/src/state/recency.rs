//! When the keys of an index were last used, in epochs of their task, and in how many.
//!
//! A change of a key is a use of it, so keys whose last use is in a committed epoch are as they are
//! in the store, and may go from memory. Among them those go first that were not used again, in
//! another epoch, since they came: most of what is read is of no use a second time, and must not push out
//! what is. Of those that were, the epochs are counted, up to three; a hand goes round, lets go of keys
//! without a count, and in some rounds takes one from each count. (As in S3-FIFO of Yang and others,
//! SOSP 2023, with a clock in place of its queues.)

use std::collections::VecDeque;

use proto::types::Epoch;

/// What is known of a slot that holds no key.
const NEVER: u32 = u32::MAX;
/// Slots that one search goes past.
const SEARCH_MAX: usize = 1 << 20;
/// Slots that are looked at to find out how many keys have no count.
const SAMPLE: usize = 4096;
/// Counts are worn in a round if fewer than one in so many keys could go without,
const FEW_PART: usize = 20;
/// and in every so-manieth round, so that what is not used any more goes some time.
const WEARING_ROUND: u32 = 8;
/// Of what is known of a slot, the bits that count epochs; above them is the mark of the last one.
const COUNT_BITS: u32 = 2;
const COUNT_MAX: u32 = (1 << COUNT_BITS) - 1;
/// Marks are below this.
const MARKS: u32 = NEVER >> COUNT_BITS;

/// Uses by slot.
#[derive(Debug)]
pub(super) struct Recency {
    /// Mark of the epoch that is open.
    mark: u32,
    /// Mark of the last epoch in which each slot's key was used, and in how many it was used again.
    used: Vec<u32>,
    /// Marks of epochs that are closed and not known to be committed.
    closed: VecDeque<(u32, Epoch)>,
    /// Keys last used in this epoch or before are as they are in the store.
    committed: u32,
    committed_epoch: Epoch,
    /// Keys that went are remembered since this epoch.
    tracked_from: Option<u32>,
    hand: usize,
    /// Rounds since one in which counts were worn; 0: in this one they are.
    unworn: u32,
    /// Nothing in this round could go, now or in the next one.
    in_vain: bool,
    /// So it was in all of the last round, and nothing has been committed since.
    barren: bool,
}

impl Default for Recency {
    fn default() -> Self {
        Recency {
            mark: 1,
            used: Vec::new(),
            closed: VecDeque::new(),
            committed: 0,
            committed_epoch: Epoch::ZERO,
            tracked_from: None,
            hand: 0,
            unworn: 1,
            in_vain: true,
            barren: false,
        }
    }
}

impl Recency {
    /// The slot's key is used.
    #[inline]
    pub(super) fn touch(&mut self, slot: u32) {
        let used = &mut self.used[slot as usize];
        if *used >> COUNT_BITS != self.mark {
            let count = (*used & COUNT_MAX) + 1;
            *used = self.mark << COUNT_BITS | count.min(COUNT_MAX);
        }
    }

    /// A slot gets a key.
    #[inline]
    pub(super) fn begin(&mut self, slot: u32) {
        let used = self.mark << COUNT_BITS;
        if slot as usize == self.used.len() {
            self.used.push(used);
        } else {
            self.used[slot as usize] = used;
        }
    }

    /// A slot holds no key any more.
    pub(super) fn end(&mut self, slot: u32) {
        self.used[slot as usize] = NEVER;
    }

    /// Whether a slot holds a key.
    pub(super) fn is_used(&self, slot: u32) -> bool {
        self.used[slot as usize] != NEVER
    }

    /// A key is in another slot from now on.
    pub(super) fn relocate(&mut self, from: u32, to: u32) {
        self.used[to as usize] = std::mem::replace(&mut self.used[from as usize], NEVER);
    }

    /// Slots from `slots` on, which hold no keys, are not there any more.
    pub(super) fn truncate(&mut self, slots: usize) {
        self.used.truncate(slots);
        self.used.shrink_to_fit();
        if self.hand >= slots {
            // The round goes on with the next one.
            self.hand = 0;
        }
    }

    /// Mark of the epoch that is open.
    pub(super) fn mark(&self) -> u32 {
        self.mark
    }

    /// Whether what was changed in the epoch of this mark may not be in the store.
    pub(super) fn is_uncommitted(&self, mark: u32) -> bool {
        mark > self.committed
    }

    /// The last epoch of which it is known that it is committed.
    pub(super) fn committed_epoch(&self) -> Epoch {
        self.committed_epoch
    }

    /// Whether keys that went are remembered: memory has been short.
    pub(super) fn is_tracking(&self) -> bool {
        self.tracked_from.is_some()
    }

    /// The open epoch ends.
    pub(super) fn freeze(&mut self, epoch: Epoch) {
        self.closed.push_back((self.mark, epoch));
        let next = Some(self.mark + 1).filter(|mark| *mark < MARKS);
        self.mark = next.expect("fewer than 2^30 epochs in one task's life");
    }

    /// Epochs up to this one are committed.
    pub(super) fn commit(&mut self, epoch: Epoch) {
        while let Some((mark, closed)) = self.closed.front().copied()
            && closed <= epoch
        {
            self.closed.pop_front();
            self.committed = mark;
            self.committed_epoch = closed;
            self.barren = false;
            // More could go now that this round has gone past.
            self.in_vain = false;
        }
    }

    /// Whatever is still there is as it is in the store at `restored`.
    pub(super) fn roll_back(&mut self, restored: Epoch) {
        self.closed.clear();
        self.committed = self.mark;
        self.committed_epoch = restored;
        self.freeze(restored);
        self.closed.clear();
        self.barren = false;
        self.in_vain = false;
    }

    /// Slots whose keys are old and in the store, `most` of them if one search finds so many. From the
    /// first call on keys that go must be remembered; none is found before all that went earlier
    /// without being remembered is committed.
    pub(super) fn find_old(&mut self, most: usize, mut found: impl FnMut(u32)) {
        let since = *self.tracked_from.get_or_insert(self.mark);
        if most == 0 || self.committed < since || self.barren {
            return;
        }
        if self.hand == 0 {
            let wears = self.unworn + 1 >= WEARING_ROUND || self.few_without_count();
            self.unworn = if wears { 0 } else { self.unworn + 1 };
        }
        let mut left = most;
        let end = self.used.len().min(self.hand + SEARCH_MAX);
        let newest = self.committed << COUNT_BITS | COUNT_MAX;
        while self.hand < end && left > 0 {
            let used = &mut self.used[self.hand];
            // No key is newer than one that is not there.
            if *used <= newest {
                self.in_vain = false;
                if *used & COUNT_MAX == 0 {
                    found(self.hand as u32);
                    left -= 1;
                } else if self.unworn == 0 {
                    *used -= 1;
                }
            }
            self.hand += 1;
        }
        if self.hand == self.used.len() {
            self.hand = 0;
            self.barren = std::mem::replace(&mut self.in_vain, true);
        }
    }

    /// Whether the slot's key is old and may go.
    pub(super) fn is_old(&self, slot: u32) -> bool {
        let used = self.used[slot as usize];
        used & COUNT_MAX == 0 && used >> COUNT_BITS <= self.committed
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        self.used.len() * 4
    }

    /// Whether of the keys that may go few have no count.
    fn few_without_count(&self) -> bool {
        let step = (self.used.len() / SAMPLE).max(1);
        let slots = (0..self.used.len()).step_by(step);
        let live = slots.filter(|slot| self.used[*slot] != NEVER);
        let (mut all, mut old) = (0, 0);
        for slot in live {
            all += 1;
            old += usize::from(self.is_old(slot as u32));
        }
        old * FEW_PART < all
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, ops::Range};

    use super::*;

    /// Keys by slot, with room for so many.
    struct Room {
        recency: Recency,
        slots: BTreeMap<u32, u64>,
        free: Vec<u32>,
        epoch: u64,
    }

    impl Room {
        fn new() -> Room {
            let mut recency = Recency::default();
            // Memory has been short since the beginning.
            recency.find_old(0, |_| {});
            Room {
                recency,
                slots: BTreeMap::new(),
                free: Vec::new(),
                epoch: 0,
            }
        }

        /// A key is used; whether it was there.
        fn use_key(&mut self, key: u64) -> bool {
            let there = self.slots.iter().find(|(_, other)| **other == key);
            if let Some((slot, _)) = there {
                self.recency.touch(*slot);
                return true;
            }
            let slot = self.free.pop().unwrap_or(self.slots.len() as u32);
            self.recency.begin(slot);
            self.slots.insert(slot, key);
            false
        }

        fn use_keys(&mut self, keys: Range<u64>) {
            for key in keys {
                self.use_key(key);
            }
        }

        fn end_epoch(&mut self) {
            self.epoch += 1;
            self.recency.freeze(Epoch(self.epoch));
            self.recency.commit(Epoch(self.epoch));
        }

        /// Lets keys go until there are `most`; those that went.
        fn shrink(&mut self, most: usize) -> Vec<u64> {
            let mut gone = Vec::new();
            for _ in 0..8 {
                let mut old = Vec::new();
                let excess = self.slots.len().saturating_sub(most);
                self.recency.find_old(excess, |slot| old.push(slot));
                for slot in old {
                    assert!(self.recency.is_old(slot));
                    gone.extend(self.slots.remove(&slot));
                    self.recency.end(slot);
                    self.free.push(slot);
                }
            }
            gone
        }
    }

    #[test]
    fn what_comes_again_and_again_is_not_pushed_out_by_what_comes_once() {
        let mut room = Room::new();
        for _ in 0..5 {
            room.use_keys(0..100);
            room.end_epoch();
        }
        let mut next = 1_000;
        for epoch in 0..200_u64 {
            // 80 others come in each epoch, 240 between two uses of a key, and there is room for 200.
            for key in (0..100).filter(|key| (key + epoch) % 3 == 0) {
                assert!(room.use_key(key), "{key} is gone in epoch {epoch}");
            }
            room.use_keys(next..next + 80);
            next += 80;
            room.end_epoch();
            room.shrink(200);
            assert!(room.slots.len() <= 200, "{} keys", room.slots.len());
        }
    }

    #[test]
    fn what_is_not_used_any_more_goes_after_a_few_rounds() {
        let mut room = Room::new();
        for _ in 0..10 {
            room.use_keys(0..100);
            room.end_epoch();
        }
        for round in 1..60 {
            room.use_keys(1_000 * round..1_000 * round + 60);
            room.end_epoch();
            room.shrink(100);
        }
        assert!(room.slots.values().all(|key| *key >= 1_000));
    }

    #[test]
    fn only_what_is_committed_goes() {
        let mut room = Room::new();
        room.use_keys(0..10);
        room.recency.freeze(Epoch(1));
        room.use_keys(5..15);
        assert!(room.shrink(0).is_empty());
        room.recency.commit(Epoch(1));
        assert_eq!(room.shrink(0), [0, 1, 2, 3, 4]);
        assert!(room.shrink(0).is_empty());
        room.recency.freeze(Epoch(2));
        room.recency.commit(Epoch(2));
        let mut gone = room.shrink(0);
        gone.sort_unstable();
        assert_eq!(gone, (5..15).collect::<Vec<u64>>());
    }

    #[test]
    fn what_may_go_since_a_commit_is_found_wherever_the_round_was() {
        let mut room = Room::new();
        room.use_keys(0..10);
        room.recency.freeze(Epoch(1));
        room.recency.commit(Epoch(1));
        room.use_keys(0..5);
        room.recency.freeze(Epoch(2));
        // The round has gone past what is not committed.
        assert_eq!(room.shrink(9), [5]);
        room.recency.commit(Epoch(2));
        room.use_keys(6..10);
        let mut gone = room.shrink(0);
        gone.sort_unstable();
        assert_eq!(gone, [0, 1, 2, 3, 4]);
    }
}
