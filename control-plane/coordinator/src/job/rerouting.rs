//! A running job gets another routing at a barrier: other numbers of tasks, or other workers.
//!
//! ```text
//! Preparing ─▶ Ready ─▶ Recording ─▶ UnderWay ─▶ in force
//!     └── given up ◀─┘       (from here on a failure begins a new generation)
//! ```
//! What is needed is opened first, while the job runs on. Then the metadata note epoch and routing,
//! and only then the barrier leaves: whoever leads next knows which routing belongs to a commit of
//! that epoch. With the commit the routing is in force.

use std::collections::BTreeSet;

use proto::types::{Epoch, TaskId, WorkerId};

use super::job::{Job, Phase};
use crate::{
    Effect,
    caps::PREPARE_DEADLINE_US,
    checkpoint::EpochInFlight,
    place::{Parallelism, Routing},
};

/// A change of the routing that is under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Rerouting {
    pub(super) routing: Routing,
    pub(super) step: Step,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Workers open what they need for it; these have not said yet that they have.
    Preparing {
        waiting: BTreeSet<WorkerId>,
        until_us: u64,
    },
    /// The next barrier is to carry it.
    Ready,
    /// The metadata are noting it with this epoch.
    Recording(Epoch),
    /// The barrier of this epoch carries it.
    UnderWay(Epoch),
}

/// How far a change of the routing is, for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RescaleStage {
    /// Workers open what they need; the job runs as before.
    Preparing,
    /// A barrier makes it count.
    Changing,
}

impl Job {
    /// The user, or the autoscaler, wants other numbers of tasks.
    pub(super) fn on_rescale_requested(&mut self, parallelism: Parallelism, now_us: u64) {
        self.wanted = parallelism;
        self.rescale_error = None;
        self.consider_rerouting(now_us);
    }

    /// These workers are to have no tasks, for they want to leave.
    pub(super) fn on_leaving(&mut self, leaving: BTreeSet<WorkerId>, now_us: u64) {
        self.leaving = leaving;
        self.consider_rerouting(now_us);
    }

    /// Workers that may get tasks. Those that want to leave only if there are no others.
    pub(super) fn usable_workers(&self) -> BTreeSet<WorkerId> {
        let usable: BTreeSet<WorkerId> = self.workers.difference(&self.leaving).copied().collect();
        if usable.is_empty() {
            return self.workers.clone();
        }
        usable
    }

    /// The routing that the job should have now, with the number of the next one.
    pub(super) fn wanted_routing(&self) -> Routing {
        let routing = match self.wanted == self.routing.parallelism {
            true => self.routing.clone(),
            false => self.routing.rescaled(&self.facts.shape, &self.wanted),
        };
        Routing {
            version: self.last_routing + 1,
            ..routing.placed(&self.usable_workers())
        }
    }

    /// Begins to change the routing, if the job should have another one and can be given it.
    pub(super) fn consider_rerouting(&mut self, now_us: u64) {
        let Phase::Running(running) = &self.phase else {
            return;
        };
        if self.rerouting.is_some() || running.unfinished.is_empty() {
            return;
        }
        let routing = self.wanted_routing();
        if routing.agrees(&self.routing) {
            self.routing.parallelism = routing.parallelism;
            return;
        }
        self.last_routing = routing.version;
        let mut waiting = self.routing.workers();
        waiting.extend(routing.workers());
        self.deployed.extend(waiting.iter().copied());
        self.emit(Effect::Prepare {
            generation: self.generation,
            restored: self.line.committed(),
            routing: routing.clone(),
            workers: waiting.clone(),
        });
        self.rerouting = Some(Rerouting {
            routing,
            step: Step::Preparing {
                waiting,
                until_us: now_us.saturating_add(PREPARE_DEADLINE_US),
            },
        });
    }

    pub(super) fn on_prepared(&mut self, worker: WorkerId, routing: u32, now_us: u64) {
        let Some(rerouting) = &mut self.rerouting else {
            return;
        };
        let Step::Preparing { waiting, .. } = &mut rerouting.step else {
            return;
        };
        if rerouting.routing.version != routing {
            return;
        }
        waiting.remove(&worker);
        if waiting.is_empty() {
            rerouting.step = Step::Ready;
            self.begin_epoch_if_none(now_us);
        }
    }

