//! `/v1/jobs/{id}/stop`, `…/resume`, `…/forks`: ends that keep state, and what is begun with it.

use std::collections::BTreeMap;

use axum::{
    Json,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode},
};
use coordinator::meta::{OriginSpec, Stop};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    backend::Backend,
    body::{Fields, Shape},
    jobs::{JobView, Named, view_of},
    problem::Problem,
    savepoints::read_name,
    statements::read_state,
};
use crate::Fork;

/// How a job is to end.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes what `Shape` reads")]
pub(super) struct StopRequest {
    /// The last checkpoint becomes a savepoint of this name. Without one, no state is kept.
    #[schema(example = "before-upgrade")]
    savepoint: Option<String>,
    /// Sources end first, and time with them: windows fire. What is begun with such a state takes rows
    /// for late that come again.
    #[schema(default = false)]
    drain: Option<bool>,
}

const STOP: Shape = Shape {
    fields: &["savepoint", "drain"],
    example: r#"{"savepoint": "before-upgrade"}"#,
};

/// From which state a job in quarantine goes on.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes what `Shape` reads")]
pub(super) struct ResumeRequest {
    /// Epoch of a checkpoint that can be restored; without it and `savepoint`, the newest.
    checkpoint: Option<u64>,
    /// Name of a savepoint of the job.
    savepoint: Option<String>,
}

const RESUME: Shape = Shape {
    fields: &["checkpoint", "savepoint"],
    example: r#"{"checkpoint": 17}"#,
};

/// A copy of a job.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes what `Shape` reads")]
pub(super) struct ForkRequest {
    /// Epoch of a checkpoint that can be restored; without it and `savepoint`, the newest.
    checkpoint: Option<u64>,
    /// Name of a savepoint of the job.
    savepoint: Option<String>,
    /// Name of the copy.
    name: Option<String>,
    /// By table that the job writes to: options of it that are others for the copy. With `connector`
    /// among them, they are all of the table's options. Tables that are not named are written by both.
    sinks: Option<BTreeMap<String, BTreeMap<String, String>>>,
}

const FORK: Shape = Shape {
    fields: &["checkpoint", "savepoint", "name", "sinks"],
    example: r#"{"sinks": {"results": {"path": "file:///tmp/trial"}}}"#,
};

/// Stop a job
///
/// Its sources read no more, a last checkpoint is made and its output is written; then the job is
/// FINISHED. The request is answered at once; if the job fails meanwhile, it is started again and then
/// stopped.
#[utoipa::path(
    post,
    path = "/v1/jobs/{id}/stop",
    operation_id = "stopJob",
    tag = "jobs",
    params(("id" = String, Path, description = "Id of the job")),
    request_body = StopRequest,
    responses(
        (status = 202, description = "It is being stopped", body = JobView),
        (status = 400, description = "The body is not JSON", body = Problem),
        (status = 404, description = "There is no such job", body = Problem),
        (status = 409, description = "It has ended or is about to, or has such a savepoint", body = Problem),
        (status = 413, description = "Too long", body = Problem),
        (status = 415, description = "The body is of another type than JSON", body = Problem),
        (status = 422, description = "The body is not such an object", body = Problem),
        (status = 503, description = "The metadata do not answer", body = Problem),
    ),
)]
pub(super) async fn stop(
    State(backend): State<Backend>,
    Named(entry): Named,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<JobView>), Problem> {
    let fields = STOP.read(&headers, body)?;
    let stop = Stop {
        savepoint: read_name(&fields, "savepoint")?,
        drain: fields.flag("drain")?,
    };
    backend.statements.jobs().stop(entry.id, stop).await?;
    Ok((StatusCode::ACCEPTED, Json(view_of(&backend, &entry).await)))
}

/// Resume a job
///
/// A job in quarantine runs again, from its newest checkpoint or an older one. From an older one, what
/// came after it counts no more; rows that were written since then stay, and come again.
#[utoipa::path(
    post,
    path = "/v1/jobs/{id}/resume",
    operation_id = "resumeJob",
    tag = "jobs",
    params(("id" = String, Path, description = "Id of the job")),
    request_body = ResumeRequest,
    responses(
        (status = 202, description = "It is being started", body = JobView),
        (status = 400, description = "The body is not JSON", body = Problem),
        (status = 404, description = "There is no such job or savepoint", body = Problem),
        (status = 409, description = "It is not in quarantine, or no such checkpoint is kept", body = Problem),
        (status = 413, description = "Too long", body = Problem),
        (status = 415, description = "The body is of another type than JSON", body = Problem),
        (status = 422, description = "The body is not such an object", body = Problem),
        (status = 503, description = "The metadata do not answer", body = Problem),
    ),
)]
pub(super) async fn resume(
    State(backend): State<Backend>,
    Named(entry): Named,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<JobView>), Problem> {
    let fields = RESUME.read(&headers, body)?;
    let at = read_state(&fields)?;
    backend.statements.jobs().resume(entry.id, at).await?;
    Ok((StatusCode::ACCEPTED, Json(view_of(&backend, &entry).await)))
}

/// Fork a job
///
/// Starts a copy of the job from a state of it, while the job runs on. The copy shares the files of
/// that state, so it is there at once whatever their size. It reads its sources from where the state
/// left off and writes only what comes after that. A table that is not given other options is written
/// by both: files of one never replace those of the other, but rows are there twice.
#[utoipa::path(
    post,
    path = "/v1/jobs/{id}/forks",
    operation_id = "forkJob",
    tag = "jobs",
    params(("id" = String, Path, description = "Id of the job")),
    request_body = ForkRequest,
    responses(
        (status = 201, description = "The copy runs", body = JobView),
        (status = 400, description = "The body is not JSON, or names a table or an option that is not there", body = Problem),
        (status = 404, description = "There is no such job or savepoint", body = Problem),
        (status = 409, description = "There is no such checkpoint, or the job is a SELECT", body = Problem),
        (status = 413, description = "Too long", body = Problem),
        (status = 415, description = "The body is of another type than JSON", body = Problem),
        (status = 422, description = "The body is not such an object", body = Problem),
        (status = 429, description = "Too many jobs", body = Problem),
        (status = 503, description = "The metadata do not answer", body = Problem),
    ),
)]
pub(super) async fn fork(
    State(backend): State<Backend>,
    Named(entry): Named,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<JobView>), Problem> {
    let fields = FORK.read(&headers, body)?;
    let fork = Fork {
        origin: OriginSpec {
            job: entry.id,
            at: read_state(&fields)?,
        },
        name: fields.text_if_there("name")?.map(str::to_owned),
        sinks: read_sinks(&fields)?,
    };
    let copy = backend.statements.fork(&fork).await?;
    Ok((StatusCode::CREATED, Json(view_of(&backend, &copy).await)))
}

fn read_sinks(fields: &Fields) -> Result<BTreeMap<String, BTreeMap<String, String>>, Problem> {
    let Some(sinks) = fields.object_if_there("sinks")? else {
        return Ok(BTreeMap::new());
    };
    let wrong = || fields.wrong("sinks", "is not an object of objects of text");
    let text = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
    let options = |value: &Map<String, Value>| value.iter().map(text).collect::<Option<_>>();
    let sinks = sinks.iter().map(|(table, value)| {
        let options = value.as_object().and_then(options);
        Ok((table.clone(), options.ok_or_else(wrong)?))
    });
    sinks.collect()
}
