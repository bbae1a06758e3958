//! The epochs of a job: their numbers, which are never used twice, and the one that is on its way
//! from barrier to commit. Knows no tasks' work, only their names.

use std::collections::BTreeSet;

use proto::{
    log::LogObject,
    running::StagedSection,
    types::{Epoch, TaskId},
};

use crate::caps::EPOCHS_IN_FLIGHT_MAX;

// A second epoch in flight needs a queue where there is an `Option` below.
const _: () = assert!(EPOCHS_IN_FLIGHT_MAX == 1);

/// Numbers of a job's epochs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct EpochLine {
    /// The newest committed epoch.
    committed: Epoch,
    /// The epoch to use next.
    next: Epoch,
}

impl EpochLine {
    /// A generation begins from `restored`, with `first` as its first epoch: above everything that
    /// any earlier one may have named.
    pub(crate) fn begin_generation(&mut self, restored: Epoch, first: Epoch) {
        self.committed = restored;
        self.next = first;
    }

    /// Uses up the next number.
    pub(crate) fn take(&mut self) -> Epoch {
        let epoch = self.next;
        self.next = epoch.next();
        epoch
    }

    /// The number that is used up next; before the first use, the generation's first epoch.
    pub(crate) fn next(&self) -> Epoch {
        self.next
    }

    /// `last` is the highest number that anybody has heard of. One that nobody has heard of stands for
    /// nothing, whoever may have used it up.
    pub(crate) fn go_on_after(&mut self, last: Epoch) {
        self.next = self.next.max(last.next());
    }

    /// `epoch` is committed.
    pub(crate) fn commit(&mut self, epoch: Epoch) {
        self.committed = self.committed.max(epoch);
    }

    /// The newest committed epoch.
    pub(crate) fn committed(&self) -> Epoch {
        self.committed
    }
}

/// An epoch between its barrier and its commit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct EpochInFlight {
    /// Its number.
    pub(crate) epoch: Epoch,
    /// When its barrier was sent.
    pub(crate) begun_us: u64,
    /// Nothing comes after it: all input had been read before its barrier.
    pub(crate) last: bool,
    /// Its barrier overtakes nothing, as far as is known.
    pub(crate) aligned: bool,
    /// Tasks whose section is missing; empty: it is being committed.
    unstaged: BTreeSet<TaskId>,
    /// What holds the sections that came.
    objects: BTreeSet<LogObject>,
    /// Bytes in them of what the barrier has overtaken.
    pub(crate) overtaken_bytes: u64,
    /// When the last section came.
    pub(crate) staged_us: Option<u64>,
}

impl EpochInFlight {
    /// The barrier of `epoch` is sent now.
    pub(crate) fn begin(
        epoch: Epoch,
        last: bool,
        tasks: impl Iterator<Item = TaskId>,
        now_us: u64,
    ) -> Self {
        EpochInFlight {
            epoch,
            begun_us: now_us,
            last,
            aligned: false,
            unstaged: tasks.collect(),
            objects: BTreeSet::new(),
            overtaken_bytes: 0,
            staged_us: None,
        }
    }

    /// A section is staged, perhaps again. Whether it was the last one missing.
    pub(crate) fn staged(&mut self, task: TaskId, section: StagedSection, now_us: u64) -> bool {
        // Staged again it may be in other objects; those of the first time are as good.
        if section.epoch != self.epoch || !self.unstaged.remove(&task) {
            return false;
        }
        self.objects.extend(section.objects);
        self.overtaken_bytes += section.overtaken_bytes;
        if !self.unstaged.is_empty() {
            return false;
        }
        self.staged_us = Some(now_us);
        true
    }

    /// What holds the epoch's sections; empty: no task had changed anything.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &LogObject> {
        self.objects.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_staged_twice_counts_once() {
        let tasks = [TaskId(0), TaskId(1)];
        let mut epoch = EpochInFlight::begin(Epoch(16), false, tasks.into_iter(), 0);
        let section = |epoch| StagedSection {
            epoch: Epoch(epoch),
            objects: Vec::new(),
            overtaken_bytes: 7,
        };
        assert!(!epoch.staged(TaskId(0), section(16), 1));
        assert!(!epoch.staged(TaskId(0), section(16), 2));
        assert!(!epoch.staged(TaskId(1), section(15), 3));
        assert!(epoch.staged(TaskId(1), section(16), 4));
        assert!(!epoch.staged(TaskId(1), section(16), 5));
        assert_eq!((epoch.staged_us, epoch.overtaken_bytes), (Some(4), 14));
    }
}
