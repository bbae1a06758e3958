//! `/v1/jobs`: list, look at, cancel, delete.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    extract::{FromRequestParts, Path, Query, State, rejection::QueryRejection},
    http::{StatusCode, header::CONTENT_TYPE, request::Parts},
    response::{IntoResponse, Response},
};
use coordinator::RescaleStage;
use proto::types::JobId;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    autoscaler::PolicyView,
    backend::Backend,
    health::{Health, JobHealth},
    problem::Problem,
};
use crate::{
    JobEntry, JobState, Statements,
    caps::{JOB_LIST_SQL_CHARS, JOBS_ACTIVE_MAX, JOBS_ENDED_MAX, JOBS_LISTED},
    statements::shortened,
};

/// A job.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct JobView {
    /// Its id.
    #[schema(example = "job_1")]
    id: String,
    /// Name for people.
    name: String,
    /// CREATED, STARTING, RUNNING, FINISHING, RESTARTING, QUARANTINED, CANCELING, FINISHED, FAILED or
    /// CANCELED. A job in quarantine could not go on; its state waits for it to be resumed.
    state: String,
    /// Degraded while something holds it up: it falls behind, and loses nothing.
    health: Health,
    /// What holds it up.
    #[serde(skip_serializing_if = "Option::is_none")]
    health_reason: Option<String>,
    /// What it must have before it can run, while it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    waits_for: Option<&'static str>,
    /// The statement; in a list its beginning, in one line.
    sql: String,
    /// When it was submitted, in ms since 1970.
    created_ms: u64,
    /// Grows by one with every restart.
    generation: u64,
    /// The last committed epoch.
    committed_epoch: u64,
    /// Tasks of the part of the plan that has the most.
    parallelism: u32,
    /// Tasks of each part of the plan, by number.
    tasks: BTreeMap<u32, u32>,
    /// How far a change of the parallelism or of the places of tasks is, while one is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    rescale: Option<RescaleView>,
    /// Why the last one was given up: the job stayed as it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    rescale_error: Option<String>,
    /// Within what the parallelism follows the load, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    autoscale: Option<PolicyView>,
    /// Time between checkpoints.
    checkpoint_interval_ms: u64,
    /// Why it failed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// What the planner wants known: state that may grow for ever.
    warnings: Vec<String>,
    /// The state of another job that it began with.
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<OriginView>,
    /// Where the rows of a SELECT can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    results: Option<String>,
}

/// How far a change of a job's tasks is.
#[derive(Clone, Copy, Serialize, ToSchema, Debug)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum RescaleView {
    /// Workers open what they need; the job runs as before.
    Preparing,
    /// A checkpoint makes it count.
    Changing,
}

impl RescaleView {
    fn of(stage: RescaleStage) -> RescaleView {
        match stage {
            RescaleStage::Preparing => RescaleView::Preparing,
            RescaleStage::Changing => RescaleView::Changing,
        }
    }
}

/// The state that a job began with.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct OriginView {
    /// The job whose state it was.
    #[schema(example = "job_1")]
    job: String,
    /// Its epoch.
    checkpoint: u64,
    /// The savepoint, if it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    savepoint: Option<String>,
}

/// Jobs, oldest first.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct JobList {
    /// The newest ones.
    jobs: Vec<JobView>,
    /// How many there are.
    total: usize,
}

/// How many jobs are wanted.
#[derive(Deserialize, IntoParams, Debug)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// The newest so many jobs.
    #[param(minimum = 1, maximum = 512, default = 100)]
    limit: Option<usize>,
}

/// The job that a path names.
pub(super) struct Named(pub(super) Arc<JobEntry>);

impl FromRequestParts<Backend> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, backend: &Backend) -> Result<Named, Problem> {
        // Axum cannot give what is not UTF-8.
        let Path(id) = Path::<String>::from_request_parts(parts, backend)
            .await
            .map_err(|_| unknown("the path has no id of a job".to_owned()))?;
        Ok(Named(named(backend, &id)?))
    }
}

/// The job of an id.
pub(super) fn named(backend: &Backend, id: &str) -> Result<Arc<JobEntry>, Problem> {
    let job: JobId = id
        .parse()
        .map_err(|_| unknown(format!("`{id}` is not the id of a job")))?;
    Ok(backend.statements.jobs().get(job)?)
}

fn unknown(detail: String) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "job.unknown", detail).hint("ids look like job_1")
}

/// A job as it is now.
pub(super) async fn view_of(backend: &Backend, entry: &JobEntry) -> JobView {
    view(entry, &JobHealth::look(backend).await)
}

