//! `/v1/jobs/{id}/operators`: what a job consists of, how much state each operator has, and its rows.

use std::{future::Future, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{FromRequestParts, Path, Query, State, rejection::QueryRejection},
    http::{StatusCode, request::Parts},
};
use proto::{
    plan::{Node, node::Operator, state_bound::Kind},
    types::Field,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use state_client::Incarnation;
use tokio::time::{sleep, timeout};
use utoipa::{IntoParams, ToSchema};

use super::{
    backend::Backend,
    jobs::{Named, named},
    problem::Problem,
    state_queries::{KeyQuery, StateOf, StateQuery, StateQueryError},
};
use crate::{
    JobEntry,
    caps::{STATE_QUERY_PATIENCE, STATE_ROWS_LISTED, STATE_ROWS_MAX},
    results::{column_names, row_json},
};

/// Pause before state is asked for again while its job restarts.
const RESTART_PAUSE: Duration = Duration::from_millis(100);

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
}

/// What is stored of an operator.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct StateSizeView {
    /// The last committed epoch when it was counted.
    checkpoint: u64,
    /// By table.
    tables: Vec<TableSizeView>,
    /// Rows of all tables.
    rows: u64,
    /// Bytes of all tables: keys and values as they were written, before compression.
    bytes: u64,
    /// Whether all was counted; else that took too long and there is more.
    complete: bool,
}

/// What is stored of a table.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct TableSizeView {
    name: String,
    rows: u64,
    bytes: u64,
}

/// Which rows of an operator's state are wanted.
#[derive(Deserialize, IntoParams, Debug)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StateParams {
    /// A key as JSON: the value of its only column, an array of the columns' values, or an object by
    /// column. Text without quotes is text.
    #[param(example = "[\"a\", 1]")]
    key: Option<String>,
    /// The first columns of a key, likewise: all rows that have them.
    prefix: Option<String>,
    /// The table, where the operator has several that have keys: `left rows`.
    table: Option<String>,
    /// So many rows at most. There may be fewer although there are more to come.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// The `next` of an answer: rows after it.
    after: Option<String>,
}

/// Rows of an operator's state.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct StateRowsView {
    /// Its id.
    operator: String,
    /// The table.
    table: String,
    /// The epoch as of which they are, or of one that was committed meanwhile.
    checkpoint: u64,
    /// Names of the columns that make the key.
    key: Vec<String>,
    /// Columns.
    columns: Vec<StateColumnView>,
    /// Rows, each an object by column.
    #[schema(value_type = Vec<Object>)]
    rows: Vec<Value>,
    /// Where to go on with `after`; none: these were the last rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A column.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct StateColumnView {
    name: String,
    /// In Flink's notation.
    #[serde(rename = "type")]
    data_type: String,
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
            }),
        }
    };
    Ok(Json(OperatorList {
        operators: nodes(&entry).map(view).collect(),
    }))
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

/// Read an operator's state
///
/// Rows as of the last committed epoch, of one key or of all that begin alike. They are read from the
/// state service, also while the job restarts, and cost its tasks nothing. The state of a savepoint can
/// be read from a fork that begins with it.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/operators/{operator}/state",
    operation_id = "getState",
    tag = "jobs",
    params(
        ("id" = String, Path, description = "Id of the job"),
        ("operator" = String, Path, description = "Id of the operator"),
        StateParams,
    ),
    responses(
        (status = 200, description = "The rows", body = StateRowsView),
        (status = 400, description = "The key, the table or `after` is not one", body = Problem),
        (status = 404, description = "There is no such job or operator", body = Problem),
        (status = 409, description = "The operator keeps no state that has keys, or the job has ended", body = Problem),
        (status = 500, description = "What is stored cannot be understood", body = Problem),
        (status = 503, description = "State cannot be read at the moment", body = Problem),
    ),
)]
pub(super) async fn rows(
    State(backend): State<Backend>,
    OfOperator(entry, operator): OfOperator,
    params: Result<Query<StateParams>, QueryRejection>,
) -> Result<Json<StateRowsView>, Problem> {
    let query = query_of(params)?;
    let queries = Arc::clone(&backend.queries);
    let asked = ask(&backend, &entry, &operator, |of| {
        queries.rows(of, query.clone())
    });
    let (checkpoint, found) = asked.await?;
    let names = column_names(&found.columns);
    let column = |field: &Field| StateColumnView {
        name: field.name.clone(),
        data_type: field.data_type.to_string(),
    };
    Ok(Json(StateRowsView {
        operator,
        table: found.table,
        checkpoint,
        key: found.key.iter().map(|field| field.name.clone()).collect(),
        columns: found.columns.iter().map(column).collect(),
        rows: found
            .rows
            .iter()
            .map(|row| row_json(row, &found.columns, &names))
            .collect(),
        next: found.next,
    }))
}

/// Count an operator's state
///
/// Rows and bytes that are stored as of the last committed epoch. All of it is read, for some seconds at
/// most.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/operators/{operator}/state/size",
    operation_id = "getStateSize",
    tag = "jobs",
    params(
        ("id" = String, Path, description = "Id of the job"),
        ("operator" = String, Path, description = "Id of the operator"),
    ),
    responses(
        (status = 200, description = "How much there is", body = StateSizeView),
        (status = 404, description = "There is no such job or operator", body = Problem),
        (status = 409, description = "The job has ended", body = Problem),
        (status = 503, description = "State cannot be read at the moment", body = Problem),
    ),
)]
pub(super) async fn size(
    State(backend): State<Backend>,
    OfOperator(entry, operator): OfOperator,
) -> Result<Json<StateSizeView>, Problem> {
    let queries = Arc::clone(&backend.queries);
    let asked = ask(&backend, &entry, &operator, |of| queries.sizes(of));
    let (checkpoint, sizes) = asked.await?;
    let table = |(name, rows, bytes): (String, u64, u64)| TableSizeView { name, rows, bytes };
    let tables: Vec<TableSizeView> = sizes.tables.into_iter().map(table).collect();
    Ok(Json(StateSizeView {
        checkpoint,
        rows: tables.iter().map(|table| table.rows).sum(),
        bytes: tables.iter().map(|table| table.bytes).sum(),
        tables,
        complete: sizes.complete,
    }))
}

