//! Jobs whose parallelism follows their load: looks at them every second, asks `coordinator`, and
//! hands on what it decides. The users' own changes of the parallelism go the same way.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use coordinator::{
    Event, JobState,
    autoscale::{DecisionKind, Sample, Slots},
    caps::AUTOSCALE_SAMPLE_US,
    place::{Parallelism, PlanShape},
};
use proto::{policy::AutoscalePolicy, types::JobId};
use tokio::{
    sync::oneshot,
    time::{Interval, MissedTickBehavior, interval},
};

use super::{
    Driver, JobEntry, JobsError, Scale,
    decision_span::decision_span,
    requests::{AutoscaleDone, Wisher},
};
use crate::capacity::{Capacity, CapacityConfig};

/// Who is looked at, and when.
#[derive(Default)]
pub(super) struct Scaling {
    /// Jobs that follow their load.
    jobs: BTreeSet<JobId>,
    /// Workers that follow the jobs.
    capacity: Option<Capacity>,
    ticks: Option<Interval>,
}

impl Scaling {
    /// Looks at the job from now on, if it follows its load.
    pub(super) fn adopt(&mut self, entry: &JobEntry) {
        match entry.autoscale() {
            Some(_) => self.jobs.insert(entry.id),
            None => self.jobs.remove(&entry.id),
        };
    }

    /// Waits until it is time to look; for ever where there is nothing to look at.
    pub(super) async fn due(&mut self) {
        if self.jobs.is_empty() && self.capacity.is_none() {
            return std::future::pending().await;
        }
        let ticks = self.ticks.get_or_insert_with(|| {
            let mut ticks = interval(Duration::from_micros(AUTOSCALE_SAMPLE_US));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        });
        ticks.tick().await;
    }

    /// The room that a job has among all that want some.
    fn slots(&self, job: JobId, wanted: &BTreeMap<JobId, u32>, workers: usize) -> Slots {
        let Some(capacity) = &self.capacity else {
            return Slots::default();
        };
        let others = wanted.iter().filter(|(other, _)| **other != job);
        let others = others.fold(0_u32, |sum, (_, slots)| sum.saturating_add(*slots));
        capacity.slots(workers, others)
    }
}

impl Driver {
    /// Has the number of workers follow the jobs. Must be called on the runtime that the driver runs
    /// on.
    #[must_use]
    pub fn with_capacity(mut self, config: CapacityConfig) -> Driver {
        let capacity = Capacity::start(config);
        self.table.set_capacity(capacity.status());
        self.scaling.capacity = Some(capacity);
        self
    }

    /// Looks at jobs, and at the workers that they need.
    pub(super) fn look(&mut self) {
        let now_us = self.now_us();
        let entries = self.table.list().into_iter();
        let entries = entries.filter(|entry| !entry.state().is_terminal());
        let entries: Vec<Arc<JobEntry>> = entries.collect();
        let wanted = entries.iter().map(|entry| (entry.id, entry.slots_wanted()));
        let wanted: BTreeMap<JobId, u32> = wanted.collect();
        let workers = self.workers.ids().len();
        for entry in &entries {
            if self.scaling.jobs.contains(&entry.id) {
                let slots = self.scaling.slots(entry.id, &wanted, workers);
                self.look_at(entry, slots, now_us);
            }
        }
        self.scaling.jobs.retain(|job| wanted.contains_key(job));
        if let Some(capacity) = &mut self.scaling.capacity {
            capacity.follow(&wanted, now_us);
        }
    }

    fn look_at(&mut self, entry: &Arc<JobEntry>, slots: Slots, now_us: u64) {
        let sample = Sample {
            at_us: now_us,
            generation: entry.generation(),
            running: entry.state() == JobState::Running,
            parallelism: entry.parallelism(),
            slots,
            ..Sample::default()
        };
        let metrics = self.workers.metrics(entry.id);
        let (rescale, new) = entry.observe(sample, &metrics);
        for decision in new {
            let span = decision_span(entry.id, &decision);
            if decision.kind != DecisionKind::Advice {
                self.traces.decided(entry.id, decision.number, &span);
            }
        }
        if let Some(rescale) = rescale {
            let parallelism = with_fragments(entry.wanted_parallelism(), rescale.parallelism);
            let by = Wisher::Autoscaler(self.traces.decision(entry.id, rescale.decision));
            self.in_flight.rescale(entry.id, parallelism, by);
        }
    }

