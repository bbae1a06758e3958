//! `/v1/jobs/{id}/operators/{operator}/state`: rows of an operator's state, as of the last commit or as a
//! checkpoint or a savepoint keeps it.

use std::{future::Future, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{FromRequestParts, Path, Query, State, rejection::QueryRejection},
    http::{StatusCode, request::Parts},
};
use control_stream::ShardOwner;
use coordinator::meta::{Refusal, RestoreAt};
use proto::types::{Epoch, Field};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use state_client::Incarnation;
use tokio::time::{sleep, timeout};
use utoipa::{IntoParams, ToSchema};

use super::{
    backend::Backend,
    jobs::named,
    problem::Problem,
    state_queries::{KeyQuery, StateAt, StateOf, StateQuery, StateQueryError},
};
use crate::{
    JobEntry, JobsError,
    caps::{STATE_QUERY_PATIENCE, STATE_ROWS_LISTED, STATE_ROWS_MAX},
    results::{column_names, row_json},
    state_tier::StateNodeStatus,
};

/// Pause before state is asked for again while its job restarts.
const RESTART_PAUSE: Duration = Duration::from_millis(100);

/// What is stored of an operator.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct StateSizeView {
    /// The epoch as of which it was counted: that of what is kept, or the last committed one.
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
    /// Epoch of a checkpoint that is still kept, whose state is wanted instead of that of the last
    /// commit.
    checkpoint: Option<u64>,
    /// Name of a savepoint of the job, likewise; also of a job that has ended.
    savepoint: Option<String>,
}

/// As of when state is counted.
#[derive(Deserialize, IntoParams, Debug)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SizeParams {
    /// Epoch of a checkpoint that is still kept.
    checkpoint: Option<u64>,
    /// Name of a savepoint of the job.
    savepoint: Option<String>,
}

/// Rows of an operator's state.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct StateRowsView {
    /// Its id.
    operator: String,
    /// The table.
    table: String,
    /// The epoch as of which they are: that of what is kept; else the last committed one, of which some
    /// rows may be newer.
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

