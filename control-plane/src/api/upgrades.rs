//! `/v1/jobs/{id}/upgrade`: another statement takes a job's place, with its state.

use axum::{
    Json,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode},
};
use coordinator::meta::{Upgrade, UpgradeMode};
use proto::types::JobId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    backend::Backend,
    body::{Fields, Shape},
    jobs::Named,
    problem::Problem,
    savepoints::read_name,
};

/// A statement that is to take a job's place.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes what `Shape` reads")]
pub(super) struct UpgradeRequest {
    /// Statements that start one job; SET among them says how it runs.
    #[schema(example = "INSERT INTO counts SELECT k, COUNT(*) FROM orders GROUP BY k")]
    sql: String,
    /// What it begins with: `savepoint` (the default), the state of a last checkpoint with all output
    /// written; `last_state`, that of the last checkpoint, at once and also from quarantine: output
    /// after it comes again, and what was not written yet does not come; `stateless`, nothing.
    #[schema(example = "savepoint")]
    mode: Option<String>,
    /// Name of the savepoint that is made; `upgrade` if none is given.
    savepoint: Option<String>,
    /// Leave state alone that the new plan has no use for, instead of refusing it.
    #[schema(default = false)]
    allow_non_restored_state: Option<bool>,
}

const UPGRADE: Shape = Shape {
    fields: &["sql", "mode", "savepoint", "allow_non_restored_state"],
    example: r#"{"sql": "INSERT INTO …", "mode": "savepoint"}"#,
};

/// How far an upgrade is.
#[derive(Clone, Copy, Serialize, ToSchema, Debug)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum UpgradeState {
    /// The job is being stopped.
    Stopping,
    /// The other one runs.
    Done,
    /// The job did not end as it was to; nobody takes its place.
    GivenUp,
}

/// An upgrade.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct UpgradeView {
    /// The job.
    #[schema(example = "job_1")]
    job: String,
    /// How far it is.
    state: UpgradeState,
    /// What the other job begins with.
    mode: &'static str,
    /// The savepoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    savepoint: Option<String>,
    /// The job that has taken its place.
    #[schema(example = "job_2")]
    #[serde(skip_serializing_if = "Option::is_none")]
    successor: Option<String>,
    /// Why it was given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

const MODES: [(&str, UpgradeMode); 3] = [
    ("savepoint", UpgradeMode::Savepoint),
    ("last_state", UpgradeMode::LastState),
    ("stateless", UpgradeMode::Stateless),
];

fn view(job: JobId, upgrade: &Upgrade) -> UpgradeView {
    let mode = MODES.into_iter().find(|(_, mode)| *mode == upgrade.mode);
    UpgradeView {
        job: job.to_string(),
        state: match (&upgrade.successor, &upgrade.given_up) {
            (Some(_), _) => UpgradeState::Done,
            (None, Some(_)) => UpgradeState::GivenUp,
            (None, None) => UpgradeState::Stopping,
        },
        mode: mode.map_or("", |(name, _)| name),
        savepoint: upgrade.savepoint.clone(),
        successor: upgrade.successor.map(|job| job.to_string()),
        reason: upgrade.given_up.clone(),
    }
}

fn read_mode(fields: &Fields) -> Result<UpgradeMode, Problem> {
    let Some(text) = fields.text_if_there("mode")? else {
        return Ok(UpgradeMode::Savepoint);
    };
    let known = MODES.into_iter().find(|(name, _)| *name == text);
    let known = known.map(|(_, mode)| mode);
    known.ok_or_else(|| fields.wrong("mode", "is none of savepoint, last_state, stateless"))
}

/// Upgrade a job
///
/// Has another statement take the job's place. Whether its plan fits the state is found out before
/// anything stops, and the two count together: whatever fails on the way, the job goes on as it was, or
/// waits in quarantine with its state.
#[utoipa::path(
    post,
    path = "/v1/jobs/{id}/upgrade",
    operation_id = "upgradeJob",
    tag = "jobs",
    params(("id" = String, Path, description = "Id of the job")),
    request_body = UpgradeRequest,
    responses(
        (status = 202, description = "It is being replaced, or was", body = UpgradeView),
        (status = 400, description = "The body is not JSON, or a statement is wrong", body = Problem),
        (status = 404, description = "There is no such job", body = Problem),
        (status = 409, description = "The state does not fit, or the job is about to end; it runs on", body = Problem),
        (status = 413, description = "Too long", body = Problem),
        (status = 415, description = "The body is of another type than JSON", body = Problem),
        (status = 422, description = "The body is not such an object", body = Problem),
        (status = 503, description = "The metadata do not answer", body = Problem),
    ),
)]
pub(super) async fn begin(
    State(backend): State<Backend>,
    Named(entry): Named,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<UpgradeView>), Problem> {
    let fields = UPGRADE.read(&headers, body)?;
    let mode = read_mode(&fields)?;
    let savepoint = match (mode, read_name(&fields, "savepoint")?) {
        (UpgradeMode::Savepoint | UpgradeMode::LastState, name) => {
            Some(name.unwrap_or_else(|| "upgrade".to_owned()))
        }
        (UpgradeMode::Stateless, None) => None,
        (UpgradeMode::Stateless, Some(_)) => {
            return Err(fields.wrong("savepoint", "is not for the mode `stateless`"));
        }
    };
    let (sql, allow) = (
        fields.text("sql")?,
        fields.flag("allow_non_restored_state")?,
    );
    let statements = &backend.statements;
    let upgraded = statements.upgrade(entry.id, sql, mode, savepoint, allow);
    upgraded.await?;
    Ok((StatusCode::ACCEPTED, Json(look(&backend, entry.id).await?)))
}

async fn look(backend: &Backend, job: JobId) -> Result<UpgradeView, Problem> {
    let record = backend.statements.jobs().record(job).await?;
    let upgrade = record.upgrade.as_ref();
    upgrade.map(|upgrade| view(job, upgrade)).ok_or_else(|| {
        let detail = format!("{job} was never upgraded");
        Problem::new(StatusCode::NOT_FOUND, "upgrade.unknown", detail)
            .hint("POST to the same path begins an upgrade")
    })
}

/// Get the upgrade of a job
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/upgrade",
    operation_id = "getUpgrade",
    tag = "jobs",
    params(("id" = String, Path, description = "Id of the job")),
    responses(
        (status = 200, description = "How far it is", body = UpgradeView),
        (status = 404, description = "There is no such job, or it was never upgraded", body = Problem),
        (status = 503, description = "The metadata do not answer", body = Problem),
    ),
)]
pub(super) async fn get(
    State(backend): State<Backend>,
    Named(entry): Named,
) -> Result<Json<UpgradeView>, Problem> {
    look(&backend, entry.id).await.map(Json)
}
