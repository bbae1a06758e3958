//! `/v1/transfers`, and what begins them: copies of savepoints in other buckets and directories.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode},
};
use coordinator::meta::{Transfer, TransferEnd, TransferSpec};
use proto::types::TransferId;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use utoipa::ToSchema;

use super::{
    backend::Backend,
    body::{Fields, Shape},
    problem::Problem,
    savepoints::{InJob, read_name},
};
use crate::{
    JobsError,
    caps::{TRANSFER_CHECK_PATIENCE, TRANSFER_URL_BYTES},
    state_tier::{StateTier, TransferError, TransferStatus},
};

/// Where a savepoint is to be copied.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes what `Shape` reads")]
pub(super) struct ExportRequest {
    /// An empty place: a prefix of a bucket, or a directory on the state node's machine. How to reach a
    /// bucket, the state nodes' environment says.
    #[schema(example = "s3://backups/orders/before-upgrade")]
    to: String,
}

const EXPORT: Shape = Shape {
    fields: &["to"],
    example: r#"{"to": "s3://backups/orders/before-upgrade"}"#,
};

/// What is to be imported.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes what `Shape` reads")]
pub(super) struct ImportRequest {
    /// A place that a savepoint was exported to.
    #[schema(example = "s3://backups/orders/before-upgrade")]
    from: String,
    /// Name of the savepoint that it becomes; without one, the name that it had.
    name: Option<String>,
}

const IMPORT: Shape = Shape {
    fields: &["from", "name"],
    example: r#"{"from": "s3://backups/orders/before-upgrade"}"#,
};

/// How far an export or an import is.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, ToSchema, Debug)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum TransferState {
    /// Whether it can be done is being found out, or it waits for a state node.
    Checking,
    /// It is under way.
    Copying,
    /// It is being stopped.
    Canceling,
    /// All is copied.
    Done,
    /// It could not be done; asked for again, an export goes on from where it was.
    Failed,
    /// It was stopped.
    Canceled,
}

/// An export or an import.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct TransferView {
    /// Its id.
    #[schema(example = "tr_1")]
    id: String,
    /// EXPORT or IMPORT.
    kind: &'static str,
    /// How far it is.
    state: TransferState,
    /// The job whose savepoint is exported, or the one that was made for what is imported.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<String>,
    /// Name of the savepoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    savepoint: Option<String>,
    /// For SET 'execution.state-recovery.path', once an import is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// Where to, or where from.
    place: String,
    /// Bytes that are copied.
    bytes: u64,
    /// Bytes in all, as far as is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    total_bytes: Option<u64>,
    /// Why it could not be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// When it was asked for, in ms since 1970.
    created_ms: u64,
    /// When it ended, in ms since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_ms: Option<u64>,
}

/// Exports and imports, oldest first.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct TransferList {
    /// Those that are under way, and the last ones that were.
    transfers: Vec<TransferView>,
}

fn view(transfer: &Transfer, status: &TransferStatus) -> TransferView {
    let (end, ended_ms) = match &transfer.ended {
        Some((end, at_ms)) => (Some(end), Some(*at_ms)),
        None => (status.ended.as_ref(), None),
    };
    let state = match end {
        Some(TransferEnd::Done { .. }) => TransferState::Done,
        Some(TransferEnd::Failed { .. }) => TransferState::Failed,
        Some(TransferEnd::Canceled) => TransferState::Canceled,
        None if transfer.canceling => TransferState::Canceling,
        None if status.checked => TransferState::Copying,
        None => TransferState::Checking,
    };
    let found = transfer.found.as_ref();
    let (kind, job, savepoint, place) = match &transfer.spec {
        TransferSpec::Export { job, savepoint, to } => {
            ("EXPORT", Some(*job), Some(savepoint.clone()), to)
        }
        TransferSpec::Import { from, savepoint } => {
            let had = found.map(|(_, found)| found.source.savepoint.clone());
            let job = found.map(|(job, _)| *job);
            ("IMPORT", job, savepoint.clone().or(had), from)
        }
    };
    let (bytes, total) = match end {
        Some(TransferEnd::Done { bytes }) => (*bytes, *bytes),
        _ => (status.bytes, status.total),
    };
    let is_there = kind == "IMPORT" && state == TransferState::Done;
    let path = || Some(format!("{}/savepoints/{}", job?, savepoint.as_ref()?));
    TransferView {
        id: transfer.id.to_string(),
        kind,
        state,
        path: is_there.then(path).flatten(),
        job: job.map(|job| job.to_string()),
        savepoint,
        place: place.clone(),
        bytes,
        total_bytes: (total > 0).then_some(total),
        error: match end {
            Some(TransferEnd::Failed { error }) => Some(error.clone()),
            _ => None,
        },
        created_ms: transfer.created_ms,
        ended_ms,
    }
}

