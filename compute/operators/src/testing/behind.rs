//! A state store that hears of commits late: reads are answered as of the epoch that they ask for, and not much
//! later, as by a state node whose shards are behind.

use std::collections::VecDeque;

use futures::executor::block_on;
use proto::types::{Epoch, KeyGroupCount};
use state_client::{EpochDelta, Incarnation, MemoryStore, StateControl as _, StateStore as _};

/// The store, and what it has not heard of.
pub(super) struct Behind {
    store: MemoryStore,
    waiting: VecDeque<(Incarnation, EpochDelta)>,
}

impl Behind {
    pub(super) fn new(key_groups: KeyGroupCount) -> Behind {
        Behind {
            store: MemoryStore::new(key_groups),
            waiting: VecDeque::new(),
        }
    }

    /// A generation begins, from all that was committed before.
    pub(super) fn begin(&mut self, who: Incarnation) {
        while self.go_on() {}
        block_on(self.store.begin(who)).expect("a generation");
    }

    /// An epoch is committed: the store will hear of it.
    pub(super) fn commit(&mut self, who: Incarnation, delta: EpochDelta) {
        self.waiting.push_back((who, delta));
    }

    /// Hears of the next epoch, if there is one.
    pub(super) fn go_on(&mut self) -> bool {
        let Some((who, delta)) = self.waiting.pop_front() else {
            return false;
        };
        let epoch = delta.epoch;
        let objects = block_on(self.store.stage(who, delta)).expect("staged");
        block_on(self.store.commit(who, epoch, objects, 0)).expect("committed");
        true
    }

    /// Hears of all epochs up to one that is committed.
    pub(super) fn catch_up(&mut self, epoch: Epoch) {
        let is_due = |delta: &EpochDelta| delta.epoch <= epoch;
        while self.waiting.front().is_some_and(|(_, delta)| is_due(delta)) {
            self.go_on();
        }
    }

    /// What answers.
    pub(super) fn store(&self) -> &MemoryStore {
        &self.store
    }
}
