//! Failures: a new generation after a wait, or the end.

use proto::control::Retry;

use super::job::{Job, Phase};
use crate::{Effect, JobState};

impl Job {
    /// A task failed. What else of the generation still runs is stopped, but not waited for: it can
    /// do no harm, since the next generation fences it.
    pub(super) fn on_tasks_failed(&mut self, error: String, retry: Retry, now_us: u64) {
        match &self.phase {
            Phase::Created
            | Phase::Beginning
            | Phase::Abandoning
            | Phase::BackingOff { .. }
            | Phase::Ended(_) => {}
            // It had to stop and now it has; the output was complete, or nobody wants it.
            Phase::Stopping { end } => {
                let end = *end;
                self.end(end);
            }
            Phase::Deploying { .. } | Phase::Running(_) | Phase::Publishing(_) => {
                self.emit(Effect::Stop);
                let retryable = match retry {
                    Retry::Never => false,
                    Retry::IfItRan => self.has_run,
                    Retry::Always => true,
                };
                if !self.back_off(error, retryable, now_us) {
                    self.end(JobState::Failed);
                }
            }
        }
    }

    /// The store failed. Tasks that were deployed still run.
    pub(super) fn on_state_failed(&mut self, error: String, retryable: bool, now_us: u64) {
        match &self.phase {
            Phase::Beginning
            | Phase::Deploying { .. }
            | Phase::Running(_)
            | Phase::Publishing(_) => {
                let deployed = self.phase != Phase::Beginning;
                match (self.back_off(error, retryable, now_us), deployed) {
                    (true, true) => self.emit(Effect::Stop),
                    (false, true) => self.stop(JobState::Failed),
                    (true, false) => {}
                    (false, false) => self.end(JobState::Failed),
                }
            }
            Phase::Abandoning => self.end(JobState::Canceled),
            Phase::Created
            | Phase::BackingOff { .. }
            | Phase::Stopping { .. }
            | Phase::Ended(_) => {}
        }
    }

    /// Waits for another try; `false` when there is none.
    fn back_off(&mut self, error: String, retryable: bool, now_us: u64) -> bool {
        self.last_error = Some(error);
        let since_us = match &self.phase {
            Phase::Running(running) => running.since_us,
            Phase::Publishing(publishing) => publishing.running_since_us,
            _ => now_us,
        };
        if !retryable {
            return false;
        }
        let Some(delay_us) = self.restarts.next_delay_us(now_us.saturating_sub(since_us)) else {
            return false;
        };
        self.enter(Phase::BackingOff {
            until_us: now_us.saturating_add(delay_us),
        });
        true
    }

    /// The job is over and nothing of it runs.
    pub(super) fn end(&mut self, state: JobState) {
        self.emit(Effect::DropState);
        self.enter(Phase::Ended(state));
    }
}
