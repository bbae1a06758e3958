//! `/v1/files`: which files of the store anything needs, for who checks the store.

use axum::{Json, extract::State, http::StatusCode};
use serde_json::Value;

use super::{backend::Backend, problem::Problem};
use crate::JobsError;

/// List needed files
///
/// Every file of the store that a checkpoint, a savepoint, a job that began with one or output that is
/// not published yet needs, as the metadata have it at the time of the request: what
/// `millstream fsck` compares the store with.
#[utoipa::path(
    get,
    path = "/v1/files",
    operation_id = "listNeededFiles",
    tag = "server",
    responses(
        (status = 200, description = "What is needed, by job", body = Object),
        (status = 409, description = "State is in memory only", body = Problem),
        (status = 503, description = "The metadata do not answer", body = Problem),
    ),
)]
pub(super) async fn list(State(backend): State<Backend>) -> Result<Json<Value>, Problem> {
    let tier = backend.state_tier.as_ref().ok_or(JobsError::NotKept)?;
    let inventory = tier.inventory().await.map_err(|error| {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Problem::new(status, "metadata.unavailable", error.to_string())
            .hint("ask again in a few seconds")
    })?;
    let value = serde_json::to_value(inventory).map_err(|error| {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Problem::new(status, "server.internal", error.to_string())
    })?;
    Ok(Json(value))
}
