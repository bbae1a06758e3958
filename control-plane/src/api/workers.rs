//! `/v1/workers`: who runs tasks, and which.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    http::StatusCode,
};
use proto::types::{JobId, WorkerId};
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::Problem;
use crate::{Jobs, Statements, capacity::CapacityStatus, workers::Worker};

/// Workers, the oldest first.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct WorkerList {
    /// All that are connected.
    workers: Vec<WorkerView>,
    /// How many there should be, where that follows the jobs.
    #[serde(skip_serializing_if = "Option::is_none")]
    capacity: Option<CapacityView>,
}

/// How many workers there should be.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct CapacityView {
    /// Who makes them come and go: process, command or webhook.
    provider: &'static str,
    /// How many are wanted.
    wanted: Option<u32>,
    /// Why.
    reason: Option<String>,
    /// Why the provider could not do it, if so; it is asked again.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

fn capacity_view(status: CapacityStatus) -> CapacityView {
    CapacityView {
        provider: status.provider,
        wanted: status.wanted.as_ref().map(|want| want.workers),
        reason: status.wanted.map(|want| want.reason),
        error: status.error,
    }
}

/// A worker.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct WorkerView {
    /// Its id: a process that starts again has another one.
    #[schema(example = "wk_1")]
    id: String,
    /// Where other workers reach it, as host:port; left out where there are no others.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// When it connected, in ms since 1970.
    connected_ms: u64,
    /// Tasks that it runs, of all jobs.
    tasks: usize,
    /// Jobs that it runs tasks of.
    jobs: Vec<WorkerJobView>,
}

/// A job's part on a worker.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct WorkerJobView {
    /// Id of the job.
    #[schema(example = "job_1")]
    id: String,
    /// How many of its tasks are there.
    tasks: usize,
}

type JobTasks = Vec<(JobId, BTreeMap<WorkerId, usize>)>;

fn job_tasks(jobs: &Jobs) -> JobTasks {
    let entries = jobs.list().into_iter();
    entries
        .map(|entry| (entry.id, entry.tasks_by_worker()))
        .collect()
}

fn view(worker: Worker, tasks: &JobTasks) -> WorkerView {
    let here = tasks.iter().filter_map(|(job, by_worker)| {
        let tasks = *by_worker.get(&worker.id)?;
        let id = job.to_string();
        Some(WorkerJobView { id, tasks })
    });
    let jobs: Vec<WorkerJobView> = here.collect();
    WorkerView {
        id: worker.id.to_string(),
        address: Some(worker.address).filter(|address| !address.is_empty()),
        connected_ms: worker.since_ms,
        tasks: jobs.iter().map(|job| job.tasks).sum(),
        jobs,
    }
}

/// List workers
#[utoipa::path(
    get,
    path = "/v1/workers",
    operation_id = "listWorkers",
    tag = "workers",
    responses((status = 200, description = "All that are connected", body = WorkerList)),
)]
pub(super) async fn list(State(statements): State<Arc<Statements>>) -> Json<WorkerList> {
    let jobs = statements.jobs();
    let tasks = job_tasks(jobs);
    let workers = jobs.workers().list().into_iter();
    Json(WorkerList {
        workers: workers.map(|worker| view(worker, &tasks)).collect(),
        capacity: jobs.capacity().map(capacity_view),
    })
}

/// Get a worker
#[utoipa::path(
    get,
    path = "/v1/workers/{id}",
    operation_id = "getWorker",
    tag = "workers",
    params(("id" = String, Path, description = "Id of the worker")),
    responses(
        (status = 200, description = "The worker", body = WorkerView),
        (status = 404, description = "There is none, or it is gone", body = Problem),
    ),
)]
pub(super) async fn get(
    State(statements): State<Arc<Statements>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<WorkerView>, Problem> {
    let unknown = |detail: String| {
        Problem::new(StatusCode::NOT_FOUND, "worker.unknown", detail)
            .hint("ids look like wk_1; GET /v1/workers lists those that are connected")
    };
    // Axum cannot give what is not UTF-8.
    let Path(id) = id.map_err(|_| unknown("the path has no id of a worker".to_owned()))?;
    let worker: WorkerId = id
        .parse()
        .map_err(|_| unknown(format!("`{id}` is not the id of a worker")))?;
    let jobs = statements.jobs();
    let Some(worker) = jobs.workers().get(worker) else {
        return Err(unknown(format!("{worker} is not connected")));
    };
    Ok(Json(view(worker, &job_tasks(jobs))))
}
