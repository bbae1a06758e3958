//! From submission to running tasks: fence the older generation, fix the restore epoch, deploy.

use std::collections::BTreeSet;

use proto::{
    control::SourceSplits,
    types::{Epoch, TaskId, WorkerId},
};

use super::job::{Job, Phase, Running};
use crate::{Effect, JobState, place::Routing};

impl Job {
    pub(super) fn on_submitted(&mut self) {
        if self.phase == Phase::Created {
            self.begin_generation();
        }
    }

    /// Starts the next generation, whatever became of the last one.
    pub(super) fn begin_generation(&mut self) {
        self.generation = self.generation.next();
        self.published.clear();
        self.deployed.clear();
        self.enter(Phase::Beginning);
        self.emit(Effect::BeginGeneration {
            generation: self.generation,
        });
    }

    pub(super) fn on_state_begun(&mut self, restored: Epoch, first: Epoch) {
        match self.phase {
            Phase::Beginning => {}
            Phase::Abandoning => return self.end(JobState::Canceled),
            _ => return,
        }
        self.line.begin_generation(restored, first);
        self.overtaken.retain(|epoch| *epoch == restored);
        self.aligned_wanted = false;
        self.settle_rerouting(restored);
        self.enter(Phase::Placing { restored });
        self.place();
    }

    /// Sends the tasks out, if there is anybody to run them. What a job reads is settled before:
    /// where its tasks are on several workers, they must not each look for themselves.
    pub(super) fn place(&mut self) {
        let Phase::Placing { restored } = self.phase else {
            return;
        };
        if self.workers.is_empty() {
            return;
        }
        let routing = self.routing_to_restore();
        let Some(worker) = routing.place.values().next().copied() else {
            return;
        };
        let spread = routing.workers().len() > 1;
        let unknown = match restored {
            Epoch::ZERO => self.facts.has_sources,
            restored => restored == self.born && self.has_new_sources,
        };
        if unknown && spread {
            self.enter(Phase::Listing { restored, worker });
            self.emit(Effect::ListSplits {
                generation: self.generation,
                restored,
                worker,
                tasks: routing.tasks,
            });
        } else {
            self.deploy(restored, routing, None);
        }
    }

    /// The routing that the generation begins with. What a barrier has overtaken was saved by tasks,
    /// not by key groups: the same tasks go on with it, wherever they run, and another number of them
    /// comes with a barrier after that.
    fn routing_to_restore(&self) -> Routing {
        if self.overtaken.is_empty() {
            return self.wanted_routing();
        }
        Routing {
            version: self.last_routing + 1,
            ..self.noted.placed(&self.usable_workers())
        }
    }

    pub(super) fn on_splits_listed(&mut self, worker: WorkerId, splits: Vec<SourceSplits>) {
        if let Phase::Listing {
            restored,
            worker: asked,
        } = self.phase
            && asked == worker
        {
            let routing = self.routing_to_restore();
            self.deploy(restored, routing, Some(splits));
        }
    }

    fn deploy(&mut self, restored: Epoch, routing: Routing, splits: Option<Vec<SourceSplits>>) {
        self.deployed = routing.workers();
        let needed = self.deployed.clone();
        self.let_go(&needed);
        self.last_routing = routing.version;
        self.routing.clone_from(&routing);
        self.enter(Phase::Deploying {
            restoring: self.deployed.clone(),
            unfinished: routing.tasks.iter().map(|task| task.task).collect(),
            barrier_wanted: false,
        });
        self.emit(Effect::Deploy {
            generation: self.generation,
            restored,
            has_overtaken: self.overtaken.contains(&restored),
            routing,
            splits,
        });
    }

    pub(super) fn on_running(&mut self, worker: WorkerId, now_us: u64) {
        let Phase::Deploying {
            restoring,
            unfinished,
            barrier_wanted,
        } = &mut self.phase
        else {
            return;
        };
        restoring.remove(&worker);
        if !restoring.is_empty() {
            return;
        }
        let barrier_wanted = *barrier_wanted;
        let unfinished = std::mem::take(unfinished);
        let all_finished = unfinished.is_empty();
        self.has_run = true;
        self.enter_running(unfinished, now_us);
        if all_finished || barrier_wanted {
            self.begin_epoch(now_us);
        }
        self.consider_rerouting(now_us);
        self.stop_if_wanted(now_us);
    }

    /// All tasks run, and no epoch is under way.
    pub(super) fn enter_running(&mut self, unfinished: BTreeSet<TaskId>, now_us: u64) {
        let interval_us = self.options.checkpoint_interval_ms.saturating_mul(1000);
        self.enter(Phase::Running(Running {
            since_us: now_us,
            in_flight: None,
            barrier_due_us: (interval_us > 0).then(|| now_us.saturating_add(interval_us)),
            barrier_wanted: false,
            unfinished,
        }));
    }
}
