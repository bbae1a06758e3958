//! What a job does, in numbers: metrics, checkpoints, failures, dead letters.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State};
use proto::control::OperatorMetrics;
use serde::Serialize;
use utoipa::ToSchema;

use super::{jobs::Named, problem::Problem};
use crate::{JobEntry, Statements, caps::CHECKPOINTS_LISTED};

/// Figures per operator.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct MetricsView {
    operators: Vec<OperatorView>,
}

/// An operator of the plan.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct OperatorView {
    /// Its id in the plan.
    id: String,
    /// What it does.
    description: String,
    /// Its tasks.
    tasks: Vec<TaskView>,
}

/// One task's part of an operator, since the job last started.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct TaskView {
    /// Place among the operator's tasks.
    index: u32,
    /// Rows taken in.
    rows_in: u64,
    /// Rows put out.
    rows_out: u64,
    /// Batches taken in.
    batches_in: u64,
    /// Time at work. The four times add up to the task's life.
    busy_ms: u64,
    /// Time without input.
    idle_ms: u64,
    /// Time waiting for room downstream.
    blocked_ms: u64,
    /// Time waiting for state.
    state_wait_ms: u64,
    /// Rows dropped as late.
    late_rows: u64,
    /// Rows that waited for a state read.
    state_misses: u64,
    /// Keys that were taken out of memory because it was short.
    evicted_keys: u64,
    /// Keys that were looked for on the worker's disk before the store was asked.
    scratch_reads: u64,
    /// Keys that were read back in the background after a start or a move.
    hydrated_keys: u64,
    /// Live rows of state.
    state_rows: u64,
    /// Bytes of memory of state.
    state_bytes: u64,
    /// Input watermark in ms since 1970, once there is one.
    watermark_ms: Option<i64>,
    /// Records that could not be read.
    dead_letters: u64,
}

/// The last checkpoints.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct CheckpointsView {
    /// Committed since the job was created.
    count: u64,
    /// Half took at most this long, barrier to commit.
    p50_ms: f64,
    /// 99 of 100 took at most this long.
    p99_ms: f64,
    /// The longest.
    max_ms: f64,
    /// Epochs that the job can be taken back to, or copied at, oldest first; unknown while the metadata
    /// do not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    restorable: Option<Vec<u64>>,
    /// Newest first.
    checkpoints: Vec<CheckpointView>,
}

/// A committed checkpoint.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct CheckpointView {
    epoch: u64,
    generation: u64,
    /// Barrier to the last task's state.
    stage_ms: f64,
    /// Barrier to commit.
    total_ms: f64,
    /// Bytes of rows that the barrier overtook and that are part of it; with any, only the job itself
    /// can go on from there.
    overtaken_bytes: u64,
}

/// The last failures, oldest first.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct ExceptionsView {
    exceptions: Vec<ExceptionView>,
}

/// A failure.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct ExceptionView {
    /// When, in ms since the job was submitted.
    after_ms: u64,
    generation: u64,
    /// The task that failed, if it was one.
    task: Option<String>,
    error: String,
}

/// Records that could not be read.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct DeadLettersView {
    /// All there were; a record that is read again after a failure counts again.
    count: u64,
    /// The last ones, oldest first.
    dead_letters: Vec<DeadLetterView>,
}

/// A record that could not be read.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct DeadLetterView {
    /// What it was read from.
    split: String,
    /// Where in it.
    position: String,
    cause: String,
    /// Its content as text; bytes that are not UTF-8 are replaced.
    text: String,
    /// Its bytes in hexadecimal.
    bytes_hex: String,
    /// How many records this one stands for.
    count: u64,
}

/// Get figures per operator
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/metrics",
    operation_id = "getMetrics",
    tag = "jobs",
    params(("id" = String, Path, description = "Id of the job")),
    responses(
        (status = 200, description = "The figures", body = MetricsView),
        (status = 404, description = "There is no such job", body = Problem),
    ),
)]
pub(super) async fn metrics(
    State(statements): State<Arc<Statements>>,
    Named(entry): Named,
) -> Result<Json<MetricsView>, Problem> {
    let descriptions = descriptions(&entry);
    let metrics = statements.jobs().metrics(entry.id)?;
    let operator = |(id, tasks): (String, BTreeMap<u32, OperatorMetrics>)| OperatorView {
        description: descriptions.get(&id).cloned().unwrap_or_default(),
        id,
        tasks: tasks.into_iter().map(task_view).collect(),
    };
    Ok(Json(MetricsView {
        operators: metrics.into_iter().map(operator).collect(),
    }))
}

