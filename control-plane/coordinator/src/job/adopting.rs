//! A new leader takes a job over that runs: the generation runs on if all of it is heard of in time
//! and fits together, else the next one begins.
//!
//! ```text
//! Created ─▶ Adopting ─▶ Running, or Deploying     the generation, as its workers tell of it
//!                └─────▶ BackingOff, or Beginning  the next one
//! ```
//! Workers say nothing of what an older leader asks of them any more once they have told of it. So
//! what they tell is all that has become of that leader's epochs, but for a commit, which the metadata
//! know: an epoch under way is gone on with, its barrier said again to those who may have missed it,
//! and the next number is one that nobody has heard of.

use std::collections::{BTreeMap, BTreeSet};

use proto::{
    control::WorkerEventKind,
    running::JobPart,
    types::{Epoch, WorkerId},
};

use super::{
    adoption::{Adopted, Noted, Told, Verdict, judge},
    job::{Job, Phase},
};
use crate::{Effect, caps::ADOPTION_PATIENCE_US, checkpoint::EpochInFlight};

/// What is known of the generation that a predecessor left behind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Adopting {
    told: Told,
    /// Until when workers are waited for that are missing.
    pub(super) until_us: u64,
}

impl Job {
    /// The job was running when this leader began to lead.
    pub(super) fn on_taken_over(&mut self, now_us: u64) {
        if self.phase == Phase::Created {
            self.enter(Phase::Adopting(Adopting {
                told: BTreeMap::new(),
                until_us: now_us.saturating_add(ADOPTION_PATIENCE_US),
            }));
        }
    }

    /// A worker has come, and has told what it runs of the job.
    pub(super) fn on_told(&mut self, worker: WorkerId, part: Option<JobPart>, now_us: u64) {
        let current = part.filter(|part| {
            let is_current = part.generation >= self.generation;
            if !is_current || !self.is_adopting() {
                // It is nobody's any more.
                let workers = BTreeSet::from([worker]);
                self.emit(Effect::StopAt { workers });
            }
            is_current
        });
        let Phase::Adopting(adopting) = &mut self.phase else {
            return;
        };
        if current.is_some() {
            self.deployed.insert(worker);
            self.workers.insert(worker);
        }
        adopting.told.insert(worker, current);
        self.consider_adoption(now_us);
    }

    /// A worker says more of what it runs before it is decided whether that runs on.
    pub(super) fn on_said_meanwhile(
        &mut self,
        worker: WorkerId,
        kind: &WorkerEventKind,
        now_us: u64,
    ) {
        if let Phase::Adopting(adopting) = &mut self.phase
            && let Some(Some(part)) = adopting.told.get_mut(&worker)
        {
            part.said(kind);
            self.consider_adoption(now_us);
        }
    }

    /// These workers are there, of those that have been waited for.
    pub(super) fn on_workers_meanwhile(&mut self, now_us: u64) {
        if let Some(gone) = self.deployed.difference(&self.workers).next().copied() {
            self.deployed.retain(|worker| self.workers.contains(worker));
            return self.start_anew(format!("{gone} is gone"), now_us);
        }
        if self.deployed.is_empty() && !self.workers.is_empty() {
            self.start_anew("no worker runs its tasks".to_owned(), now_us);
        }
    }

    pub(super) fn on_adoption_tick(&mut self, now_us: u64) {
        if let Phase::Adopting(adopting) = &self.phase
            && adopting.until_us <= now_us
        {
            let why = "not all of its workers were heard after a change of the leader";
            self.start_anew(why.to_owned(), now_us);
        }
    }

    /// Whether it is not decided yet if what runs of it runs on.
    #[must_use]
    pub fn is_adopting(&self) -> bool {
        matches!(self.phase, Phase::Adopting(_))
    }

    fn consider_adoption(&mut self, now_us: u64) {
        let Phase::Adopting(adopting) = &self.phase else {
            return;
        };
        let noted = Noted {
            generation: self.generation,
            committed: self.line.committed(),
            routing: self.routing.version,
            next: self.noted_routing,
            shape: &self.facts.shape,
            parallelism: [&self.routing.parallelism, &self.wanted],
        };
        match judge(&noted, &adopting.told) {
            Verdict::Wait => {}
            Verdict::Adopt(adopted) => self.adopt(*adopted, now_us),
            Verdict::Restart(why) => self.start_anew(why, now_us),
        }
    }

    /// What runs of the job must not run on as it is. It is suspended wherever it has been told of.
    fn start_anew(&mut self, why: String, now_us: u64) {
        self.last_error = Some(why);
        if self.deployed.is_empty() {
            return self.begin_generation();
        }
        self.enter(Phase::BackingOff { until_us: now_us });
        self.suspend();
    }

    /// The generation runs on.
    fn adopt(&mut self, adopted: Adopted, now_us: u64) {
        let generation = self.generation;
        self.deployed = adopted.routing.workers();
        self.last_routing = adopted.last_routing.max(self.last_routing);
        self.routing = adopted.routing;
        self.has_run |= adopted.restoring.is_empty();
        for (sink, epoch) in adopted.published {
            self.published.insert(sink, epoch);
            self.emit(Effect::RecordPublished {
                generation,
                sink,
                epoch,
            });
        }
        if let Some(routing) = adopted.prepared {
            self.emit(Effect::KeepRouting {
                generation,
                routing,
            });
        }
        if !adopted.idle.is_empty() {
            let workers = adopted.idle;
            self.emit(Effect::StopAt { workers });
        }
        let epoch = self.line.committed();
        // Else it is what the generation began with.
        if epoch >= self.line.next() {
            self.emit(Effect::SendCommitted { generation, epoch });
        }
        self.line.go_on_after(adopted.last_epoch);
        let tasks = self.routing.tasks.iter().map(|task| task.task);
        let unfinished = tasks.filter(|task| !adopted.finished.contains(task));
        let unfinished = unfinished.collect();
        if !adopted.restoring.is_empty() {
            return self.enter(Phase::Deploying {
                restoring: adopted.restoring,
                unfinished,
                barrier_wanted: adopted.output_full,
            });
        }
        self.enter_running(unfinished, now_us);
        if let Some(epoch) = adopted.under_way {
            self.resume_epoch(epoch, now_us);
        }
        for (task, section) in adopted.staged {
            self.on_staged(task, section, now_us);
        }
        self.go_on(adopted.output_full, now_us);
    }

    /// Goes on with an epoch whose barrier some tasks have, and perhaps all.
    fn resume_epoch(&mut self, epoch: Epoch, now_us: u64) {
        let generation = self.generation;
        let tasks: Vec<_> = self.routing.tasks.iter().map(|task| task.task).collect();
        // Whether it was to be the last one is not known: another one comes after it then.
        let in_flight = EpochInFlight::begin(epoch, false, tasks.into_iter(), now_us);
        if let Phase::Running(running) = &mut self.phase {
            running.in_flight = Some(in_flight);
            self.emit(Effect::SendBarrier {
                generation,
                epoch,
                routing: self.routing.version,
                // Tasks that were told otherwise first do as they were told.
                aligned: false,
            });
        }
    }

    /// Begins what is due at once in a generation that was taken over.
    fn go_on(&mut self, output_full: bool, now_us: u64) {
        let Phase::Running(running) = &mut self.phase else {
            return;
        };
        let all_finished = running.unfinished.is_empty();
        match running.in_flight.is_some() {
            true => running.barrier_wanted |= output_full,
            false if output_full || all_finished => self.begin_epoch(now_us),
            false => {}
        }
        self.consider_rerouting(now_us);
        self.stop_if_wanted(now_us);
    }
}
