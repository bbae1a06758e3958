//! What a shard is and what it should be, and the next step from the one to the other. Pure but for
//! the page store that it holds.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use proto::{
    log::{LogHolding, LogObject},
    state_control::{JobLine, ShardManifest},
    types::{Epoch, Generation, JobId, KeyGroupCount, ShardId, TaskId},
};
use state_client::Section;

use super::tail::{Layers, Marks, OpenSection, Tail};
use crate::{budget::Lease, pages::PageStore};

/// An object of the log that this node wrote and still has in memory.
#[derive(Debug)]
pub(crate) struct Kept<T> {
    pub(crate) parts: Vec<T>,
    _lease: Lease,
}

impl<T> Kept<T> {
    pub(crate) fn new(parts: Vec<T>, lease: Lease) -> Self {
        Kept {
            parts,
            _lease: lease,
        }
    }
}

/// A committed epoch with rows of the shard.
#[derive(Clone, Debug)]
pub(crate) struct LogEntry {
    /// In whose log.
    pub(crate) job: JobId,
    pub(crate) epoch: Epoch,
    /// Objects that hold the rows, and what the node has of them in memory.
    pub(crate) objects: Vec<(LogObject, Option<Arc<Kept<Section>>>)>,
    /// Commits that the shard had heard of before.
    pub(crate) commits: u64,
    /// Trace context of the checkpoint, where it has just been made.
    pub(crate) trace: Option<String>,
}

/// What a shard hears of a committed epoch.
pub(crate) struct Commit {
    /// In whose log it is.
    pub(crate) job: JobId,
    pub(crate) epoch: Epoch,
    /// All objects of the epoch, and what the node has of them in memory.
    pub(crate) objects: Vec<(LogObject, Option<Arc<Kept<Section>>>)>,
    /// W3C trace context of the checkpoint.
    pub(crate) trace: Option<String>,
}

/// What a shard is asked to be.
#[derive(Debug)]
pub(super) struct ShardState {
    pub(super) id: ShardId,
    pub(super) key_groups: KeyGroupCount,
    pub(super) shards: u32,
    pub(super) generation: Generation,
    /// How often the control plane wanted it served.
    pub(super) orders: u64,
    /// Whether the node is to serve it.
    pub(super) wanted: bool,
    /// Requests wait until so much is applied.
    pub(super) ready_at: Epoch,
    /// The newest committed epoch that the node has heard of.
    pub(super) committed: Epoch,
    /// How many commits it has heard of.
    commits: u64,
    /// Committed epochs after the durable one that have rows of the shard, in order.
    log: VecDeque<LogEntry>,
    /// Whether serving has not been reported yet.
    pub(super) announce: bool,
    /// Why it is not served until another order comes.
    pub(super) lost: Option<String>,
    /// What the database is cloned from, should it not be there.
    pub(super) base: Option<ShardManifest>,
    pub(super) open: Option<OpenState>,
    /// Failures since the last flush that succeeded.
    pub(super) failures: u32,
    /// The last durable epoch that was reported, and the commits before it.
    reported: (Epoch, u64),
    /// Databases whose files it refers to, as was reported.
    pub(super) parents: Vec<JobLine>,
    openings: u64,
}

/// What an open shard has.
pub(super) struct OpenState {
    pub(super) pages: PageStore,
    /// Which opening it is: what belongs to an earlier one is void.
    pub(super) opening: u64,
    pub(super) tail: Tail,
    /// What a flush is taking to the pages.
    pub(super) frozen: Option<Arc<Tail>>,
    /// How many tails were frozen.
    pub(super) freezes: u64,
    pub(super) marks: Marks,
    /// Reads see all up to it.
    pub(super) applied: Epoch,
    /// The pages have all up to it.
    pub(super) durable: Epoch,
    pub(super) maintained: bool,
}

impl std::fmt::Debug for OpenState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenState")
            .field("applied", &self.applied)
            .field("durable", &self.durable)
            .finish_non_exhaustive()
    }
}

impl OpenState {
    /// What lies over the pages.
    pub(super) fn layers(&self) -> Layers<'_> {
        let frozen = self.frozen.as_deref().into_iter();
        Layers {
            marks: &self.marks,
            tails: frozen.chain([&self.tail]).collect(),
        }
    }
}

/// What the driver does next.
#[derive(Debug)]
pub(super) enum Step {
    /// The shard is not wanted any more: close it and end.
    End,
    /// Open the page store.
    Open,
    /// Take these epochs in.
    Apply(Vec<LogEntry>),
    /// Report that it is served.
    Announce,
    /// Report that it is durable up to an epoch.
    ReportDurable(Epoch),
    /// Wait for something to happen.
    Rest,
}

/// What a shard holds in memory, by which flushes are chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Load {
    /// Bytes of the tail.
    pub(crate) tail_bytes: usize,
    /// Bytes of the tail that is being flushed.
    pub(crate) frozen_bytes: usize,
    /// Commits since the tail's first section.
    pub(crate) age: u64,
    /// Whether a flush could begin.
    pub(crate) can_flush: bool,
}

impl ShardState {
    pub(super) fn new(id: ShardId, key_groups: KeyGroupCount, shards: u32) -> Self {
        ShardState {
            id,
            key_groups,
            shards,
            generation: Generation::default(),
            orders: 0,
            wanted: true,
            ready_at: Epoch::ZERO,
            committed: Epoch::ZERO,
            commits: 0,
            log: VecDeque::new(),
            announce: false,
            lost: None,
            base: None,
            open: None,
            failures: 0,
            reported: (Epoch::ZERO, 0),
            parents: Vec::new(),
            openings: 0,
        }
    }