fn descriptions(entry: &JobEntry) -> BTreeMap<String, String> {
    let fragments = entry.spec.plan.fragments.iter();
    let nodes = fragments.flat_map(|fragment| &fragment.nodes);
    nodes
        .map(|node| (node.id.clone(), node.description.clone()))
        .collect()
}

fn task_view((index, metrics): (u32, OperatorMetrics)) -> TaskView {
    let ms = |ns: u64| ns / 1_000_000;
    TaskView {
        index,
        rows_in: metrics.rows_in,
        rows_out: metrics.rows_out,
        batches_in: metrics.batches_in,
        busy_ms: ms(metrics.busy_ns),
        idle_ms: ms(metrics.idle_ns),
        blocked_ms: ms(metrics.blocked_ns),
        state_wait_ms: ms(metrics.state_wait_ns),
        late_rows: metrics.late_rows,
        state_misses: metrics.state_misses,
        evicted_keys: metrics.evicted_keys,
        scratch_reads: metrics.scratch_reads,
        hydrated_keys: metrics.hydrated_keys,
        state_rows: metrics.state_rows,
        state_bytes: metrics.state_bytes,
        watermark_ms: metrics.watermark_ms,
        dead_letters: metrics.dead_letters,
    }
}

/// Get checkpoints
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/checkpoints",
    operation_id = "getCheckpoints",
    tag = "jobs",
    params(("id" = String, Path, description = "Id of the job")),
    responses(
        (status = 200, description = "The last checkpoints", body = CheckpointsView),
        (status = 404, description = "There is no such job", body = Problem),
    ),
)]
pub(super) async fn checkpoints(
    State(statements): State<Arc<Statements>>,
    Named(entry): Named,
) -> Json<CheckpointsView> {
    let kept = statements.jobs().record(entry.id).await;
    let kept = kept.map(|record| match record.outcome {
        None => record.restorable().iter().map(|epoch| epoch.0).collect(),
        Some(_) => Vec::new(),
    });
    let summary = entry.checkpoint_summary();
    let records = entry.checkpoints(CHECKPOINTS_LISTED);
    let ms = |us: u64| us as f64 / 1000.0;
    Json(CheckpointsView {
        count: summary.count,
        p50_ms: ms(summary.p50_us),
        p99_ms: ms(summary.p99_us),
        max_ms: ms(summary.max_us),
        restorable: kept.ok(),
        checkpoints: records
            .into_iter()
            .map(|record| CheckpointView {
                epoch: record.epoch.0,
                generation: record.generation.0,
                stage_ms: ms(record.stage_us),
                total_ms: ms(record.total_us),
                overtaken_bytes: record.overtaken_bytes,
            })
            .collect(),
    })
}

/// Get failures
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/exceptions",
    operation_id = "getExceptions",
    tag = "jobs",
    params(("id" = String, Path, description = "Id of the job")),
    responses(
        (status = 200, description = "The last failures", body = ExceptionsView),
        (status = 404, description = "There is no such job", body = Problem),
    ),
)]
pub(super) async fn exceptions(Named(entry): Named) -> Json<ExceptionsView> {
    let exceptions = entry.exceptions().into_iter();
    Json(ExceptionsView {
        exceptions: exceptions
            .map(|exception| ExceptionView {
                after_ms: exception.at_us.saturating_sub(entry.created_us) / 1000,
                generation: exception.generation.0,
                task: exception.task.map(|task| task.to_string()),
                error: exception.error,
            })
            .collect(),
    })
}

/// Get records that could not be read
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/dead-letters",
    operation_id = "getDeadLetters",
    tag = "jobs",
    params(("id" = String, Path, description = "Id of the job")),
    responses(
        (status = 200, description = "The last ones", body = DeadLettersView),
        (status = 404, description = "There is no such job", body = Problem),
    ),
)]
pub(super) async fn dead_letters(Named(entry): Named) -> Json<DeadLettersView> {
    let (count, letters) = entry.dead_letters();
    let letter = |letter: proto::control::DeadLetter| DeadLetterView {
        text: String::from_utf8_lossy(&letter.bytes).into_owned(),
        bytes_hex: letter
            .bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
        split: letter.split,
        position: letter.position,
        cause: letter.cause,
        count: letter.count,
    };
    Json(DeadLettersView {
        count,
        dead_letters: letters.into_iter().map(letter).collect(),
    })
}