/// Read an operator's state
///
/// Rows as of the last committed epoch, of one key or of all that begin alike; with `checkpoint` or
/// `savepoint` as of that, which is read from its files. Rows are read from the state service, also while
/// the job restarts, and cost its tasks nothing. An answer ends where it has `limit` rows or has looked
/// for two seconds: `next` says that there is more. What has expired is left out as its operator
/// would, or shown until that removes it where age is not by the wall clock, and row by row.
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
        (status = 404, description = "There is no such job, operator or savepoint", body = Problem),
        (status = 409, description = "The operator keeps no state that has keys, nothing is committed yet, the checkpoint is not kept, or the job has ended", body = Problem),
        (status = 500, description = "What is stored cannot be understood", body = Problem),
        (status = 503, description = "State cannot be read at the moment", body = Problem),
    ),
)]
pub(super) async fn rows(
    State(backend): State<Backend>,
    OfOperator(entry, operator): OfOperator,
    params: Result<Query<StateParams>, QueryRejection>,
) -> Result<Json<StateRowsView>, Problem> {
    let (query, kept) = query_of(params)?;
    let queries = Arc::clone(&backend.queries);
    let asked = ask(&backend, &entry, &operator, kept, |of| {
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
/// Rows and bytes that are stored as of the last committed epoch, or as a checkpoint or a savepoint keeps
/// them. All of it is read, for some seconds at most.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/operators/{operator}/state/size",
    operation_id = "getStateSize",
    tag = "jobs",
    params(
        ("id" = String, Path, description = "Id of the job"),
        ("operator" = String, Path, description = "Id of the operator"),
        SizeParams,
    ),
    responses(
        (status = 200, description = "How much there is", body = StateSizeView),
        (status = 400, description = "The query is not one", body = Problem),
        (status = 404, description = "There is no such job, operator or savepoint", body = Problem),
        (status = 409, description = "The job has ended, nothing is committed yet, or the checkpoint is not kept", body = Problem),
        (status = 503, description = "State cannot be read at the moment", body = Problem),
    ),
)]
pub(super) async fn size(
    State(backend): State<Backend>,
    OfOperator(entry, operator): OfOperator,
    params: Result<Query<SizeParams>, QueryRejection>,
) -> Result<Json<StateSizeView>, Problem> {
    let Query(params) = params.map_err(|rejection| wrong(rejection.body_text()))?;
    let kept = kept_of(params.checkpoint, params.savepoint)?;
    let queries = Arc::clone(&backend.queries);
    let asked = ask(&backend, &entry, &operator, kept, |of| queries.sizes(of));
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

fn wrong(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "request.query", detail)
        .hint("GET /v1/openapi.json describes what can be asked for, and how")
}

/// What is asked for, and as of when; `None`: the last commit.
fn query_of(
    params: Result<Query<StateParams>, QueryRejection>,
) -> Result<(StateQuery, Option<RestoreAt>), Problem> {
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
    let query = StateQuery {
        table: params.table,
        key,
        limit,
        after: params.after,
    };
    Ok((query, kept_of(params.checkpoint, params.savepoint)?))
}

fn kept_of(
    checkpoint: Option<u64>,
    savepoint: Option<String>,
) -> Result<Option<RestoreAt>, Problem> {
    match (checkpoint, savepoint) {
        (Some(_), Some(_)) => {
            let detail = "`checkpoint` and `savepoint` exclude each other";
            Err(wrong(detail.to_owned()))
        }
        (Some(epoch), None) => Ok(Some(RestoreAt::Checkpoint(Epoch(epoch)))),
        (None, Some(name)) => Ok(Some(RestoreAt::Savepoint(name))),
        (None, None) => Ok(None),
    }
}

/// Asks for state within the time that there is; the epoch as of which it is.
async fn ask<T, F>(
    backend: &Backend,
    entry: &JobEntry,
    operator: &str,
    kept: Option<RestoreAt>,
    query: impl FnMut(StateOf) -> F,
) -> Result<(u64, T), Problem>
where
    F: Future<Output = Result<T, StateQueryError>>,
{
    let asked = async {
        match kept {
            None => ask_committed(backend, entry, operator, query).await,
            Some(at) => ask_kept(backend, entry, operator, at, query).await,
        }
    };
    timeout(STATE_QUERY_PATIENCE, asked)
        .await
        .unwrap_or_else(|_| {
            let seconds = STATE_QUERY_PATIENCE.as_secs();
            let why = format!("state was not there within {seconds} s");
            Err(StateQueryError::Unavailable(why).into())
        })
}

/// Asks for state as of the last commit. A restart that comes in between is waited for.
async fn ask_committed<T, F>(
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
            .hint("that of a savepoint is still there: say `savepoint`"));
    }
    loop {
        let committed = entry.committed();
        if committed == Epoch::ZERO {
            return Err(JobsError::from(Refusal::NoCheckpoint(entry.id)).into());
        }
        let who = Incarnation {
            job: entry.id,
            generation: entry.generation(),
        };
        let owners = backend.state_nodes.owners(entry.id);
        let of = StateOf {
            plan: Arc::clone(&entry.spec.plan),
            operator: operator.to_owned(),
            at: StateAt::Committed {
                who,
                committed,
                owners,
            },
        };
        match query(of).await {
            Err(StateQueryError::Fenced) => sleep(RESTART_PAUSE).await,
            answer => return Ok((committed.0, answer?)),
        }
    }
}

/// Asks for state that is kept.
async fn ask_kept<T, F>(
    backend: &Backend,
    entry: &JobEntry,
    operator: &str,
    at: RestoreAt,
    mut query: impl FnMut(StateOf) -> F,
) -> Result<(u64, T), Problem>
where
    F: Future<Output = Result<T, StateQueryError>>,
{
    let jobs = backend.statements.jobs();
    let state = Arc::new(jobs.kept_state(entry.id, at.clone()).await?);
    let status = backend.state_status().await.unwrap_or_default();
    let nodes = status.nodes.into_iter().filter(|node| node.connected);
    let node = |node: StateNodeStatus| ShardOwner {
        node: node.node,
        address: node.address,
    };
    let answer = query(StateOf {
        plan: Arc::clone(&entry.spec.plan),
        operator: operator.to_owned(),
        at: StateAt::Kept {
            state: Arc::clone(&state),
            nodes: nodes.map(node).collect(),
        },
    });
    match answer.await {
        Ok(answer) => Ok((state.shape.epoch.0, answer)),
        Err(error) => {
            // Its files may have gone while they were read.
            jobs.kept_state(entry.id, at).await?;
            Err(error.into())
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
