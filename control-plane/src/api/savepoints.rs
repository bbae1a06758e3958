//! `/v1/jobs/{id}/savepoints`: states of a job that are kept by name, whatever becomes of it.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode},
};
use coordinator::meta::{JobRecord, RestoreAt, Savepoint};
use proto::types::JobId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    body::{Fields, Shape},
    jobs::Named,
    problem::Problem,
    statements::read_state,
};
use crate::{JobsError, Statements, caps::SAVEPOINT_NAME_CHARS};

/// A savepoint to make.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes what `Shape` reads")]
pub(super) struct NewSavepoint {
    /// Its name, new among the job's: letters, digits, `.`, `_` and `-`. Without one it is named after
    /// its epoch.
    #[schema(example = "before-upgrade")]
    name: Option<String>,
    /// Epoch of a checkpoint that can be restored; without one, the newest.
    checkpoint: Option<u64>,
}

const NEW: Shape = Shape {
    fields: &["name", "checkpoint"],
    example: r#"{"name": "before-upgrade"}"#,
};

/// A savepoint.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct SavepointView {
    /// Its name.
    name: String,
    /// The job's epoch.
    checkpoint: u64,
    /// When it was made, in ms since 1970.
    created_ms: u64,
    /// For SET 'execution.state-recovery.path'.
    #[schema(example = "job_1/savepoints/before-upgrade")]
    path: String,
}

/// Savepoints of a job, by name.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct SavepointList {
    savepoints: Vec<SavepointView>,
}

fn view(job: JobId, name: &str, savepoint: &Savepoint) -> SavepointView {
    SavepointView {
        name: name.to_owned(),
        checkpoint: savepoint.point.epoch.0,
        created_ms: savepoint.created_ms,
        path: format!("{job}/savepoints/{name}"),
    }
}

fn find(record: &JobRecord, name: &str) -> Result<SavepointView, Problem> {
    let found = record.savepoints.get(name);
    let found = found.map(|savepoint| view(record.id, name, savepoint));
    found.ok_or_else(|| unknown(record.id, name))
}

fn unknown(job: JobId, name: &str) -> Problem {
    let name = name.to_owned();
    JobsError::from(coordinator::meta::Refusal::UnknownSavepoint { job, name }).into()
}

/// The name of a savepoint to make, if one is given.
pub(super) fn read_name(fields: &Fields, field: &str) -> Result<Option<String>, Problem> {
    let Some(name) = fields.text_if_there(field)? else {
        return Ok(None);
    };
    let plain = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
    let is_name = (1..=SAVEPOINT_NAME_CHARS).contains(&name.len()) && name.chars().all(plain);
    if !is_name {
        let why =
            format!("is not a name: 1 to {SAVEPOINT_NAME_CHARS} letters, digits, `.`, `_`, `-`");
        return Err(fields.wrong(field, &why));
    }
    Ok(Some(name.to_owned()))
}

/// List savepoints
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/savepoints",
    operation_id = "listSavepoints",
    tag = "jobs",
    params(("id" = String, Path, description = "Id of the job")),
    responses(
        (status = 200, description = "The job's savepoints", body = SavepointList),
        (status = 404, description = "There is no such job", body = Problem),
        (status = 503, description = "The metadata do not answer", body = Problem),
    ),
)]
pub(super) async fn list(
    State(statements): State<Arc<Statements>>,
    Named(entry): Named,
) -> Result<Json<SavepointList>, Problem> {
    let record = statements.jobs().record(entry.id).await?;
    let savepoints = record.savepoints.iter();
    let savepoints = savepoints.map(|(name, savepoint)| view(record.id, name, savepoint));
    Ok(Json(SavepointList {
        savepoints: savepoints.collect(),
    }))
}

