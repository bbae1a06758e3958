//! The end of a job: on request, or after its last output is outside.

use super::job::{Job, Phase};
use crate::{Effect, JobState};

impl Job {
    pub(super) fn on_cancel_requested(&mut self) {
        match &self.phase {
            // Nothing of it runs: tasks are stopped before a restart is waited for.
            Phase::Created | Phase::BackingOff { .. } => self.end(JobState::Canceled),
            Phase::Beginning => self.enter(Phase::Abandoning),
            Phase::Deploying { .. } | Phase::Running(_) | Phase::Publishing(_) => {
                self.stop(JobState::Canceled);
            }
            Phase::Abandoning | Phase::Stopping { .. } | Phase::Ended(_) => {}
        }
    }

    /// Stops the tasks, after which the job ends as `end`.
    pub(super) fn stop(&mut self, end: JobState) {
        self.enter(Phase::Stopping { end });
        self.emit(Effect::Stop);
    }

    pub(super) fn stop_if_all_is_outside(&mut self) {
        if matches!(&self.phase, Phase::Publishing(publishing) if publishing.owing.is_empty()) {
            self.stop(JobState::Finished);
        }
    }

    pub(super) fn on_stopped(&mut self) {
        if let Phase::Stopping { end } = self.phase {
            self.end(end);
        }
    }
}