fn view(entry: &JobEntry, health: &JobHealth) -> JobView {
    let reason = health.reason(entry);
    JobView {
        id: entry.id.to_string(),
        name: entry.spec.name.clone(),
        state: entry.state().to_string(),
        health: Health::of(reason.as_ref()),
        health_reason: reason,
        waits_for: entry.waits_for(),
        sql: entry.spec.sql.clone(),
        created_ms: entry.created_ms,
        generation: entry.generation().0,
        committed_epoch: entry.committed().0,
        parallelism: entry.parallelism().into_values().max().unwrap_or_default(),
        tasks: entry.parallelism(),
        rescale: entry.rescale().map(RescaleView::of),
        rescale_error: entry.rescale_error(),
        autoscale: entry.autoscale().map(PolicyView::of),
        checkpoint_interval_ms: entry.spec.options.checkpoint_interval_ms,
        error: entry.last_error(),
        warnings: entry.spec.plan.warnings.clone(),
        origin: entry.origin.as_ref().map(|origin| OriginView {
            job: origin.job.to_string(),
            checkpoint: origin.epoch.0,
            savepoint: origin.savepoint.clone(),
        }),
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
    operation_id = "listJobs",
    tag = "jobs",
    params(ListQuery),
    responses(
        (status = 200, description = "All that run and the last ones that ended", body = JobList),
        (status = 400, description = "`limit` is wrong", body = Problem),
    ),
)]
pub(super) async fn list(
    State(backend): State<Backend>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<JobList>, Problem> {
    let max = JOBS_ACTIVE_MAX + JOBS_ENDED_MAX;
    let limit = query.map_or(0, |Query(query)| query.limit.unwrap_or(JOBS_LISTED));
    if !(1..=max).contains(&limit) {
        let detail = format!("`limit` must be a whole number, 1 to {max}");
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "request.query",
            detail,
        ));
    }
    let health = JobHealth::look(&backend).await;
    let jobs = backend.statements.jobs().list();
    let newest = jobs.iter().skip(jobs.len().saturating_sub(limit));
    let short = |entry: &Arc<JobEntry>| JobView {
        sql: shortened(&entry.spec.sql, JOB_LIST_SQL_CHARS),
        ..view(entry, &health)
    };
    Ok(Json(JobList {
        jobs: newest.map(short).collect(),
        total: jobs.len(),
    }))
}

/// Get a job
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}",
    operation_id = "getJob",
    tag = "jobs",
    params(("id" = String, Path, description = "Id of the job")),
    responses(
        (status = 200, description = "The job", body = JobView),
        (status = 404, description = "There is none", body = Problem),
    ),
)]
pub(super) async fn get(State(backend): State<Backend>, Named(entry): Named) -> Json<JobView> {
    Json(view(&entry, &JobHealth::look(&backend).await))
}

/// Cancel a job
///
/// Its tasks are stopped; what it has committed to tables stays, and it can still be looked at. Its
/// state goes, but for its savepoints. A job that has ended stays as it is.
#[utoipa::path(
    post,
    path = "/v1/jobs/{id}/cancel",
    operation_id = "cancelJob",
    tag = "jobs",
    params(("id" = String, Path, description = "Id of the job")),
    responses(
        (status = 202, description = "It is being cancelled, or has ended", body = JobView),
        (status = 404, description = "There is none", body = Problem),
    ),
)]
pub(super) async fn cancel(
    State(backend): State<Backend>,
    Named(entry): Named,
) -> Result<(StatusCode, Json<JobView>), Problem> {
    let ended = entry.state().is_terminal();
    if !ended {
        backend.statements.jobs().cancel(entry.id).await?;
    }
    let mut view = view(&entry, &JobHealth::look(&backend).await);
    if !ended && !entry.state().is_terminal() {
        // It will be, as soon as the driver has read the request.
        view.state = JobState::Canceling.to_string();
    }
    Ok((StatusCode::ACCEPTED, Json(view)))
}

/// Delete a job
///
/// A job that has ended is forgotten, with its figures and the rows of a SELECT that were kept for
/// readers. What it has committed to tables stays.
#[utoipa::path(
    delete,
    path = "/v1/jobs/{id}",
    operation_id = "deleteJob",
    tag = "jobs",
    params(("id" = String, Path, description = "Id of the job")),
    responses(
        (status = 204, description = "It is forgotten"),
        (status = 404, description = "There is none", body = Problem),
        (status = 409, description = "It has not ended: cancel it first. Or it has savepoints: delete them first", body = Problem),
    ),
)]
pub(super) async fn delete(
    State(statements): State<Arc<Statements>>,
    Named(entry): Named,
) -> Result<StatusCode, Problem> {
    statements.jobs().delete(entry.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Get a job's plan
///
/// The compiled plan: fragments of operators, joined by exchanges.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/plan",
    operation_id = "getPlan",
    tag = "jobs",
    params(("id" = String, Path, description = "Id of the job")),
    responses(
        (status = 200, description = "The plan", body = PlanView),
        (status = 404, description = "There is none", body = Problem),
    ),
)]
pub(super) async fn plan(Named(entry): Named) -> Response {
    let json = entry.spec.plan.to_json();
    ([(CONTENT_TYPE, "application/json")], json).into_response()
}

/// A compiled plan. Its parts are those of `plan.proto` in the JSON form of protobuf.
#[derive(ToSchema, Debug)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes what `Plan::to_json` writes")]
pub(super) struct PlanView {
    /// Version of the format.
    version: u32,
    /// Parts that run in parallel, joined by exchanges.
    #[schema(value_type = Vec<Object>)]
    fragments: (),
    /// What the planner wants known.
    #[schema(required = false)]
    warnings: Vec<String>,
}
