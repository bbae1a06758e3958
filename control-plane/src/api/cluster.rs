//! `/v1/cluster`: the nodes of the control plane, and how they come and go.

use axum::{
    Json,
    body::Bytes,
    extract::{
        Path, State,
        rejection::{BytesRejection, PathRejection},
    },
    http::{HeaderMap, StatusCode},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{backend::Backend, body::Shape, problem::Problem};
use crate::membership::ControlNode;

/// The control plane.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct ClusterView {
    /// Its nodes, by id.
    nodes: Vec<ControlNodeView>,
}

/// A node of the control plane.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct ControlNodeView {
    /// Its number, bound to one disk for ever.
    id: u64,
    /// Where other nodes reach it, as host:port; where everything is one process, where clients do.
    address: String,
    /// Whether it leads.
    leader: bool,
    /// Whether it counts for quorums; if not, it is still catching up.
    voter: bool,
}

impl ClusterView {
    fn of(backend: &Backend) -> ClusterView {
        let view = |node: ControlNode| ControlNodeView {
            id: node.id,
            address: node.address,
            leader: node.leader,
            voter: node.voter,
        };
        ClusterView {
            nodes: backend.membership.nodes().into_iter().map(view).collect(),
        }
    }
}

/// A node that is to join.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes what `Shape` reads")]
pub(super) struct NewNode {
    /// The number that it was started with; one that no node ever had.
    #[schema(example = 4)]
    id: u64,
    /// Where other nodes reach it.
    #[schema(example = "10.0.0.4:7879")]
    address: String,
}

const NEW_NODE: Shape = Shape {
    fields: &["id", "address"],
    example: r#"{"id": 4, "address": "10.0.0.4:7879"}"#,
};

/// Get the nodes of the control plane
#[utoipa::path(
    get,
    path = "/v1/cluster",
    operation_id = "getCluster",
    tag = "cluster",
    responses((status = 200, description = "The control plane", body = ClusterView)),
)]
pub(super) async fn get(State(backend): State<Backend>) -> Json<ClusterView> {
    Json(ClusterView::of(&backend))
}

/// Let a node join the control plane
///
/// It must be running, started with the addresses of the present nodes and without its own among
/// them. First it learns the log, then it votes. Asked again, it goes on where it stopped.
#[utoipa::path(
    post,
    path = "/v1/cluster/nodes",
    operation_id = "addControlNode",
    tag = "cluster",
    request_body = NewNode,
    responses(
        (status = 201, description = "It is a member and votes", body = ClusterView),
        (status = 400, description = "The body is not JSON", body = Problem),
        (status = 409, description = "It cannot join, or another change is under way", body = Problem),
        (status = 413, description = "Too long", body = Problem),
        (status = 415, description = "The body is of another type than JSON", body = Problem),
        (status = 422, description = "The body is not an object with the fields `id` and `address`", body = Problem),
        (status = 503, description = "Not done in time, or there is no leader with a quorum", body = Problem),
    ),
)]
pub(super) async fn add(
    State(backend): State<Backend>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<ClusterView>), Problem> {
    let fields = NEW_NODE.read(&headers, body)?;
    let (id, address) = (fields.number("id")?, fields.text("address")?);
    if !is_address(address) {
        return Err(fields.wrong("address", "is not host:port"));
    }
    backend.membership.add(id, address.to_owned()).await?;
    Ok((StatusCode::CREATED, Json(ClusterView::of(&backend))))
}

fn is_address(text: &str) -> bool {
    let parts = text.rsplit_once(':');
    parts.is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

/// Remove a node from the control plane
///
/// It may be dead. Its number is never used again: to return, it needs an empty data directory and a
/// new number.
#[utoipa::path(
    delete,
    path = "/v1/cluster/nodes/{id}",
    operation_id = "removeControlNode",
    tag = "cluster",
    params(("id" = String, Path, description = "Number of the node")),
    responses(
        (status = 204, description = "It is no member"),
        (status = 404, description = "It never was", body = Problem),
        (status = 409, description = "It cannot go, or another change is under way", body = Problem),
        (status = 503, description = "Not done in time, or there is no leader with a quorum", body = Problem),
    ),
)]
pub(super) async fn remove(
    State(backend): State<Backend>,
    id: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Problem> {
    let unknown = |detail: String| {
        Problem::new(StatusCode::NOT_FOUND, "cluster.node_unknown", detail)
            .hint("ids are numbers; GET /v1/cluster lists the nodes")
    };
    // Axum cannot give what is not UTF-8.
    let Path(id) = id.map_err(|_| unknown("the path has no id of a node".to_owned()))?;
    let id: u64 = id
        .parse()
        .map_err(|_| unknown(format!("`{id}` is not the id of a node")))?;
    backend.membership.remove(id).await?;
    Ok(StatusCode::NO_CONTENT)
}
