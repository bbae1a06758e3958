//! From submission to running tasks: fence the older generation, fix the restore epoch, deploy.

use proto::types::Epoch;

use super::job::{Job, Phase, Running};
use crate::{Effect, JobState};

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
        self.enter(Phase::Deploying {
            unfinished: self.facts.tasks.iter().map(|task| task.task).collect(),
            barrier_wanted: false,
        });
        self.emit(Effect::Deploy {
            generation: self.generation,
            restored,
            tasks: self.facts.tasks.clone(),
        });
    }

    pub(super) fn on_running(&mut self, now_us: u64) {
        let Phase::Deploying {
            unfinished,
            barrier_wanted,
        } = &mut self.phase
        else {
            return;
        };
        let barrier_wanted = *barrier_wanted;
        let unfinished = std::mem::take(unfinished);
        let all_finished = unfinished.is_empty();
        self.has_run = true;
        let interval_us = self.options.checkpoint_interval_ms.saturating_mul(1000);
        self.enter(Phase::Running(Running {
            since_us: now_us,
            in_flight: None,
            barrier_due_us: (interval_us > 0).then(|| now_us.saturating_add(interval_us)),
            barrier_wanted: false,
            unfinished,
        }));
        if all_finished || barrier_wanted {
            self.begin_epoch(now_us);
        }
    }
}
