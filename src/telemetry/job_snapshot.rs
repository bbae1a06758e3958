//! What is known about the process's jobs at one moment, as rows of metrics: bounded, however many
//! jobs and operators there are.

use std::collections::BTreeMap;

use control_plane::{JobEntry, Jobs};
use opentelemetry::KeyValue;
use proto::{
    control::{JobMetrics, OperatorMetrics},
    types::JobId,
};

/// Operators with series of their own; what is left over shares one.
pub(super) const OPERATORS_MAX: usize = 1999;

/// Ended jobs that are shown, the newest: their last figures are not lost between two looks.
const ENDED_JOBS_MAX: usize = 16;

/// Jobs and operators.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) jobs: Vec<JobRow>,
    pub(super) operators: Vec<OperatorRow>,
}

/// A job.
#[derive(Debug)]
pub(super) struct JobRow {
    pub(super) labels: [KeyValue; 1],
    pub(super) state: &'static str,
    pub(super) restarts: u64,
    pub(super) checkpoints: u64,
    pub(super) checkpoints_failed: u64,
    /// Of the last one.
    pub(super) checkpoint_seconds: Option<f64>,
    /// Of the last one.
    pub(super) checkpoint_bytes: u64,
    /// Of the last one.
    pub(super) overtaken_bytes: u64,
    pub(super) dead_letters: u64,
}

/// An operator: all its tasks together.
#[derive(Debug)]
pub(super) struct OperatorRow {
    pub(super) labels: Vec<KeyValue>,
    /// Sums over the tasks; the watermark is the least.
    pub(super) metrics: OperatorMetrics,
    /// What is stored of it, where that is known.
    pub(super) stored: Option<StoredRow>,
}

/// What is stored of an operator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct StoredRow {
    pub(super) rows: u64,
    pub(super) bytes: u64,
}

impl Snapshot {
    /// Looks at all jobs that have not ended, and the last ones that have.
    pub(super) fn take(jobs: &Jobs) -> Snapshot {
        let entries = jobs.list();
        let ended = entries.iter().filter(|entry| entry.state().is_terminal());
        let mut skipped = ended.count().saturating_sub(ENDED_JOBS_MAX);
        let mut snapshot = Snapshot::default();
        for entry in &entries {
            if entry.state().is_terminal() && skipped > 0 {
                skipped -= 1;
                continue;
            }
            snapshot.jobs.push(JobRow::of(entry));
            let stored = stored_of(entry);
            snapshot.push_job(
                entry.id,
                jobs.metrics(entry.id).unwrap_or_default(),
                &stored,
            );
        }
        snapshot
    }

    /// Operators only: what a worker knows.
    pub(super) fn of_operators(figures: impl IntoIterator<Item = (JobId, JobMetrics)>) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for (job, metrics) in figures {
            snapshot.push_job(job, metrics, &BTreeMap::new());
        }
        snapshot
    }

    fn push_job(&mut self, job: JobId, metrics: JobMetrics, stored: &BTreeMap<String, StoredRow>) {
        let job = job.to_string();
        for (operator, tasks) in metrics {
            let metrics = tasks.into_values().fold(None, add);
            let stored = stored.get(&operator).copied();
            self.push(&job, operator, metrics.unwrap_or_default(), stored);
        }
    }

    fn push(
        &mut self,
        job: &str,
        operator: String,
        metrics: OperatorMetrics,
        stored: Option<StoredRow>,
    ) {
        if self.operators.len() < OPERATORS_MAX {
            let job = KeyValue::new("job", job.to_owned());
            self.operators.push(OperatorRow {
                labels: vec![job, KeyValue::new("operator", operator)],
                metrics,
                stored,
            });
            return;
        }
        if self.operators.len() == OPERATORS_MAX {
            self.operators.push(OperatorRow {
                labels: vec![KeyValue::new("otel.metric.overflow", true)],
                metrics: OperatorMetrics::default(),
                stored: None,
            });
        }
        if let Some(rest) = self.operators.last_mut() {
            let sum = std::mem::take(&mut rest.metrics);
            rest.metrics = add(Some(sum), metrics).unwrap_or_default();
            if let Some(more) = stored {
                let sum = rest.stored.unwrap_or(StoredRow { rows: 0, bytes: 0 });
                rest.stored = Some(StoredRow {
                    rows: sum.rows + more.rows,
                    bytes: sum.bytes + more.bytes,
                });
            }
            // The lag of nobody in particular says nothing.
            rest.metrics.watermark_ms = None;
        }
    }
}

