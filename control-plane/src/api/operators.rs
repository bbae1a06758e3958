//! `/v1/jobs/{id}/operators`: what a job consists of, and how much state each operator has.

use axum::{Json, extract::State};
use coordinator::census::Stored;
use proto::plan::{Node, node::Operator, state_bound::Kind};
use serde::Serialize;
use utoipa::ToSchema;

use super::{backend::Backend, jobs::Named, problem::Problem};
use crate::JobEntry;

/// The operators of a job.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct OperatorList {
    operators: Vec<OperatorView>,
}

/// An operator of a job's plan.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct OperatorView {
    /// Its id in the plan.
    id: String,
    /// What it does.
    description: String,
    /// Its state, if it keeps any.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<OperatorStateView>,
}

/// The state of an operator.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct OperatorStateView {
    /// What bounds it.
    bound: String,
    /// Its tables.
    tables: Vec<String>,
    /// Rows that its tasks have in memory.
    memory_rows: u64,
    /// Bytes that these take.
    memory_bytes: u64,
    /// What the job has of it in the store; missing before some of it has been counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    stored: Option<StoredView>,
}

/// What is stored of an operator. It is counted in the background, key group by key group, and what
/// changes meanwhile is in it the next time; `GET …/state/size` counts it at once.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct StoredView {
    /// Rows of all tables.
    rows: u64,
    /// Bytes of their keys and values, before compression.
    bytes: u64,
    /// Whether it is reckoned from those key groups that have been counted: not all have been yet.
    estimated: bool,
    /// The epoch that was the last committed one when the oldest part of it was counted.
    checkpoint: u64,
}

/// List operators
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/operators",
    operation_id = "listOperators",
    tag = "jobs",
    params(("id" = String, Path, description = "Id of the job")),
    responses(
        (status = 200, description = "The operators of its plan", body = OperatorList),
        (status = 404, description = "There is no such job", body = Problem),
    ),
)]
pub(super) async fn list(
    State(backend): State<Backend>,
    Named(entry): Named,
) -> Result<Json<OperatorList>, Problem> {
    let metrics = backend.statements.jobs().metrics(entry.id)?;
    let view = |node: &Node| {
        let tasks = metrics
            .get(&node.id)
            .into_iter()
            .flat_map(|tasks| tasks.values());
        let (rows, bytes) = tasks.fold((0, 0), |(rows, bytes), task| {
            (rows + task.state_rows, bytes + task.state_bytes)
        });
        OperatorView {
            id: node.id.clone(),
            description: node.description.clone(),
            state: (!node.tables.is_empty()).then(|| OperatorStateView {
                bound: bound(node),
                tables: node.tables.iter().map(|table| table.name.clone()).collect(),
                memory_rows: rows,
                memory_bytes: bytes,
                stored: entry.stored(node).map(StoredView::from),
            }),
        }
    };
    Ok(Json(OperatorList {
        operators: nodes(&entry).map(view).collect(),
    }))
}

impl From<Stored> for StoredView {
    fn from(stored: Stored) -> StoredView {
        StoredView {
            rows: stored.rows,
            bytes: stored.bytes,
            estimated: !stored.is_whole,
            checkpoint: stored.since.0,
        }
    }
}

fn nodes(entry: &JobEntry) -> impl Iterator<Item = &Node> {
    let fragments = entry.spec.plan.fragments.iter();
    fragments.flat_map(|fragment| &fragment.nodes)
}

fn bound(node: &Node) -> String {
    let is_source = matches!(node.operator, Some(Operator::Source(_)));
    match node
        .state_bound
        .as_ref()
        .and_then(|bound| bound.kind.as_ref())
    {
        Some(Kind::Window(_)) => "until the window closes".to_owned(),
        Some(Kind::Ttl(ttl)) => {
            let kept = |ms: &u64| match ms {
                0 => "for ever".to_owned(),
                ms => format!("until untouched for {}", sql::duration(*ms)),
            };
            let mut kept: Vec<String> = ttl.input_ms.iter().map(kept).collect();
            kept.dedup();
            // Where inputs differ: those of the left one, and those of the right one.
            kept.join("; ")
        }
        Some(Kind::Unbounded(unbounded)) => format!("unbounded: one {}", unbounded.per),
        Some(Kind::Constant(_)) if is_source => "one row per split".to_owned(),
        Some(Kind::Constant(_)) => "constant".to_owned(),
        Some(Kind::Stateless(_)) | None => "none".to_owned(),
    }
}
