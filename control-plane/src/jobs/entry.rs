//! What is known about a job. The driver writes, everybody reads.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use coordinator::{
    CheckpointRecord, CheckpointSummary, Job, JobState, RescaleStage,
    autoscale::{Autoscaler, Decision, Pipeline, Rescale, Sample},
    census::{Census, Stored},
    meta::{JobRecord, JobSpec, Origin, SelectColumns},
    place::Parallelism,
};
use proto::{
    control::{DeadLetter, JobMetrics},
    plan::{Node, fields},
    policy::AutoscalePolicy,
    types::{Epoch, Generation, JobId, TaskId, WorkerId},
};
use tokio::sync::watch;

use crate::{
    caps::{DEAD_LETTERS_MAX, EXCEPTIONS_MAX, RESULT_ROWS_MAX},
    results::Feed,
};

/// A failure of a job.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExceptionRecord {
    /// When, on the driver's clock.
    pub at_us: u64,
    /// Generation that failed.
    pub generation: Generation,
    /// Task that failed; `None`: it was not a task.
    pub task: Option<TaskId>,
    /// Why.
    pub error: String,
}

/// A job as others see it.
#[derive(Debug)]
pub struct JobEntry {
    /// Number.
    pub id: JobId,
    /// What was submitted.
    pub spec: JobSpec,
    /// When it was submitted, on the driver's clock.
    pub created_us: u64,
    /// The same for people, in ms since 1970.
    pub created_ms: u64,
    /// Tells it from every job of every process.
    pub(super) run: u64,
    /// When its sources began, in ms since 1970.
    pub(super) sources_since_ms: u64,
    /// What it began with.
    pub origin: Option<Origin>,
    /// Ids of sources of which that knew nothing.
    new_sources: Vec<String>,
    /// Rows of a SELECT.
    pub feed: Option<Arc<Feed>>,
    pub(super) state: watch::Sender<JobState>,
    pub(super) core: Mutex<Job>,
    record: Mutex<Record>,
    scaling: Mutex<ScalingRecord>,
    /// How much is stored of its operators.
    census: Mutex<Census>,
}

/// How the job follows its load.
#[derive(Debug, Default)]
struct ScalingRecord {
    /// Within what; `None`: not at all.
    policy: Option<AutoscalePolicy>,
    /// What was decided, as long as this process leads.
    scaler: Option<Autoscaler>,
}

#[derive(Debug, Default)]
struct Record {
    exceptions: VecDeque<ExceptionRecord>,
    /// Figures kept from the last look before the worker forgot them.
    metrics: JobMetrics,
    dead_letters: VecDeque<DeadLetter>,
    dead_letter_count: u64,
    checkpoints_failed: u64,
    checkpoint_bytes: u64,
    ended_us: Option<u64>,
}

impl JobEntry {
    /// A job of the metadata. `now_us`: the driver's clock.
    pub(super) fn new(record: &JobRecord, core: Job, now_us: u64) -> JobEntry {
        let feed = |select: &SelectColumns| {
            let columns = fields(&select.columns).unwrap_or_default();
            let feed = Feed::new(columns, select.upsert_key.clone(), RESULT_ROWS_MAX);
            Arc::new(feed)
        };
        let state = match &record.outcome {
            Some(outcome) => outcome.state,
            None if record.quarantine.is_some() => JobState::Quarantined,
            None => JobState::Created,
        };
        JobEntry {
            id: record.id,
            feed: record.spec.select.as_ref().map(feed),
            spec: record.spec.clone(),
            created_us: now_us,
            created_ms: record.created_ms,
            run: record.run,
            sources_since_ms: record.sources_since_ms(),
            origin: record.origin.clone(),
            new_sources: record.new_sources.clone(),
            state: watch::Sender::new(state),
            core: Mutex::new(core),
            record: Mutex::default(),
            census: Mutex::new(Census::new(&record.spec.plan)),
            scaling: Mutex::new(ScalingRecord {
                policy: record.spec.options.autoscale,
                scaler: None,
            }),
        }
    }