    /// The shard is to be served by a generation, from `committed` on.
    pub(super) fn order_open(&mut self, generation: Generation, committed: Epoch) {
        self.orders += 1;
        if generation < self.generation {
            return;
        }
        self.generation = generation;
        self.ready_at = self.ready_at.max(committed);
        self.announce = true;
        self.lost = None;
        self.failures = 0;
        self.committed = self.committed.max(committed);
    }

    /// An epoch is committed. `previous` was the one before it, if that is known.
    pub(super) fn commit(&mut self, previous: Option<Epoch>, commit: Commit) -> Result<(), String> {
        let epoch = commit.epoch;
        let known = self.log.back().map(|entry| entry.epoch);
        if known.is_some_and(|known| epoch <= known) {
            return Ok(());
        }
        if let Some(previous) = previous {
            if epoch <= self.committed {
                return Ok(());
            }
            if previous != self.committed {
                let why = format!(
                    "epoch {epoch} was committed after {previous}, but {} is the last known",
                    self.committed
                );
                return Err(why);
            }
        }
        if (self.open.as_ref()).is_some_and(|open| epoch <= open.durable) {
            return Ok(());
        }
        let commits = self.commits;
        self.commits += 1;
        self.committed = self.committed.max(epoch);
        let holds_rows = |object: &LogObject| match &object.holds {
            LogHolding::Rows(shards) => shards.contains(&self.id),
            LogHolding::Output(_) => false,
        };
        let objects: Vec<_> = commit
            .objects
            .into_iter()
            .filter(|(object, _)| holds_rows(object))
            .collect();
        if !objects.is_empty() {
            self.log.push_back(LogEntry {
                job: commit.job,
                epoch,
                objects,
                commits,
                trace: commit.trace,
            });
        }
        Ok(())
    }

    /// The next step; `most` epochs are taken in at once.
    pub(super) fn step(&self, most: usize, flush_epochs: u64) -> Step {
        if !self.wanted {
            return Step::End;
        }
        if self.lost.is_some() {
            return Step::Rest;
        }
        let Some(open) = &self.open else {
            return Step::Open;
        };
        let applied = open.applied;
        let pending = self.log.iter().filter(|entry| entry.epoch > applied);
        let pending: Vec<LogEntry> = pending.take(most).cloned().collect();
        if !pending.is_empty() {
            return Step::Apply(pending);
        }
        if applied < self.committed {
            return Step::Apply(Vec::new());
        }
        if self.announce {
            return Step::Announce;
        }
        let durable = self.durable();
        // What has no rows is durable as it is; telling so each time would be much talk.
        let (epoch, commits) = self.reported;
        let due = open.durable > epoch || self.commits - commits >= flush_epochs;
        if durable > epoch && due {
            return Step::ReportDurable(durable);
        }
        Step::Rest
    }

    /// All up to this epoch is in the pages, or was never there.
    pub(super) fn durable(&self) -> Epoch {
        let Some(open) = &self.open else {
            return Epoch::ZERO;
        };
        match self.log.front() {
            // A shard without rows in an epoch has nothing of it to keep.
            Some(entry) => open.durable.max(Epoch(entry.epoch.0 - 1)),
            None => open.applied,
        }
    }

    pub(super) fn set_reported(&mut self, durable: Epoch) {
        self.reported = (durable, self.commits);
    }

    /// The page store was opened with all up to `durable`.
    pub(super) fn opened(&mut self, pages: PageStore, durable: Epoch, marks: Marks) {
        self.openings += 1;
        self.open = Some(OpenState {
            pages,
            opening: self.openings,
            tail: Tail::default(),
            frozen: None,
            freezes: 0,
            marks,
            applied: durable,
            durable,
            maintained: false,
        });
        self.forget_log(durable);
    }

    /// Takes epochs in that the driver has read.
    pub(super) fn apply(&mut self, epochs: Vec<(LogEntry, Vec<OpenSection>)>) {
        let Some(open) = &mut self.open else {
            return;
        };
        for (entry, sections) in epochs {
            let marks = &mut open.marks;
            open.tail.apply(entry.epoch, entry.commits, sections, marks);
            open.applied = entry.epoch;
            // What is in the tail need not be held by the log as well.
            let applied = self.log.iter_mut().find(|other| other.epoch == entry.epoch);
            if let Some(applied) = applied {
                applied
                    .objects
                    .iter_mut()
                    .for_each(|(_, kept)| *kept = None);
            }
        }
        let pending = self
            .log
            .back()
            .is_some_and(|last| last.epoch > open.applied);
        if !pending {
            open.applied = open.applied.max(self.committed);
        }
    }

    /// The pages have all up to `durable`.
    pub(super) fn forget_log(&mut self, durable: Epoch) {
        while self.log.front().is_some_and(|first| first.epoch <= durable) {
            self.log.pop_front();
        }
    }

    pub(super) fn load(&self) -> Load {
        let Some(open) = &self.open else {
            return Load {
                tail_bytes: 0,
                frozen_bytes: 0,
                age: 0,
                can_flush: false,
            };
        };
        Load {
            tail_bytes: open.tail.bytes(),
            frozen_bytes: open.frozen.as_ref().map_or(0, |frozen| frozen.bytes()),
            age: open.tail.age(self.commits),
            can_flush: open.frozen.is_none() && open.tail.epochs().is_some(),
        }
    }

    /// Which of an epoch's sections are the shard's, each task's once.
    pub(crate) fn distinct(sections: Vec<Section>) -> Vec<Section> {
        let by_task: BTreeMap<TaskId, Section> = sections
            .into_iter()
            .map(|section| (section.task, section))
            .collect();
        by_task.into_values().collect()
    }
}
