//! The job's record and the one entry point of events.

use std::collections::{BTreeMap, BTreeSet};

use proto::{
    control::{JobOptions, TaskSpec, WorkerEventKind},
    plan::{Plan, connector_spec::Connector, node::Operator},
    running::StagedSection,
    types::{Epoch, Generation, SinkId, TaskId, WorkerId},
};

use super::{adopting::Adopting, rerouting::Rerouting};
use crate::{
    CheckpointRecord, CheckpointSummary, Effect, Event, JobState,
    checkpoint::{EpochInFlight, EpochLine},
    history::CheckpointHistory,
    meta::JobRecord,
    place::{self, Parallelism, PlaceError, PlanShape, Routing},
    restart::Restarts,
};

/// What the decisions need to know of a plan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JobFacts {
    /// Fragments and key groups.
    pub shape: PlanShape,
    /// Sinks whose output is staged and published after the commit; others emit at once.
    pub publishing: BTreeSet<SinkId>,
    /// Whether it reads anything, so that somebody must find out what there is.
    pub has_sources: bool,
}

impl JobFacts {
    /// Of `plan`, run with `parallelism`.
    ///
    /// # Errors
    /// When the parallelism does not fit the plan.
    pub fn of_plan(plan: &Plan, parallelism: u32) -> Result<JobFacts, PlaceError> {
        let nodes = plan.fragments.iter().flat_map(|fragment| &fragment.nodes);
        let sinks = nodes.filter_map(|node| match &node.operator {
            Some(Operator::Sink(sink)) => Some(sink),
            _ => None,
        });
        let publishing = (0..).map(SinkId).zip(sinks).filter_map(|(id, sink)| {
            let connector = sink.connector.as_ref()?.connector.as_ref()?;
            let staged = matches!(connector, Connector::Filesystem(_) | Connector::Collect(_));
            staged.then_some(id)
        });
        let mut nodes = plan.fragments.iter().flat_map(|fragment| &fragment.nodes);
        place::tasks(plan, parallelism)?;
        Ok(JobFacts {
            shape: PlanShape::of(plan),
            publishing: publishing.collect(),
            has_sources: nodes.any(|node| matches!(node.operator, Some(Operator::Source(_)))),
        })
    }
}

