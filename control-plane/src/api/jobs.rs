//! `/v1/jobs`: list, look at, cancel.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use proto::types::JobId;
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::Problem;
use crate::{JobEntry, Statements};

/// A job.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct JobView {
    /// Its id.
    #[schema(example = "job_1")]
    id: String,
    /// Name for people.
    name: String,
    /// CREATED, STARTING, RUNNING, FINISHING, RESTARTING, CANCELING, FINISHED, FAILED or CANCELED.
    state: String,
    /// The statement.
    sql: String,
    /// When it was submitted, in ms since 1970.
    created_ms: u64,
    /// Grows by one with every restart.
    generation: u64,
    /// The last committed epoch.
    committed_epoch: u64,
    /// Tasks per part of the plan that runs in parallel.
    parallelism: u32,
    /// Time between checkpoints.
    checkpoint_interval_ms: u64,
    /// Why it failed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// What the planner wants known: state that may grow for ever.
    warnings: Vec<String>,
    /// Where the rows of a SELECT can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    results: Option<String>,
}

/// All jobs, oldest first.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct JobList {
    jobs: Vec<JobView>,
}

/// The job that a path names.
pub(super) fn find(statements: &Statements, id: &str) -> Result<Arc<JobEntry>, Problem> {
    let job: JobId = id.parse().map_err(|_| {
        let detail = format!("`{id}` is not the id of a job");
        Problem::new(StatusCode::NOT_FOUND, "job.unknown", detail).hint("ids look like job_1")
    })?;
    Ok(statements.jobs().get(job)?)
}

fn view(entry: &JobEntry) -> JobView {
    JobView {
        id: entry.id.to_string(),
        name: entry.spec.name.clone(),
        state: entry.state().to_string(),
        sql: entry.spec.sql.clone(),
        created_ms: entry.created_ms,
        generation: entry.generation().0,
        committed_epoch: entry.committed().0,
        parallelism: entry.spec.options.parallelism,
        checkpoint_interval_ms: entry.spec.options.checkpoint_interval_ms,
        error: entry.last_error(),
        warnings: entry.spec.plan.warnings.clone(),
        results: entry
            .feed
            .as_ref()
            .map(|_| format!("/v1/jobs/{}/results", entry.id)),
    }
}

/// List jobs
#[utoipa::path(
    get,
    path = "/v1/jobs",
    tag = "jobs",
    responses((status = 200, description = "All that run and the last ones that ended", body = JobList)),
)]
pub(super) async fn list(State(statements): State<Arc<Statements>>) -> Json<JobList> {
    let jobs = statements.jobs().list();
    Json(JobList {
        jobs: jobs.iter().map(|entry| view(entry)).collect(),
    })
}

/// Get a job
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}",
    tag = "jobs",
    params(("id" = String, Path, description = "Id of the job")),
    responses(
        (status = 200, description = "The job", body = JobView),
        (status = 404, description = "There is none", body = Problem),
    ),
)]
pub(super) async fn get(
    State(statements): State<Arc<Statements>>,
    Path(id): Path<String>,
) -> Result<Json<JobView>, Problem> {
    Ok(Json(view(&*find(&statements, &id)?)))
}

/// Cancel a job
///
/// Its tasks are stopped; what it has committed stays. A job that has ended stays as it is.
#[utoipa::path(
    delete,
    path = "/v1/jobs/{id}",
    tag = "jobs",
    params(("id" = String, Path, description = "Id of the job")),
    responses(
        (status = 202, description = "It is being cancelled", body = JobView),
        (status = 404, description = "There is none", body = Problem),
    ),
)]
pub(super) async fn cancel(
    State(statements): State<Arc<Statements>>,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<JobView>), Problem> {
    let entry = find(&statements, &id)?;
    statements.jobs().cancel(entry.id).await?;
    Ok((StatusCode::ACCEPTED, Json(view(&entry))))
}

/// Get a job's plan
///
/// The compiled plan: fragments of operators, joined by exchanges.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/plan",
    tag = "jobs",
    params(("id" = String, Path, description = "Id of the job")),
    responses(
        (status = 200, description = "The plan", body = Object),
        (status = 404, description = "There is none", body = Problem),
    ),
)]
pub(super) async fn plan(
    State(statements): State<Arc<Statements>>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let entry = find(&statements, &id)?;
    let json = entry.spec.plan.to_json();
    Ok(([(CONTENT_TYPE, "application/json")], json).into_response())
}
