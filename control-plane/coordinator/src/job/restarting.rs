//! Failures: a new generation after a wait, or the end.

use std::collections::BTreeSet;

use proto::{
    control::Retry,
    types::{Epoch, WorkerId},
};

use super::job::{Job, Phase};
use crate::{
    Effect, JobState,
    restart::{Cause, Failure},
};

impl Job {
    /// A task failed. What else of the generation still runs is stopped, but not waited for: it can
    /// do no harm, since the next generation fences it.
    pub(super) fn on_tasks_failed(
        &mut self,
        worker: WorkerId,
        error: String,
        retry: Retry,
        now_us: u64,
    ) {
        match &self.phase {
            Phase::Created
            | Phase::Adopting(_)
            | Phase::Beginning
            | Phase::Abandoning
            | Phase::BackingOff { .. }
            | Phase::Quarantined
            | Phase::Ended(_) => {}
            // It had to stop and now it has; the output was complete, or nobody wants it.
            Phase::Stopping { .. } => self.on_stopped(worker),
            // The next generation waits for workers, or is on its way to others.
            Phase::Placing { .. } => {}
            Phase::Listing { .. }
            | Phase::Deploying { .. }
            | Phase::Running(_)
            | Phase::Publishing(_) => {
                let cause = match retry {
                    Retry::Never => None,
                    Retry::IfItRan => self.has_run.then_some(Cause::Job),
                    Retry::Always => Some(Cause::Job),
                    Retry::Platform => Some(Cause::Platform),
                };
                if self.back_off(error, cause, now_us) {
                    self.suspend();
                } else {
                    self.emit(Effect::Stop);
                    self.give_up();
                }
            }
        }
    }

    /// The store failed. Tasks that were deployed still run.
    pub(super) fn on_state_failed(&mut self, error: String, retryable: bool, now_us: u64) {
        match &self.phase {
            Phase::Beginning
            | Phase::Placing { .. }
            | Phase::Listing { .. }
            | Phase::Deploying { .. }
            | Phase::Running(_)
            | Phase::Publishing(_) => {
                let deployed = !self.deployed.is_empty();
                let cause = retryable.then_some(Cause::Platform);
                match (self.back_off(error, cause, now_us), deployed) {
                    (true, true) => self.suspend(),
                    (false, true) if !self.has_state() => self.stop(JobState::Failed),
                    (false, true) => {
                        self.emit(Effect::Stop);
                        self.give_up();
                    }
                    (true, false) => {}
                    (false, false) => self.give_up(),
                }
            }
            Phase::Abandoning => self.end(JobState::Canceled),
            Phase::Created
            | Phase::Adopting(_)
            | Phase::BackingOff { .. }
            | Phase::Quarantined
            | Phase::Stopping { .. }
            | Phase::Ended(_) => {}
        }
    }

    /// Other workers are there than before. If one is gone that had tasks of the job, they all
    /// start again, where there are workers.
    pub(super) fn on_workers(&mut self, workers: BTreeSet<WorkerId>, now_us: u64) {
        self.workers = workers;
        match &mut self.phase {
            Phase::Adopting(_) => return self.on_workers_meanwhile(now_us),
            Phase::Placing { .. } => return self.place(),
            Phase::Listing { worker, .. } if !self.workers.contains(worker) => {
                self.enter(Phase::Placing {
                    restored: Epoch::ZERO,
                });
                return self.place();
            }
            Phase::Stopping { running, .. } => {
                running.retain(|worker| self.workers.contains(worker));
                return self.end_if_stopped();
            }
            _ => {}
        }
        let gone = self.deployed.difference(&self.workers).next().copied();
        let Some(gone) = gone else {
            return self.consider_rerouting(now_us);
        };
        self.deployed.retain(|worker| self.workers.contains(worker));
        let has_lost_tasks = !self.routing.workers().is_subset(&self.workers);
        if !has_lost_tasks && !self.is_rerouted_by_barrier() {
            // It was to get its first ones.
            self.give_up_rerouting(format!("{gone} is gone"));
            return self.consider_rerouting(now_us);
        }
        if matches!(
            self.phase,
            Phase::Deploying { .. } | Phase::Running(_) | Phase::Publishing(_)
        ) {
            let error = format!("{gone} is gone");
            self.back_off(error, Some(Cause::Platform), now_us);
            self.suspend();
        }
    }

    /// Waits for another try; `false` when there is none.
    fn back_off(&mut self, error: String, cause: Option<Cause>, now_us: u64) -> bool {
        self.last_error = Some(error);
        let since_us = match &self.phase {
            Phase::Running(running) => running.since_us,
            Phase::Publishing(publishing) => publishing.running_since_us,
            _ => now_us,
        };
        let ran_us = now_us.saturating_sub(since_us);
        let delay_us = cause.and_then(|cause| {
            self.restarts.next_delay_us(Failure {
                now_us,
                ran_us,
                cause,
            })
        });
        let Some(delay_us) = delay_us else {
            return false;
        };
        self.enter(Phase::BackingOff {
            until_us: now_us.saturating_add(delay_us),
        });
        true
    }

    /// Tasks stop, and what they hold waits where it is for the next generation.
    pub(super) fn suspend(&mut self) {
        self.suspended.clone_from(&self.deployed);
        self.emit(Effect::Suspend);
    }

    /// Workers that hold something for a generation that does not need it let go of it.
    pub(super) fn let_go(&mut self, but: &BTreeSet<WorkerId>) {
        let suspended = std::mem::take(&mut self.suspended);
        let workers: BTreeSet<WorkerId> = suspended.difference(but).copied().collect();
        if !workers.is_empty() {
            self.emit(Effect::StopAt { workers });
        }
    }

    /// Whether it has state that a user may want to go on with.
    fn has_state(&self) -> bool {
        self.is_kept && self.line.committed() > self.born
    }

    /// There is no other try: whoever has state is kept for its user to decide about.
    fn give_up(&mut self) {
        match self.has_state() {
            true => {
                self.stop_wanted = None;
                // What is held of the last state may not be what it goes on from.
                self.let_go(&BTreeSet::new());
                self.enter(Phase::Quarantined);
            }
            false => self.end(JobState::Failed),
        }
    }

    /// The user wants it to run again; what it failed at before does not count.
    pub(super) fn on_resumed(&mut self) {
        if self.phase == Phase::Quarantined {
            self.restarts.forget();
            self.begin_generation();
        }
    }

    /// The job is over and nothing of it runs.
    pub(super) fn end(&mut self, state: JobState) {
        self.let_go(&BTreeSet::new());
        self.emit(Effect::DropState);
        self.enter(Phase::Ended(state));
    }
}