/// A job: feed it events, carry out the effects.
#[derive(Clone, Debug)]
pub struct Job {
    pub(super) facts: JobFacts,
    pub(super) options: JobOptions,
    pub(super) phase: Phase,
    pub(super) generation: Generation,
    pub(super) line: EpochLine,
    /// Up to which epoch output is outside, as far as this generation's publishers have said.
    pub(super) published: BTreeMap<SinkId, Epoch>,
    /// Workers that are there.
    pub(super) workers: BTreeSet<WorkerId>,
    /// Those of them that want to leave.
    pub(super) leaving: BTreeSet<WorkerId>,
    /// Workers that the current generation was sent to.
    pub(super) deployed: BTreeSet<WorkerId>,
    /// Workers that hold what the last generation had.
    pub(super) suspended: BTreeSet<WorkerId>,
    /// The routing in force; before the first generation, what it begins with.
    pub(super) routing: Routing,
    /// The routing that the metadata have for the last committed epoch.
    pub(super) noted: Routing,
    /// Committed epochs, and one that may be, whose barriers have overtaken anything: only the tasks
    /// that saved it can go on with it.
    pub(super) overtaken: BTreeSet<Epoch>,
    /// The next barrier is to overtake nothing.
    pub(super) aligned_wanted: bool,
    /// The highest number that a routing was given.
    pub(super) last_routing: u32,
    /// How many tasks there are to be.
    pub(super) wanted: Parallelism,
    pub(super) rerouting: Option<Rerouting>,
    /// What the metadata had noted of a change when this leader began: with which epoch, its number.
    pub(super) noted_routing: Option<(Epoch, u32)>,
    /// Why the last change of the routing was given up.
    pub(super) rescale_error: Option<String>,
    /// Whether rows have ever flowed.
    pub(super) has_run: bool,
    /// The epoch that it began with. If it has committed none since, there is nothing to keep.
    pub(super) born: Epoch,
    /// Whether it has sources of which that knew nothing.
    pub(super) has_new_sources: bool,
    /// Whether its state is worth something to anybody once it has been given up.
    pub(super) is_kept: bool,
    /// It is to end with a last checkpoint; whether its sources end first.
    pub(super) stop_wanted: Option<bool>,
    pub(super) restarts: Restarts,
    pub(super) history: CheckpointHistory,
    pub(super) last_error: Option<String>,
    pub(super) effects: Vec<Effect>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Created,
    /// It runs, as a predecessor left it: workers tell what of it.
    Adopting(Adopting),
    /// The store is beginning the generation.
    Beginning,
    /// As before, but the job is no longer wanted: it ends when the store has answered, so that
    /// nothing is begun after it was dropped.
    Abandoning,
    /// The generation may start from this epoch, as soon as there is a worker.
    Placing {
        restored: Epoch,
    },
    /// A worker finds out what the sources can read.
    Listing {
        /// Epoch to restore from.
        restored: Epoch,
        worker: WorkerId,
    },
    /// Workers are restoring the tasks; some may have finished before others are restored.
    Deploying {
        /// Workers that have not said yet that their tasks run.
        restoring: BTreeSet<WorkerId>,
        unfinished: BTreeSet<TaskId>,
        barrier_wanted: bool,
    },
    Running(Running),
    /// The last epoch is committed; its output is on the way out.
    Publishing(Publishing),
    /// Waits until then to begin again.
    BackingOff {
        until_us: u64,
    },
    /// Given up until the user resumes it. What of it may still run is fenced then.
    Quarantined,
    /// Workers are stopping the tasks, after which the job ends so.
    Stopping {
        end: JobState,
        /// Workers that have not said yet that they have.
        running: BTreeSet<WorkerId>,
    },
    /// Over; the state is a terminal one.
    Ended(JobState),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Running {
    pub(super) since_us: u64,
    pub(super) in_flight: Option<EpochInFlight>,
    /// When the next barrier goes out; `None`: only at the end of the input.
    pub(super) barrier_due_us: Option<u64>,
    /// A barrier is to follow the epoch in flight at once.
    pub(super) barrier_wanted: bool,
    /// Tasks that have not finished yet.
    pub(super) unfinished: BTreeSet<TaskId>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Publishing {
    pub(super) running_since_us: u64,
    /// The job's last epoch.
    pub(super) epoch: Epoch,
    /// Sinks that still owe output.
    pub(super) owing: BTreeSet<SinkId>,
}

impl Job {
    /// A job that waits to be submitted. `seed` varies the waits before restarts.
    #[must_use]
    pub fn new(facts: JobFacts, options: JobOptions, seed: u64) -> Job {
        let wanted = Parallelism::uniform(options.parallelism);
        let routing = Routing::first(&facts.shape, &wanted);
        Job {
            noted: routing.clone(),
            routing,
            overtaken: BTreeSet::new(),
            aligned_wanted: false,
            last_routing: 0,
            wanted,
            rerouting: None,
            noted_routing: None,
            rescale_error: None,
            leaving: BTreeSet::new(),
            suspended: BTreeSet::new(),
            restarts: Restarts::new(&options, seed),
            is_kept: options.quarantine,
            facts,
            options,
            phase: Phase::Created,
            generation: Generation::default(),
            line: EpochLine::default(),
            published: BTreeMap::new(),
            workers: BTreeSet::new(),
            deployed: BTreeSet::new(),
            has_run: false,
            born: Epoch::ZERO,
            has_new_sources: false,
            stop_wanted: None,
            history: CheckpointHistory::default(),
            last_error: None,
            effects: Vec::new(),
        }
    }

    /// A job as it was written down: one that has ended, or one that waits to be submitted and goes
    /// on from its last checkpoint.
    #[must_use]
    pub fn of_record(facts: JobFacts, record: &JobRecord, seed: u64) -> Job {
        let mut job = Job::new(facts, record.spec.options.clone(), seed);
        job.generation = record.generation;
        job.born = record
            .origin
            .as_ref()
            .map(|origin| origin.epoch)
            .unwrap_or_default();
        job.has_new_sources = !record.new_sources.is_empty();
        job.has_run = record.committed > job.born;
        // Rows of a SELECT are for whoever reads them now.
        job.is_kept &= record.spec.select.is_none();
        job.line.begin_generation(record.committed, record.first);
        if let Some(routing) = &record.routing {
            job.last_routing = routing.version;
            job.routing.clone_from(routing);
            job.noted.clone_from(routing);
            job.wanted.clone_from(&routing.parallelism);
        }
        if record.overtaken.contains_key(&record.committed) {
            job.overtaken.insert(record.committed);
        }
        job.noted_routing = record
            .next_routing
            .as_ref()
            .map(|(epoch, routing)| (*epoch, routing.version));
        if let Some(parallelism) = &record.parallelism {
            job.wanted.clone_from(parallelism);
        }
        if let Some(outcome) = &record.outcome {
            job.phase = Phase::Ended(outcome.state);
            job.last_error.clone_from(&outcome.error);
        } else if let Some(quarantine) = &record.quarantine {
            job.phase = Phase::Quarantined;
            job.last_error = Some(quarantine.error.clone());
        }
        job
    }

    /// Takes an event and says what to do, in order. `now_us` never goes back; its zero is the
    /// shell's choice.
    pub fn handle(&mut self, event: Event, now_us: u64) -> Vec<Effect> {
        match event {
            Event::Submitted => self.on_submitted(),
            Event::TakenOver => self.on_taken_over(now_us),
            Event::Told { worker, part } => self.on_told(worker, part.map(|part| *part), now_us),
            Event::CancelRequested => self.on_cancel_requested(),
            Event::StopRequested { drain } => self.on_stop_requested(drain, now_us),
            Event::AlignedWanted => self.on_aligned_wanted(now_us),
            Event::Resumed => self.on_resumed(),
            Event::Tick => self.on_tick(now_us),
            Event::Workers(workers) => self.on_workers(workers, now_us),
            Event::Leaving(workers) => self.on_leaving(workers, now_us),
            Event::RescaleRequested(parallelism) => {
                self.on_rescale_requested(parallelism, now_us);
            }
            Event::RoutingRecorded { generation, epoch } if generation == self.generation => {
                self.on_routing_recorded(epoch, now_us);
            }
            Event::Worker {
                worker,
                generation,
                kind,
            } if generation == self.generation => self.on_worker(worker, kind, now_us),
            Event::StateBegun {
                generation,
                restored,
                first,
            } if generation == self.generation => self.on_state_begun(restored, first),
            Event::EpochCommitted { generation, epoch } if generation == self.generation => {
                self.on_epoch_committed(epoch, now_us);
            }
            Event::StateFailed {
                generation,
                error,
                retryable,
            } if generation == self.generation => self.on_state_failed(error, retryable, now_us),
            // Of a generation that was replaced: what it did no longer counts.
            Event::Worker { .. }
            | Event::StateBegun { .. }
            | Event::EpochCommitted { .. }
            | Event::RoutingRecorded { .. }
            | Event::StateFailed { .. } => {}
        }
        std::mem::take(&mut self.effects)
    }

    fn on_worker(&mut self, worker: WorkerId, kind: WorkerEventKind, now_us: u64) {
        if self.is_adopting() {
            return self.on_said_meanwhile(worker, &kind, now_us);
        }
        match kind {
            WorkerEventKind::SplitsListed(splits) => self.on_splits_listed(worker, splits),
            WorkerEventKind::Running => self.on_running(worker, now_us),
            WorkerEventKind::Staged {
                task,
                epoch,
                objects,
                overtaken_bytes,
            } => {
                let section = StagedSection {
                    epoch,
                    objects,
                    overtaken_bytes,
                };
                self.on_staged(task, section, now_us);
            }
            WorkerEventKind::Finished { task, routing } => {
                self.on_finished(task, routing, now_us);
            }
            WorkerEventKind::Failed {
                task: _,
                error,
                retry,
            } => self.on_tasks_failed(worker, error, retry, now_us),
            WorkerEventKind::Published { sink, epoch } => self.on_published(sink, epoch),
            WorkerEventKind::Stopped => self.on_stopped(worker),
            WorkerEventKind::OutputFull => self.on_output_full(now_us),
            WorkerEventKind::Prepared { routing } => self.on_prepared(worker, routing, now_us),
            WorkerEventKind::NotPrepared { routing, error } => self.on_not_prepared(routing, error),
            // The shell keeps them; they decide nothing.
            WorkerEventKind::DeadLetters(_)
            | WorkerEventKind::SinkTroubled { .. }
            | WorkerEventKind::Settled { .. } => {}
        }
    }

    /// Whether an epoch is on its way from barrier to commit.
    #[must_use]
    pub fn is_checkpointing(&self) -> bool {
        matches!(&self.phase, Phase::Running(running) if running.in_flight.is_some())
    }

    /// When [`Event::Tick`] has something to do.
    #[must_use]
    pub fn wake_at_us(&self) -> Option<u64> {
        match &self.phase {
            Phase::Running(running) => {
                let idle = running.in_flight.is_none() && !self.is_recording();
                let barrier = running.barrier_due_us.filter(|_| idle);
                barrier.into_iter().chain(self.prepare_until_us()).min()
            }
            Phase::Adopting(adopting) => Some(adopting.until_us),
            Phase::BackingOff { until_us } => Some(*until_us),
            _ => None,
        }
    }

    /// The state that users see.
    #[must_use]
    pub fn state(&self) -> JobState {
        match &self.phase {
            Phase::Created => JobState::Created,
            Phase::Adopting(_)
            | Phase::Beginning
            | Phase::Placing { .. }
            | Phase::Listing { .. }
            | Phase::Deploying { .. } => JobState::Starting,
            Phase::Running(_) => JobState::Running,
            Phase::Publishing(_)
            | Phase::Stopping {
                end: JobState::Finished,
                ..
            } => JobState::Finishing,
            Phase::BackingOff { .. } => JobState::Restarting,
            Phase::Quarantined => JobState::Quarantined,
            Phase::Stopping { .. } | Phase::Abandoning => JobState::Canceling,
            Phase::Ended(state) => *state,
        }
    }

    /// The current generation; zero before the first.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The last committed epoch.
    #[must_use]
    pub fn committed(&self) -> Epoch {
        self.line.committed()
    }

    /// Restarts in a row.
    #[must_use]
    pub fn restarts(&self) -> u32 {
        self.restarts.count()
    }

    /// Why it failed last.
    #[must_use]
    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// Workers that the current generation was sent to, if any of it may still run.
    #[must_use]
    pub fn deployed(&self) -> &BTreeSet<WorkerId> {
        &self.deployed
    }

    /// How many of its tasks each worker has, as far as they may run.
    #[must_use]
    pub fn tasks_by_worker(&self) -> BTreeMap<WorkerId, usize> {
        let mut tasks = BTreeMap::new();
        if !matches!(
            self.phase,
            Phase::BackingOff { .. } | Phase::Quarantined | Phase::Ended(_)
        ) {
            let there = self.routing.place.values();
            for worker in there.filter(|worker| self.deployed.contains(worker)) {
                *tasks.entry(*worker).or_default() += 1;
            }
        }
        tasks
    }

    /// Why it waits for something outside, for people.
    #[must_use]
    pub fn waits_for(&self) -> Option<&'static str> {
        matches!(self.phase, Phase::Placing { .. }).then_some("no worker is connected")
    }

    /// Every task.
    #[must_use]
    pub fn tasks(&self) -> &[TaskSpec] {
        &self.routing.tasks
    }

    /// The remembered checkpoints, oldest first.
    pub fn checkpoints(&self) -> impl DoubleEndedIterator<Item = &CheckpointRecord> {
        self.history.records()
    }

    /// Figures over the remembered checkpoints.
    #[must_use]
    pub fn checkpoint_summary(&self) -> CheckpointSummary {
        self.history.summary()
    }

    /// Moves to `phase` and reports the state if that changes it.
    pub(super) fn enter(&mut self, phase: Phase) {
        let before = self.state();
        self.phase = phase;
        let after = self.state();
        if after != before {
            self.effects.push(Effect::ReportState(after));
        }
    }

    pub(super) fn emit(&mut self, effect: Effect) {
        self.effects.push(effect);
    }
}