    pub(super) fn on_not_prepared(&mut self, routing: u32, error: String) {
        let of_this = |rerouting: &Rerouting| rerouting.routing.version == routing;
        if self.rerouting.as_ref().is_some_and(of_this) {
            self.give_up_rerouting(error);
        }
    }

    /// When the wait for workers ends.
    pub(super) fn prepare_until_us(&self) -> Option<u64> {
        match self.rerouting.as_ref()?.step {
            Step::Preparing { until_us, .. } => Some(until_us),
            _ => None,
        }
    }

    pub(super) fn on_prepare_tick(&mut self, now_us: u64) {
        if self.prepare_until_us().is_some_and(|until| until <= now_us) {
            let seconds = PREPARE_DEADLINE_US / 1_000_000;
            self.give_up_rerouting(format!("workers were not ready within {seconds} s"));
        }
    }

    /// Number of the routing that tasks have, or get with the barrier that is under way.
    pub(super) fn newest_routing(&self) -> u32 {
        let rerouting = self.rerouting.as_ref();
        let under_way = rerouting.filter(|next| matches!(next.step, Step::UnderWay(_)));
        under_way.map_or(self.routing.version, |next| next.routing.version)
    }

    /// Whether the next barrier is to carry another routing.
    pub(super) fn is_ready_to_reroute(&self) -> bool {
        let rerouting = self.rerouting.as_ref();
        rerouting.is_some_and(|rerouting| rerouting.step == Step::Ready)
    }

    /// Whether a barrier carries another routing at this moment, or is about to.
    pub(super) fn is_rerouted_by_barrier(&self) -> bool {
        let step = self.rerouting.as_ref().map(|rerouting| &rerouting.step);
        matches!(step, Some(Step::Recording(_) | Step::UnderWay(_)))
    }

    /// Whether no epoch may begin, since the next one waits for the metadata.
    pub(super) fn is_recording(&self) -> bool {
        let rerouting = self.rerouting.as_ref();
        rerouting.is_some_and(|rerouting| matches!(rerouting.step, Step::Recording(_)))
    }

    /// The next barrier is to carry the routing that is ready: has it noted first.
    pub(super) fn record_routing(&mut self) -> bool {
        let Phase::Running(running) = &self.phase else {
            return false;
        };
        // At the end of its input a job needs no other tasks.
        if running.unfinished.is_empty() {
            return false;
        }
        let Some(rerouting) = self.rerouting.as_mut() else {
            return false;
        };
        if rerouting.step != Step::Ready {
            return false;
        }
        let epoch = self.line.take();
        rerouting.step = Step::Recording(epoch);
        let routing = rerouting.routing.clone();
        self.emit(Effect::RecordRouting {
            generation: self.generation,
            epoch,
            routing,
        });
        true
    }

    /// The metadata have noted the routing: the barrier leaves.
    pub(super) fn on_routing_recorded(&mut self, epoch: Epoch, now_us: u64) {
        let Some(rerouting) = &mut self.rerouting else {
            return;
        };
        if rerouting.step != Step::Recording(epoch) {
            return;
        }
        rerouting.step = Step::UnderWay(epoch);
        let routing = rerouting.routing.version;
        let tasks = self.routing.tasks.iter().map(|task| task.task);
        let mut in_flight = EpochInFlight::begin(epoch, false, tasks, now_us);
        in_flight.aligned = true;
        let new_tasks = rerouting.routing.tasks.iter().map(|task| task.task);
        let new_tasks: BTreeSet<TaskId> = new_tasks.collect();
        let interval_us = self.options.checkpoint_interval_ms.saturating_mul(1000);
        if let Phase::Running(running) = &mut self.phase {
            running.in_flight = Some(in_flight);
            running.barrier_wanted = false;
            running.barrier_due_us = (interval_us > 0).then(|| now_us.saturating_add(interval_us));
            // Tasks tell again, after the barrier, that they have finished.
            running.unfinished = new_tasks;
        }
        self.emit(Effect::SendBarrier {
            generation: self.generation,
            epoch,
            routing,
            aligned: true,
        });
    }

