//! `/v1/state-nodes`: who serves the state of jobs.

use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::{backend::Backend, health::Health, problem::Problem};
use crate::state_tier::StateNodeStatus;

/// State nodes.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct StateNodeList {
    /// Those that are connected, and those that are not and still own shards. Empty where state is
    /// in the memory of one process.
    state_nodes: Vec<StateNodeView>,
}

/// A state node.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct StateNodeView {
    /// Its id: a process that starts again has another one.
    #[schema(example = "sn_1")]
    id: String,
    /// Where it answers requests, as host:port; left out where they need no network.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// Whether it is connected.
    connected: bool,
    /// Shards that it owns, of all jobs.
    shards: usize,
    /// Whether it is there and the object store lets it work.
    health: Health,
    /// Why it is degraded.
    #[serde(skip_serializing_if = "Option::is_none")]
    health_reason: Option<String>,
}

/// List state nodes
#[utoipa::path(
    get,
    path = "/v1/state-nodes",
    operation_id = "listStateNodes",
    tag = "state-nodes",
    responses((status = 200, description = "The state nodes", body = StateNodeList)),
)]
pub(super) async fn list(State(backend): State<Backend>) -> Result<Json<StateNodeList>, Problem> {
    let Some(status) = backend.state_status().await else {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let detail = "the state tier does not answer";
        return Err(Problem::new(status, "state_tier.unavailable", detail)
            .hint("ask again in a few seconds"));
    };
    Ok(Json(StateNodeList {
        state_nodes: status.nodes.into_iter().map(view).collect(),
    }))
}

fn view(node: StateNodeStatus) -> StateNodeView {
    let reason = node.degraded;
    let reason = reason.or_else(|| (!node.connected).then(|| "it is not connected".to_owned()));
    StateNodeView {
        id: node.node.to_string(),
        address: Some(node.address).filter(|address| !address.is_empty()),
        connected: node.connected,
        shards: node.shards,
        health: Health::of(reason.as_ref()),
        health_reason: reason,
    }
}
