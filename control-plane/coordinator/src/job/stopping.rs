//! The end of a job: on request, or after its last output is outside.

use proto::types::WorkerId;

use super::job::{Job, Phase};
use crate::{Effect, JobState};

impl Job {
    pub(super) fn on_cancel_requested(&mut self) {
        match &self.phase {
            // Nothing of it runs: tasks are stopped before a restart is waited for.
            Phase::Created
            | Phase::BackingOff { .. }
            | Phase::Quarantined
            | Phase::Placing { .. } => {
                self.end(JobState::Canceled);
            }
            // What it finds out is for nobody.
            Phase::Listing { .. } => self.end(JobState::Canceled),
            Phase::Beginning => self.enter(Phase::Abandoning),
            Phase::Adopting(_)
            | Phase::Deploying { .. }
            | Phase::Running(_)
            | Phase::Publishing(_) => {
                self.stop(JobState::Canceled);
            }
            Phase::Abandoning | Phase::Stopping { .. } | Phase::Ended(_) => {}
        }
    }

    /// It is to end with a last checkpoint, as soon as it runs.
    pub(super) fn on_stop_requested(&mut self, drain: bool, now_us: u64) {
        match &self.phase {
            // It ends as it is.
            Phase::Abandoning
            | Phase::Publishing(_)
            | Phase::Quarantined
            | Phase::Stopping { .. }
            | Phase::Ended(_) => {}
            _ => {
                self.stop_wanted = Some(drain);
                self.stop_if_wanted(now_us);
            }
        }
    }

    /// Begins the last epoch of a job that is to stop, or has its sources end, after which it comes.
    pub(super) fn stop_if_wanted(&mut self, now_us: u64) {
        let generation = self.generation;
        let (Phase::Running(running), Some(drain)) = (&mut self.phase, self.stop_wanted) else {
            return;
        };
        if drain {
            return self.emit(Effect::StopSources { generation, drain });
        }
        match &running.in_flight {
            None => self.begin_epoch(now_us),
            // It was begun before: another one follows it.
            Some(in_flight) => running.barrier_wanted |= !in_flight.last,
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