impl From<TransferError> for Problem {
    fn from(error: TransferError) -> Problem {
        match error {
            TransferError::Refused(refusal) => refusal.into(),
            TransferError::Unavailable(why) => super::problem::in_doubt(why),
        }
    }
}

fn tier(backend: &Backend) -> Result<&StateTier, Problem> {
    let tier = backend.state_tier.as_ref();
    tier.ok_or_else(|| JobsError::NotKept.into())
}

/// A URL of a place; what cannot be one, or may hold a key, is refused before it is written down.
fn read_place(fields: &Fields, field: &str) -> Result<String, Problem> {
    let place = fields.text(field)?.trim();
    if place.len() > TRANSFER_URL_BYTES {
        let why = format!("has more than {TRANSFER_URL_BYTES} bytes");
        return Err(fields.wrong(field, &why));
    }
    match place.strip_prefix("s3://") {
        Some(rest) if rest.contains(['@', '?', '#']) => Err(fields.wrong(
            field,
            "takes no keys and no options: the state nodes' environment says how to reach a bucket",
        )),
        Some(_) => Ok(place.to_owned()),
        None if place.starts_with("file:///") => Ok(place.to_owned()),
        None => Err(fields.wrong(
            field,
            "is no place: write s3://bucket/prefix or file:///directory",
        )),
    }
}

/// A transfer as it is now; `None`: there is none.
async fn look(backend: &Backend, id: TransferId) -> Result<Option<TransferView>, Problem> {
    let tier = tier(backend)?;
    let found = all(tier).await?.into_iter().find(|found| found.id == id);
    let Some(found) = found else {
        return Ok(None);
    };
    if let (Some((TransferEnd::Done { .. }, _)), Some((job, _))) = (&found.ended, &found.found) {
        // Whoever reads that it is there will want to use it.
        if let Err(error) = backend.statements.jobs().adopt(*job).await {
            return Err(error.into());
        }
    }
    let status = tier.transfer_statuses().borrow().get(&id).cloned();
    Ok(Some(view(&found, &status.unwrap_or_default())))
}

async fn all(tier: &StateTier) -> Result<Vec<Transfer>, Problem> {
    let transfers = tier.transfers().await;
    transfers.map_err(|error| {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Problem::new(status, "metadata.unavailable", error.to_string())
            .hint("ask again in a few seconds")
    })
}

/// Begins a transfer, and waits for a while to hear whether something stands in its way.
async fn begin(
    backend: &Backend,
    spec: TransferSpec,
) -> Result<(StatusCode, Json<TransferView>), Problem> {
    const PATIENCE: Duration = TRANSFER_CHECK_PATIENCE;
    let tier = tier(backend)?;
    let id = tier.begin_transfer(spec).await?;
    let mut statuses = tier.transfer_statuses();
    let is_known = |statuses: &crate::state_tier::TransferStatuses| {
        let status = statuses.get(&id);
        status.is_some_and(|status| status.checked || status.ended.is_some())
    };
    // Without an answer it is under way all the same.
    drop(timeout(PATIENCE, statuses.wait_for(is_known)).await);
    let seen = look(backend, id).await?;
    let seen = seen.ok_or_else(|| unknown(id.to_string()))?;
    match (seen.state, &seen.error) {
        (TransferState::Failed, Some(error)) => {
            Err(
                Problem::new(StatusCode::CONFLICT, "transfer.refused", error.clone())
                    .hint("nothing has changed"),
            )
        }
        _ => Ok((StatusCode::ACCEPTED, Json(seen))),
    }
}

fn unknown(id: String) -> Problem {
    let detail = format!("there is no export or import {id}");
    Problem::new(StatusCode::NOT_FOUND, "transfer.unknown", detail)
        .hint("GET /v1/transfers lists them")
}

/// Export a savepoint
///
/// Copies the savepoint, with all of its state, to another bucket or directory, from where any cluster
/// can import it. Neither the job nor its speed matter: nothing of it is asked. A copy that was broken
/// off is gone on with when it is asked for again. The savepoint cannot be deleted meanwhile.
#[utoipa::path(
    post,
    path = "/v1/jobs/{id}/savepoints/{name}/export",
    operation_id = "exportSavepoint",
    tag = "savepoints",
    params(
        ("id" = String, Path, description = "Id of the job"),
        ("name" = String, Path, description = "Name of the savepoint"),
    ),
    request_body = ExportRequest,
    responses(
        (status = 202, description = "It is under way, or was done before", body = TransferView),
        (status = 400, description = "The body is not JSON", body = Problem),
        (status = 404, description = "There is no such savepoint", body = Problem),
        (status = 409, description = "The place is not empty, or cannot be written; or too many are under way", body = Problem),
        (status = 413, description = "Too long", body = Problem),
        (status = 415, description = "The body is of another type than JSON", body = Problem),
        (status = 422, description = "The body is not such an object", body = Problem),
        (status = 503, description = "The metadata do not answer", body = Problem),
    ),
)]
pub(super) async fn export(
    State(backend): State<Backend>,
    InJob(entry, savepoint): InJob,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<TransferView>), Problem> {
    let fields = EXPORT.read(&headers, body)?;
    let to = read_place(&fields, "to")?;
    let job = entry.id;
    begin(&backend, TransferSpec::Export { job, savepoint, to }).await
}