    /// Within what its parallelism follows its load; `None`: not at all.
    #[must_use]
    pub fn autoscale(&self) -> Option<AutoscalePolicy> {
        self.scaling().policy
    }

    /// Looks at what has been decided about its parallelism; `None`: it never followed its load.
    pub fn with_autoscaler<T>(&self, look: impl FnOnce(Option<&Autoscaler>) -> T) -> T {
        look(self.scaling().scaler.as_ref())
    }

    /// Ids of sources of which the state of an epoch knows nothing.
    pub(super) fn new_sources(&self, restored: Epoch) -> Vec<String> {
        let born = self.origin.as_ref().map(|origin| origin.epoch);
        match born == Some(restored) {
            true => self.new_sources.clone(),
            false => Vec::new(),
        }
    }

    /// Tasks of each fragment, by id.
    #[must_use]
    pub fn parallelism(&self) -> BTreeMap<u32, u32> {
        let mut parallelism = BTreeMap::new();
        for task in self.core().tasks() {
            *parallelism.entry(task.fragment).or_default() += 1;
        }
        parallelism
    }

    /// How many tasks its fragments are to have.
    #[must_use]
    pub fn wanted_parallelism(&self) -> Parallelism {
        self.core().wanted_parallelism().clone()
    }

    /// How far a change of its tasks is, if one is under way.
    #[must_use]
    pub fn rescale(&self) -> Option<RescaleStage> {
        self.core().rescale_stage()
    }

    /// Why the last change of its tasks was given up.
    #[must_use]
    pub fn rescale_error(&self) -> Option<String> {
        self.core().rescale_error().map(str::to_owned)
    }

    /// Slots that it has use for.
    pub(super) fn slots_wanted(&self) -> u32 {
        let scaling = self.scaling();
        let wanted = match &scaling.scaler {
            Some(scaler) if scaling.policy.is_some() => Some(scaler.slots_wanted()),
            _ => None,
        };
        drop(scaling);
        let there = self.parallelism().into_values().max().unwrap_or(1);
        wanted.map_or(there, |wanted| wanted.max(there))
    }

    pub(super) fn set_autoscale(&self, policy: Option<AutoscalePolicy>) {
        let mut scaling = self.scaling();
        scaling.policy = policy;
        if let (Some(scaler), Some(policy)) = (&mut scaling.scaler, policy) {
            scaler.set_policy(policy);
        }
    }

    /// Takes a look at it: what is to be carried out, and what has been decided anew.
    pub(super) fn observe(
        &self,
        sample: Sample,
        metrics: &JobMetrics,
    ) -> (Option<Rescale>, Vec<Decision>) {
        let mut scaling = self.scaling();
        let Some(policy) = scaling.policy else {
            return (None, Vec::new());
        };
        let scaler = scaling.scaler.get_or_insert_with(|| {
            let pipeline = Pipeline::of_plan(&self.spec.plan);
            Autoscaler::new(pipeline, policy)
        });
        let last = scaler.decisions().next_back();
        let known = last.map_or(0, |decision| decision.number);
        let sample = sample.with_metrics(scaler.pipeline(), metrics);
        let rescale = scaler.observe(&sample);
        let decisions = scaler.decisions();
        let new = decisions
            .filter(|decision| decision.number > known)
            .cloned();
        (rescale, new.collect())
    }

    /// What was decided last is not carried out.
    pub(super) fn refuse_rescale(&self, why: String, now_us: u64) {
        if let Some(scaler) = &mut self.scaling().scaler {
            scaler.refuse(why, now_us);
        }
    }

    /// Its state.
    #[must_use]
    pub fn state(&self) -> JobState {
        *self.state.borrow()
    }

    /// Waits until it has ended.
    pub async fn ended(&self) -> JobState {
        let mut state = self.state.subscribe();
        // The sender lives in `self`, so the wait cannot fail.
        state
            .wait_for(|state| state.is_terminal())
            .await
            .map_or(JobState::Failed, |state| *state)
    }