    /// How many tasks a job is to have was written down, or not.
    pub(super) fn on_rescaled(
        &mut self,
        job: JobId,
        parallelism: Parallelism,
        by: Wisher,
        result: Result<(), JobsError>,
    ) {
        let written = result.is_ok();
        let decision = match by {
            Wisher::Autoscaler(decision) => decision,
            Wisher::User(reply) => {
                if written {
                    self.stop_following(job);
                }
                // Nobody waits any more: it counts all the same.
                drop(reply.send(result));
                None
            }
        };
        if written {
            self.traces.rescale_wanted(job, decision);
            self.handle(job, Event::RescaleRequested(parallelism));
            let entry = self.table.get(job);
            if entry.is_none_or(|entry| entry.rescale().is_none()) {
                // There is nothing to change while it runs.
                self.traces.rescale_wanted(job, None);
            }
        }
    }

    /// The job does not follow its load any more.
    pub(super) fn stop_following(&mut self, job: JobId) {
        if let Some(entry) = self.table.get(job) {
            entry.set_autoscale(None);
            self.scaling.adopt(&entry);
        }
    }

    /// Takes a user's wish.
    pub(super) fn scale(
        &mut self,
        job: JobId,
        scale: Scale,
        reply: oneshot::Sender<Result<(), JobsError>>,
    ) {
        let entry = match self.table.get(job) {
            Some(entry) if entry.state().is_terminal() => Err(JobsError::Ended(job)),
            Some(entry) => Ok(entry),
            None => Err(JobsError::Unknown(job)),
        };
        let checked = entry.and_then(|entry| Ok((checked(&entry, scale)?, entry)));
        let (wish, entry) = match checked {
            Ok(checked) => checked,
            // Nobody waits any more.
            Err(error) => return drop(reply.send(Err(error))),
        };
        let policy = match wish {
            Wish::Follow(policy) => Some(policy),
            Wish::Have(parallelism) => {
                let by = Wisher::User(reply);
                return self.in_flight.rescale(entry.id, parallelism, by);
            }
        };
        if entry.autoscale() == policy {
            return drop(reply.send(Ok(())));
        }
        self.in_flight.autoscale(job, policy, reply);
    }

    /// What a job follows was written down, or not.
    pub(super) fn on_autoscale(&mut self, done: AutoscaleDone) {
        if done.result.is_ok()
            && let Some(entry) = self.table.get(done.job)
        {
            entry.set_autoscale(done.policy);
            self.scaling.adopt(&entry);
        }
        // Nobody waits any more: it counts all the same.
        drop(done.reply.send(done.result));
    }
}

/// The same with other numbers of tasks of some fragments.
fn with_fragments(mut wanted: Parallelism, fragments: BTreeMap<u32, u32>) -> Parallelism {
    wanted.fragments.extend(fragments);
    wanted
}

/// A wish that can be carried out.
enum Wish {
    Have(Parallelism),
    Follow(AutoscalePolicy),
}

fn checked(entry: &JobEntry, scale: Scale) -> Result<Wish, JobsError> {
    let shape = PlanShape::of(&entry.spec.plan);
    let wanted = match scale {
        Scale::All(tasks) => Parallelism::uniform(tasks),
        Scale::Fragments(fragments) => with_fragments(entry.wanted_parallelism(), fragments),
        Scale::Auto(policy) => {
            let refuse = |why: String| JobsError::Rescale { job: entry.id, why };
            let checked = policy.check(shape.parallelism_max());
            return match checked {
                Ok(()) => Ok(Wish::Follow(policy)),
                Err(error) => Err(refuse(error.to_string())),
            };
        }
    };
    wanted.check(&shape)?;
    Ok(Wish::Have(wanted))
}
