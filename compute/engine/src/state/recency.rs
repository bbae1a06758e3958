//! When the keys of an index were last used, in epochs of their task.
//!
//! A change of a key is a use of it, so keys whose last use is in a committed epoch are as they are
//! in the store, and may go from memory. Among them those go first that were used least recently.

use std::collections::VecDeque;

use proto::types::Epoch;

/// Last use of a slot that holds no key.
const NEVER: u32 = u32::MAX;
/// Slots that are looked at to find out what is old.
const SAMPLE: usize = 4096;
/// Slots that one search goes past.
const SEARCH_MAX: usize = 1 << 20;
/// At least so much of what is there is looked for in one round over it.
const PART_MIN: usize = 16;

/// Last uses by slot.
#[derive(Debug)]
pub(super) struct Recency {
    /// Mark of the epoch that is open.
    mark: u32,
    used: Vec<u32>,
    /// Marks of epochs that are closed and not known to be committed.
    closed: VecDeque<(u32, Epoch)>,
    /// Keys last used in this epoch or before are as they are in the store.
    committed: u32,
    committed_epoch: Epoch,
    /// Keys that went are remembered since this epoch.
    tracked_from: Option<u32>,
    hand: usize,
    /// What was last used in this epoch or before is old, in this round.
    old: u32,
    /// The last round has found nothing, and nothing has been committed since.
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
            old: 0,
            barren: false,
        }
    }
}

impl Recency {
    /// The slot's key is used.
    #[inline]
    pub(super) fn touch(&mut self, slot: u32) {
        self.used[slot as usize] = self.mark;
    }

    /// A slot gets a key.
    #[inline]
    pub(super) fn begin(&mut self, slot: u32) {
        if slot as usize == self.used.len() {
            self.used.push(self.mark);
        } else {
            self.used[slot as usize] = self.mark;
        }
    }

    /// A slot holds no key any more.
    pub(super) fn end(&mut self, slot: u32) {
        self.used[slot as usize] = NEVER;
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
        let next = self.mark.checked_add(1).filter(|mark| *mark < NEVER);
        self.mark = next.expect("fewer than 2^32 epochs in one task's life");
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
    }

    /// Slots whose keys are old and in the store, about `most` of them if there are so many. From the
    /// first call on keys that go must be remembered; none is found before all that went earlier
    /// without being remembered is committed.
    pub(super) fn find_old(&mut self, most: usize, mut found: impl FnMut(u32)) {
        let since = *self.tracked_from.get_or_insert(self.mark);
        if self.committed < since || self.barren {
            return;
        }
        let (mut left, mut any) = (most, false);
        let begun = self.hand;
        if begun == 0 {
            self.old = self.age(most);
        }
        let end = self.used.len().min(begun + SEARCH_MAX);
        while self.hand < end && left > 0 {
            if self.used[self.hand] <= self.old {
                found(self.hand as u32);
                left -= 1;
                any = true;
            }
            self.hand += 1;
        }
        if self.hand == self.used.len() {
            self.hand = 0;
            self.barren = begun == 0 && !any;
        }
    }

    /// Whether the slot's key is old, in this round.
    pub(super) fn is_old(&self, slot: u32) -> bool {
        self.used[slot as usize] <= self.old
    }

    /// Whether the slot's key may go.
    pub(super) fn may_go(&self, slot: u32) -> bool {
        self.used[slot as usize] <= self.committed
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        self.used.len() * 4
    }

    /// The last use that makes about `most` keys old.
    fn age(&self, most: usize) -> u32 {
        let step = (self.used.len() / SAMPLE).max(1);
        let live = self.used.iter().step_by(step).copied();
        let mut sample: Vec<u32> = live.filter(|used| *used != NEVER).collect();
        if sample.is_empty() {
            return self.committed;
        }
        let at = (most / step).max(sample.len() / PART_MIN);
        let at = at.min(sample.len() - 1);
        let (_, age, _) = sample.select_nth_unstable(at);
        (*age).min(self.committed)
    }
}