    /// Its generation; grows by one with every restart.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.core().generation()
    }

    /// The last committed epoch.
    #[must_use]
    pub fn committed(&self) -> Epoch {
        self.core().committed()
    }

    /// Why it failed last.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        self.core().last_error().map(str::to_owned)
    }

    /// What it must have before it can run, while it is missing.
    #[must_use]
    pub fn waits_for(&self) -> Option<&'static str> {
        self.core().waits_for()
    }

    /// How many of its tasks each worker has, as far as they may run.
    #[must_use]
    pub fn tasks_by_worker(&self) -> BTreeMap<WorkerId, usize> {
        self.core().tasks_by_worker()
    }

    /// Figures over its last checkpoints.
    #[must_use]
    pub fn checkpoint_summary(&self) -> CheckpointSummary {
        self.core().checkpoint_summary()
    }

    /// Its last checkpoints, newest first.
    #[must_use]
    pub fn checkpoints(&self, limit: usize) -> Vec<CheckpointRecord> {
        let core = self.core();
        core.checkpoints().rev().take(limit).copied().collect()
    }

    /// Its last failures, oldest first.
    #[must_use]
    pub fn exceptions(&self) -> Vec<ExceptionRecord> {
        self.record().exceptions.iter().cloned().collect()
    }

    /// How many records its sources could not read, and the last of them. A record that is read
    /// again after a failure counts again.
    #[must_use]
    pub fn dead_letters(&self) -> (u64, Vec<DeadLetter>) {
        let record = self.record();
        let letters = record.dead_letters.iter().cloned().collect();
        (record.dead_letter_count, letters)
    }

    /// How many records its sources could not read, as far as is known.
    #[must_use]
    pub fn dead_letter_count(&self) -> u64 {
        self.record().dead_letter_count
    }

    /// Checkpoints that had begun when the job failed.
    #[must_use]
    pub fn checkpoints_failed(&self) -> u64 {
        self.record().checkpoints_failed
    }

    /// When it ended, on the driver's clock.
    #[must_use]
    pub fn ended_us(&self) -> Option<u64> {
        self.record().ended_us
    }

    pub(super) fn kept_metrics(&self) -> JobMetrics {
        self.record().metrics.clone()
    }

    pub(super) fn keep_metrics(&self, metrics: JobMetrics) {
        if !metrics.is_empty() {
            self.record().metrics = metrics;
        }
    }

    pub(super) fn push_dead_letters(&self, letters: Vec<DeadLetter>) {
        let mut record = self.record();
        for letter in letters {
            record.dead_letter_count += letter.count;
            if record.dead_letters.len() == DEAD_LETTERS_MAX {
                record.dead_letters.pop_front();
            }
            record.dead_letters.push_back(letter);
        }
    }

    pub(super) fn push_exception(&self, exception: ExceptionRecord) {
        let mut record = self.record();
        if record.exceptions.len() == EXCEPTIONS_MAX {
            record.exceptions.pop_front();
        }
        record.exceptions.push_back(exception);
    }

    /// What is stored of one of its operators, as far as that has been counted.
    #[must_use]
    pub fn stored(&self, node: &Node) -> Option<Stored> {
        self.census().stored(node)
    }

    pub(crate) fn census(&self) -> MutexGuard<'_, Census> {
        self.census.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of the log objects of the last checkpoint.
    #[must_use]
    pub fn checkpoint_bytes(&self) -> u64 {
        self.record().checkpoint_bytes
    }

    pub(super) fn set_checkpoint_bytes(&self, bytes: u64) {
        self.record().checkpoint_bytes = bytes;
    }

    pub(super) fn count_failed_checkpoint(&self) {
        self.record().checkpoints_failed += 1;
    }

    pub(super) fn set_ended(&self, now_us: u64) {
        self.record().ended_us = Some(now_us);
    }

    pub(super) fn core(&self) -> MutexGuard<'_, Job> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn scaling(&self) -> MutexGuard<'_, ScalingRecord> {
        self.scaling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
