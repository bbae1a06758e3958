//! Epochs that shards or sinks have reached, gathered until it is time to write them down.

use std::{collections::BTreeMap, time::Duration};

use proto::types::Epoch;
use tokio::time::Instant;

/// Marks by shard or sink; each only rises.
pub(super) struct Marks<K> {
    reached: BTreeMap<K, Epoch>,
    due: Option<Instant>,
    gathered: Duration,
}

impl<K: Ord> Marks<K> {
    /// Marks that wait for `gathered` after the first of them.
    pub(super) fn new(gathered: Duration) -> Self {
        Marks {
            reached: BTreeMap::new(),
            due: None,
            gathered,
        }
    }

    /// `of` has reached an epoch.
    pub(super) fn raise(&mut self, of: K, epoch: Epoch, now: Instant) {
        let known = self.reached.entry(of).or_default();
        *known = (*known).max(epoch);
        self.due.get_or_insert(now + self.gathered);
    }

    /// All of them, to be written down.
    pub(super) fn take(&mut self) -> BTreeMap<K, Epoch> {
        self.due = None;
        std::mem::take(&mut self.reached)
    }

    /// What is known of it does not hold any more.
    pub(super) fn forget(&mut self, of: &K) {
        self.reached.remove(of);
    }

    /// They were not written down.
    pub(super) fn put_back(&mut self, marks: BTreeMap<K, Epoch>, now: Instant) {
        for (of, epoch) in marks {
            self.raise(of, epoch, now);
        }
    }

    /// When they are to be written down, if there are any.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }
}