fn query_of(params: Result<Query<StateParams>, QueryRejection>) -> Result<StateQuery, Problem> {
    let wrong = |detail: String| {
        Problem::new(StatusCode::BAD_REQUEST, "request.query", detail)
            .hint("GET /v1/openapi.json describes `key`, `prefix`, `table`, `limit` and `after`")
    };
    let Query(params) = params.map_err(|rejection| wrong(rejection.body_text()))?;
    let limit = params.limit.unwrap_or(STATE_ROWS_LISTED);
    if !(1..=STATE_ROWS_MAX).contains(&limit) {
        let detail = format!("`limit` must be a whole number, 1 to {STATE_ROWS_MAX}");
        return Err(wrong(detail));
    }
    // Text need not be quoted.
    let value = |text: String| serde_json::from_str(&text).unwrap_or(Value::String(text));
    let key = match (params.key, params.prefix) {
        (Some(_), Some(_)) => {
            return Err(wrong("`key` and `prefix` exclude each other".to_owned()));
        }
        (Some(key), None) => Some(KeyQuery::Whole(value(key))),
        (None, Some(prefix)) => Some(KeyQuery::Prefix(value(prefix))),
        (None, None) => None,
    };
    Ok(StateQuery {
        table: params.table,
        key,
        limit,
        after: params.after,
    })
}

/// Asks for state as of the last commit; the epoch of that. A restart that comes in between is waited
/// for.
async fn ask<T, F>(
    backend: &Backend,
    entry: &JobEntry,
    operator: &str,
    mut query: impl FnMut(StateOf) -> F,
) -> Result<(u64, T), Problem>
where
    F: Future<Output = Result<T, StateQueryError>>,
{
    if entry.state().is_terminal() {
        let detail = format!("{} has ended, and its state with it", entry.id);
        return Err(Problem::new(StatusCode::CONFLICT, "job.state", detail)
            .hint("the state of a savepoint can be read from a fork that begins with it"));
    }
    let asked = async {
        loop {
            let committed = entry.committed();
            let of = StateOf {
                who: Incarnation {
                    job: entry.id,
                    generation: entry.generation(),
                },
                committed,
                plan: Arc::clone(&entry.spec.plan),
                owners: backend.state_nodes.owners(entry.id),
                operator: operator.to_owned(),
            };
            match query(of).await {
                Err(StateQueryError::Fenced) => sleep(RESTART_PAUSE).await,
                answer => return answer.map(|answer| (committed.0, answer)),
            }
        }
    };
    match timeout(STATE_QUERY_PATIENCE, asked).await {
        Ok(answer) => Ok(answer?),
        Err(_) => {
            let seconds = STATE_QUERY_PATIENCE.as_secs();
            let why = format!("state was not there within {seconds} s");
            Err(StateQueryError::Unavailable(why).into())
        }
    }
}

impl From<StateQueryError> for Problem {
    fn from(error: StateQueryError) -> Problem {
        let detail = error.to_string();
        let (status, code, hint) = match error {
            StateQueryError::UnknownOperator { .. } => (
                StatusCode::NOT_FOUND,
                "operator.unknown",
                "GET /v1/jobs/{id}/operators lists them",
            ),
            StateQueryError::Stateless(_) => (
                StatusCode::CONFLICT,
                "state.none",
                "GET /v1/jobs/{id}/operators lists those that have state",
            ),
            StateQueryError::Table { .. } => (
                StatusCode::BAD_REQUEST,
                "state.table",
                "name one of them with `table`",
            ),
            StateQueryError::Key { .. } => (
                StatusCode::BAD_REQUEST,
                "state.key",
                "write it as JSON: [\"a\", 1], {\"name\": \"a\", \"n\": 1}, or the value of the only column",
            ),
            StateQueryError::After => (
                StatusCode::BAD_REQUEST,
                "state.after",
                "give the `next` of an answer to the same question",
            ),
            StateQueryError::Fenced | StateQueryError::Unavailable(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "state.unavailable",
                "ask again in a few seconds",
            ),
            StateQueryError::Damaged(_) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "state.damaged",
                "the job may be taken back to an older checkpoint",
            ),
        };
        Problem::new(status, code, detail).hint(hint)
    }
}

/// The job and the operator that a path names.
pub(super) struct OfOperator(Arc<JobEntry>, String);

impl FromRequestParts<Backend> for OfOperator {
    type Rejection = Problem;

    async fn from_request_parts(
        parts: &mut Parts,
        backend: &Backend,
    ) -> Result<OfOperator, Problem> {
        let path = Path::<(String, String)>::from_request_parts(parts, backend).await;
        let unknown = |_| {
            let detail = "the path has no id of an operator";
            Problem::new(StatusCode::NOT_FOUND, "operator.unknown", detail)
                .hint("GET /v1/jobs/{id}/operators lists them")
        };
        let Path((id, operator)) = path.map_err(unknown)?;
        Ok(OfOperator(named(backend, &id)?, operator))
    }
}
