//! What is known about a job. The driver writes, everybody reads.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use coordinator::{CheckpointRecord, CheckpointSummary, Job, JobState};
use proto::{
    control::{DeadLetter, JobMetrics, JobOptions},
    plan::Plan,
    types::{Epoch, Field, Generation, JobId, TaskId},
};
use tokio::sync::watch;

use crate::{
    caps::{DEAD_LETTERS_MAX, EXCEPTIONS_MAX, RESULT_ROWS_MAX},
    results::Feed,
};

/// A job to run.
#[derive(Clone, Debug)]
pub struct JobSpec {
    /// Name for people.
    pub name: String,
    /// The statement that it comes from.
    pub sql: String,
    /// What to run.
    pub plan: Arc<Plan>,
    /// How.
    pub options: JobOptions,
    /// For a bare SELECT: what its rows are.
    pub select: Option<SelectSpec>,
}

/// The rows of a bare SELECT.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SelectSpec {
    /// Columns.
    pub columns: Vec<Field>,
    /// Key by which the changelog folds, where it lacks old rows of updates.
    pub upsert_key: Option<Vec<usize>>,
}

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
    /// Rows of a SELECT.
    pub feed: Option<Arc<Feed>>,
    pub(super) state: watch::Sender<JobState>,
    pub(super) core: Mutex<Job>,
    record: Mutex<Record>,
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
    pub(super) fn new(
        id: JobId,
        spec: JobSpec,
        core: Job,
        now_us: u64,
        now_ms: u64,
        seed: u64,
    ) -> JobEntry {
        let feed = |select: &SelectSpec| {
            Arc::new(Feed::new(
                select.columns.clone(),
                select.upsert_key.clone(),
                RESULT_ROWS_MAX,
            ))
        };
        JobEntry {
            id,
            feed: spec.select.as_ref().map(feed),
            spec,
            created_us: now_us,
            created_ms: now_ms,
            run: run(seed, id, now_ms),
            state: watch::Sender::new(JobState::Created),
            core: Mutex::new(core),
            record: Mutex::default(),
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

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A number that another job, or one of a process with another seed, does not have.
fn run(seed: u64, id: JobId, now_ms: u64) -> u64 {
    // Each round is one to one, so jobs of one process that begin together stay apart.
    [seed, now_ms, id.0].into_iter().fold(0, |word: u64, more| {
        let word = word.wrapping_add(more).wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn runs_differ_by_process_job_and_time() {
        let mut runs = BTreeSet::new();
        for (seed, id, now_ms) in [(0, 1, 0), (0, 2, 0), (0, 1, 1), (1, 1, 0), (1, 2, 1)] {
            runs.insert(run(seed, JobId(id), now_ms));
        }
        assert_eq!(runs.len(), 5);
        assert_eq!(run(7, JobId(1), 5), run(7, JobId(1), 5));
    }
}