/// Get a savepoint
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/savepoints/{name}",
    operation_id = "getSavepoint",
    tag = "jobs",
    params(
        ("id" = String, Path, description = "Id of the job"),
        ("name" = String, Path, description = "Name of the savepoint"),
    ),
    responses(
        (status = 200, description = "The savepoint", body = SavepointView),
        (status = 404, description = "There is none", body = Problem),
        (status = 503, description = "The metadata do not answer", body = Problem),
    ),
)]
pub(super) async fn get(
    State(statements): State<Arc<Statements>>,
    InJob(entry, name): InJob,
) -> Result<Json<SavepointView>, Problem> {
    let record = statements.jobs().record(entry.id).await?;
    find(&record, &name).map(Json)
}

/// Make a savepoint
///
/// The state of a checkpoint is kept until the savepoint is deleted, also when the job ends. It is
/// there at once, whatever its size: no data are copied.
#[utoipa::path(
    post,
    path = "/v1/jobs/{id}/savepoints",
    operation_id = "createSavepoint",
    tag = "jobs",
    params(("id" = String, Path, description = "Id of the job")),
    request_body = NewSavepoint,
    responses(
        (status = 201, description = "It is made", body = SavepointView),
        (status = 400, description = "The body is not JSON", body = Problem),
        (status = 404, description = "There is no such job", body = Problem),
        (status = 409, description = "There is one of that name, or no such checkpoint is kept", body = Problem),
        (status = 413, description = "Too long", body = Problem),
        (status = 415, description = "The body is of another type than JSON", body = Problem),
        (status = 422, description = "The body is not such an object", body = Problem),
        (status = 503, description = "The metadata do not answer", body = Problem),
    ),
)]
pub(super) async fn create(
    State(statements): State<Arc<Statements>>,
    Named(entry): Named,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<SavepointView>), Problem> {
    let fields = NEW.read(&headers, body)?;
    let at = read_state(&fields)?;
    let jobs = statements.jobs();
    let name = match (read_name(&fields, "name")?, &at) {
        (Some(name), _) => name,
        (None, RestoreAt::Checkpoint(epoch)) => format!("checkpoint-{epoch}"),
        (None, _) => {
            // One that overtook nothing, if there is any yet.
            let newest = jobs.record(entry.id).await?.restorable().pop();
            format!("checkpoint-{}", newest.unwrap_or_else(|| entry.committed()))
        }
    };
    jobs.save(entry.id, name.clone(), at).await?;
    let record = jobs.record(entry.id).await?;
    Ok((StatusCode::CREATED, Json(find(&record, &name)?)))
}

/// Delete a savepoint
///
/// What nothing else needs of its files goes. Jobs that began with it go on.
#[utoipa::path(
    delete,
    path = "/v1/jobs/{id}/savepoints/{name}",
    operation_id = "deleteSavepoint",
    tag = "jobs",
    params(
        ("id" = String, Path, description = "Id of the job"),
        ("name" = String, Path, description = "Name of the savepoint"),
    ),
    responses(
        (status = 204, description = "It is deleted"),
        (status = 404, description = "There is none", body = Problem),
        (status = 409, description = "It is being exported", body = Problem),
        (status = 503, description = "The metadata do not answer", body = Problem),
    ),
)]
pub(super) async fn delete(
    State(statements): State<Arc<Statements>>,
    InJob(entry, name): InJob,
) -> Result<StatusCode, Problem> {
    statements.jobs().drop_savepoint(entry.id, name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The job and the name that a path names.
pub(super) struct InJob(pub(super) Arc<crate::JobEntry>, pub(super) String);

impl axum::extract::FromRequestParts<super::backend::Backend> for InJob {
    type Rejection = Problem;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        backend: &super::backend::Backend,
    ) -> Result<InJob, Problem> {
        let path = Path::<(String, String)>::from_request_parts(parts, backend).await;
        let unknown_path = |_| {
            let detail = "the path has no name of a savepoint";
            Problem::new(StatusCode::NOT_FOUND, "savepoint.unknown", detail)
        };
        let Path((id, name)) = path.map_err(unknown_path)?;
        Ok(InJob(super::jobs::named(backend, &id)?, name))
    }
}
