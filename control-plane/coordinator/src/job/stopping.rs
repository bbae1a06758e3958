//! The end of a job: on request, or after its last output is outside.

use proto::types::WorkerId;

use super::job::{Job, Phase};
use crate::{Effect, JobState};

impl Job {
    pub(super) fn on_cancel_requested(&mut self) {
        match &self.phase {
            // Nothing of it runs: tasks are stopped before a restart is waited for.
            Phase::Created | Phase::BackingOff { .. } | Phase::Placing { .. } => {
                self.end(JobState::Canceled);
            }
            // What it finds out is for nobody.
            Phase::Listing { .. } => self.end(JobState::Canceled),
            Phase::Beginning => self.enter(Phase::Abandoning),
            Phase::Deploying { .. } | Phase::Running(_) | Phase::Publishing(_) => {
                self.stop(JobState::Canceled);
            }
            Phase::Abandoning | Phase::Stopping { .. } | Phase::Ended(_) => {}
        }
    }

    /// Stops the tasks, after which the job ends as `end`.
    pub(super) fn stop(&mut self, end: JobState) {
        self.enter(Phase::Stopping {
            end,
            running: self.deployed.clone(),
        });
        self.emit(Effect::Stop);
        self.end_if_stopped();
    }

    pub(super) fn stop_if_all_is_outside(&mut self) {
        if matches!(&self.phase, Phase::Publishing(publishing) if publishing.owing.is_empty()) {
            self.stop(JobState::Finished);
        }
    }

    pub(super) fn on_stopped(&mut self, worker: WorkerId) {
        if let Phase::Stopping { running, .. } = &mut self.phase {
            running.remove(&worker);
            self.end_if_stopped();
        }
    }

    /// Ends the job once nothing of it runs; a worker that is gone runs nothing that counts.
    pub(super) fn end_if_stopped(&mut self) {
        if let Phase::Stopping { end, running } = &self.phase
            && running.is_empty()
        {
            let end = *end;
            self.end(end);
        }
    }
}