/// Import a savepoint
///
/// Takes in what a cluster has exported, this one or another: it becomes the savepoint of a job that
/// has ended, which statements can begin with. What is not whole, damaged or made by a newer version is
/// refused.
#[utoipa::path(
    post,
    path = "/v1/savepoints/import",
    operation_id = "importSavepoint",
    tag = "savepoints",
    request_body = ImportRequest,
    responses(
        (status = 202, description = "It is under way", body = TransferView),
        (status = 400, description = "The body is not JSON", body = Problem),
        (status = 409, description = "There is nothing that could be imported; or too many are under way", body = Problem),
        (status = 413, description = "Too long", body = Problem),
        (status = 415, description = "The body is of another type than JSON", body = Problem),
        (status = 422, description = "The body is not such an object", body = Problem),
        (status = 503, description = "The metadata do not answer", body = Problem),
    ),
)]
pub(super) async fn import(
    State(backend): State<Backend>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<TransferView>), Problem> {
    let fields = IMPORT.read(&headers, body)?;
    let from = read_place(&fields, "from")?;
    let savepoint = read_name(&fields, "name")?;
    begin(&backend, TransferSpec::Import { from, savepoint }).await
}

/// List exports and imports
#[utoipa::path(
    get,
    path = "/v1/transfers",
    operation_id = "listTransfers",
    tag = "savepoints",
    responses(
        (status = 200, description = "Exports and imports", body = TransferList),
        (status = 409, description = "State is in memory only", body = Problem),
        (status = 503, description = "The metadata do not answer", body = Problem),
    ),
)]
pub(super) async fn list(State(backend): State<Backend>) -> Result<Json<TransferList>, Problem> {
    let tier = tier(&backend)?;
    let transfers = all(tier).await?;
    let statuses = Arc::clone(&tier.transfer_statuses().borrow());
    let transfers = transfers.iter().map(|transfer| {
        let status = statuses.get(&transfer.id).cloned();
        view(transfer, &status.unwrap_or_default())
    });
    Ok(Json(TransferList {
        transfers: transfers.collect(),
    }))
}

fn read_id(id: &str) -> Result<TransferId, Problem> {
    id.parse().map_err(|_| unknown(format!("`{id}`")))
}

/// Get an export or an import
#[utoipa::path(
    get,
    path = "/v1/transfers/{id}",
    operation_id = "getTransfer",
    tag = "savepoints",
    params(("id" = String, Path, description = "Its id")),
    responses(
        (status = 200, description = "How far it is", body = TransferView),
        (status = 404, description = "There is none", body = Problem),
        (status = 503, description = "The metadata do not answer", body = Problem),
    ),
)]
pub(super) async fn get(
    State(backend): State<Backend>,
    Path(id): Path<String>,
) -> Result<Json<TransferView>, Problem> {
    let found = look(&backend, read_id(&id)?).await?;
    found.map(Json).ok_or_else(|| unknown(id))
}

/// Cancel an export or an import
///
/// What was imported goes. What was exported stays, without the list of files that makes it whole: the
/// same export can be asked for again and goes on, or the place be deleted.
#[utoipa::path(
    post,
    path = "/v1/transfers/{id}/cancel",
    operation_id = "cancelTransfer",
    tag = "savepoints",
    params(("id" = String, Path, description = "Its id")),
    responses(
        (status = 202, description = "It is being stopped", body = TransferView),
        (status = 404, description = "There is none", body = Problem),
        (status = 409, description = "It has ended", body = Problem),
        (status = 503, description = "The metadata do not answer", body = Problem),
    ),
)]
pub(super) async fn cancel(
    State(backend): State<Backend>,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<TransferView>), Problem> {
    let number = read_id(&id)?;
    tier(&backend)?.cancel_transfer(number).await?;
    let found = look(&backend, number).await?;
    let found = found.ok_or_else(|| unknown(id))?;
    Ok((StatusCode::ACCEPTED, Json(found)))
}