impl JobRow {
    fn of(entry: &JobEntry) -> JobRow {
        let last = entry.checkpoints(1).first().copied();
        JobRow {
            labels: [KeyValue::new("job", entry.id.to_string())],
            state: entry.state().name(),
            restarts: entry.generation().0.saturating_sub(1),
            checkpoints: entry.checkpoint_summary().count,
            checkpoints_failed: entry.checkpoints_failed(),
            checkpoint_seconds: last.map(|last| last.total_us as f64 / 1e6),
            checkpoint_bytes: entry.checkpoint_bytes(),
            overtaken_bytes: last.map_or(0, |last| last.overtaken_bytes),
            dead_letters: entry.dead_letter_count(),
        }
    }
}

/// What is stored of a job's operators, by id.
fn stored_of(entry: &JobEntry) -> BTreeMap<String, StoredRow> {
    if entry.state().is_terminal() {
        return BTreeMap::new();
    }
    let fragments = entry.spec.plan.fragments.iter();
    let nodes = fragments.flat_map(|fragment| &fragment.nodes);
    let stored = nodes.filter_map(|node| {
        let stored = entry.stored(node)?;
        let (rows, bytes) = (stored.rows, stored.bytes);
        Some((node.id.clone(), StoredRow { rows, bytes }))
    });
    stored.collect()
}

fn add(sum: Option<OperatorMetrics>, task: OperatorMetrics) -> Option<OperatorMetrics> {
    let Some(sum) = sum else {
        return Some(task);
    };
    let watermarks = [sum.watermark_ms, task.watermark_ms];
    Some(OperatorMetrics {
        rows_in: sum.rows_in + task.rows_in,
        rows_out: sum.rows_out + task.rows_out,
        batches_in: sum.batches_in + task.batches_in,
        busy_ns: sum.busy_ns + task.busy_ns,
        idle_ns: sum.idle_ns + task.idle_ns,
        blocked_ns: sum.blocked_ns + task.blocked_ns,
        state_wait_ns: sum.state_wait_ns + task.state_wait_ns,
        late_rows: sum.late_rows + task.late_rows,
        state_misses: sum.state_misses + task.state_misses,
        evicted_keys: sum.evicted_keys + task.evicted_keys,
        scratch_reads: sum.scratch_reads + task.scratch_reads,
        hydrated_keys: sum.hydrated_keys + task.hydrated_keys,
        state_rows: sum.state_rows + task.state_rows,
        state_bytes: sum.state_bytes + task.state_bytes,
        watermark_ms: watermarks.into_iter().flatten().min(),
        dead_letters: sum.dead_letters + task.dead_letters,
        // A part of what waits would look like all of it.
        backlog_rows: sum.backlog_rows.zip(task.backlog_rows).map(|(a, b)| a + b),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(rows_in: u64, watermark_ms: Option<i64>) -> OperatorMetrics {
        OperatorMetrics {
            rows_in,
            watermark_ms,
            ..OperatorMetrics::default()
        }
    }

    #[test]
    fn tasks_add_up_and_the_slowest_sets_the_watermark() {
        let tasks = [metrics(1, Some(9)), metrics(2, None), metrics(4, Some(7))];
        let sum = tasks.into_iter().fold(None, add).expect("tasks");
        assert_eq!(sum, metrics(7, Some(7)));
    }

    #[test]
    fn operators_are_named_by_job() {
        let tasks = [(0, metrics(1, None)), (1, metrics(2, None))];
        let job = JobMetrics::from([("op".to_owned(), tasks.into())]);
        let snapshot = Snapshot::of_operators([(JobId(7), job)]);
        let [row] = &snapshot.operators[..] else {
            panic!("one operator: {snapshot:?}");
        };
        assert_eq!(row.labels[0].value.as_str(), "job_7");
        assert_eq!(row.labels[1].value.as_str(), "op");
        assert_eq!(row.metrics.rows_in, 3);
    }

    #[test]
    fn what_is_too_much_shares_one_series() {
        let mut snapshot = Snapshot::default();
        for index in 0..OPERATORS_MAX + 3 {
            let stored = StoredRow { rows: 2, bytes: 3 };
            let operator = format!("op{index}");
            snapshot.push("job_1", operator, metrics(1, Some(5)), Some(stored));
        }
        assert_eq!(snapshot.operators.len(), OPERATORS_MAX + 1);
        let rest = snapshot.operators.last().expect("a series");
        assert_eq!(rest.metrics, metrics(3, None));
        assert_eq!(rest.stored, Some(StoredRow { rows: 6, bytes: 9 }));
        assert_eq!(rest.labels[0].key.as_str(), "otel.metric.overflow");
        assert_eq!(snapshot.operators[0].labels.len(), 2);
    }
}