    /// Whether the epoch must be committed although nothing has changed in it.
    pub(super) fn carries_routing(&self, epoch: Epoch) -> bool {
        let rerouting = self.rerouting.as_ref();
        rerouting.is_some_and(|rerouting| rerouting.step == Step::UnderWay(epoch))
    }

    /// The epoch is committed, and with it the routing that it carried. Workers that have no place in
    /// it are told to stop.
    pub(super) fn take_routing(&mut self, epoch: Epoch) {
        if !self.carries_routing(epoch) {
            return;
        }
        let Some(rerouting) = self.rerouting.take() else {
            return;
        };
        self.noted.clone_from(&rerouting.routing);
        self.routing = rerouting.routing;
        self.release_workers();
    }

    /// Stops the job's generation on workers that have no task of it.
    fn release_workers(&mut self) {
        let has_tasks = self.routing.workers();
        let idle: BTreeSet<WorkerId> = self.deployed.difference(&has_tasks).copied().collect();
        if !idle.is_empty() {
            self.deployed.retain(|worker| has_tasks.contains(worker));
            self.emit(Effect::StopAt { workers: idle });
        }
    }

    /// The job stays as it is, and is not tried to be changed again by itself.
    pub(super) fn give_up_rerouting(&mut self, error: String) {
        match self.rerouting.as_ref().map(|rerouting| &rerouting.step) {
            Some(Step::Preparing { .. } | Step::Ready) => {}
            // It may be in force by now: only a new generation finds out.
            Some(Step::Recording(_) | Step::UnderWay(_)) | None => return,
        }
        if let Some(rerouting) = self.rerouting.take() {
            let version = rerouting.routing.version;
            self.emit(Effect::KeepRouting {
                generation: self.generation,
                routing: version,
            });
            self.release_workers();
            self.forget_wish(&rerouting.routing, error);
        }
    }

    /// The generation has ended; the next one starts from `restored`. A routing whose barrier was
    /// under way is in force if its epoch was committed.
    pub(super) fn settle_rerouting(&mut self, restored: Epoch) {
        let Some(rerouting) = self.rerouting.take() else {
            return;
        };
        match rerouting.step {
            Step::UnderWay(epoch) if restored >= epoch => {
                self.noted.clone_from(&rerouting.routing);
                self.routing = rerouting.routing;
            }
            _ => {
                let error = self.last_error.clone();
                let error = error.unwrap_or_else(|| "the job has started again".to_owned());
                self.forget_wish(&rerouting.routing, error);
            }
        }
    }

    /// Other numbers of tasks than those of the routing are not wanted any more, if they were those
    /// that could not be had.
    fn forget_wish(&mut self, failed: &Routing, error: String) {
        self.rescale_error = Some(error.clone());
        if failed.parallelism == self.wanted && self.wanted != self.routing.parallelism {
            self.wanted = self.routing.parallelism.clone();
            self.emit(Effect::RescaleFailed {
                error,
                parallelism: self.wanted.clone(),
            });
        }
    }

    /// The routing in force.
    #[must_use]
    pub fn routing(&self) -> &Routing {
        &self.routing
    }

    /// How many tasks its fragments are to have.
    #[must_use]
    pub fn wanted_parallelism(&self) -> &Parallelism {
        &self.wanted
    }

    /// How far a change of the routing is, if one is under way.
    #[must_use]
    pub fn rescale_stage(&self) -> Option<RescaleStage> {
        match self.rerouting.as_ref()?.step {
            Step::Preparing { .. } => Some(RescaleStage::Preparing),
            Step::Ready | Step::Recording(_) | Step::UnderWay(_) => Some(RescaleStage::Changing),
        }
    }

    /// Why the last change of the routing was given up.
    #[must_use]
    pub fn rescale_error(&self) -> Option<&str> {
        self.rescale_error.as_deref()
    }
}
