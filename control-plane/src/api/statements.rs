//! `/v1/statements`: executes SQL.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode},
};
use coordinator::meta::{OriginSpec, RestoreAt};
use proto::types::Epoch;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    body::{Fields, Shape},
    problem::Problem,
};
use crate::{Restore, StatementResult, Statements};

/// SQL to execute.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes what `Shape` reads")]
pub(super) struct StatementsRequest {
    /// One or more statements, separated by semicolons. They count all or none.
    #[schema(example = "SELECT 1")]
    sql: String,
    /// State of another job that the one job of the statements begins with.
    restore: Option<RestoreRequest>,
    /// Only find out whether they would be executed: nothing happens.
    #[schema(default = false)]
    check: Option<bool>,
}

/// State of a job. Operators are matched by what they do and what they read; those that the state
/// does not know begin empty.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes what is read by hand")]
pub(super) struct RestoreRequest {
    /// The job. Of one that has ended only savepoints are kept.
    #[schema(example = "job_1")]
    job: String,
    /// Name of its savepoint; without it and `checkpoint`, its newest checkpoint.
    savepoint: Option<String>,
    /// Epoch of its checkpoint.
    checkpoint: Option<u64>,
    /// Leave state alone that the new plan has no use for, instead of refusing it.
    #[schema(default = false)]
    allow_non_restored_state: Option<bool>,
}

const STATEMENTS: Shape = Shape {
    fields: &["sql", "restore", "check"],
    example: r#"{"sql": "SELECT 1"}"#,
};

/// What the statements gave, in order.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct StatementsResponse {
    results: Vec<StatementView>,
}

/// What a statement gave.
#[derive(Serialize, ToSchema, Debug)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(super) enum StatementView {
    /// It was carried out.
    Ok {
        /// What was done.
        message: String,
    },
    /// It is answered from the catalog.
    Rows {
        /// Names of the columns.
        columns: Vec<String>,
        /// Row by row.
        rows: Vec<Vec<Option<String>>>,
    },
    /// It runs as a job.
    Job {
        /// The job's id.
        job: String,
        /// Where the rows of a SELECT can be read.
        #[serde(skip_serializing_if = "Option::is_none")]
        results: Option<String>,
    },
}

/// Execute statements
///
/// Creates tables and views, answers SHOW and DESCRIBE, starts a job for each INSERT and SELECT; jobs
/// run beside each other. What is created and SET is there for all clients.
#[utoipa::path(
    post,
    path = "/v1/statements",
    operation_id = "executeStatements",
    tag = "statements",
    request_body = StatementsRequest,
    responses(
        (status = 200, description = "They would be executed, as far as can be known", body = StatementsResponse),
        (status = 201, description = "All were executed", body = StatementsResponse),
        (status = 400, description = "The body is not JSON, or a statement is wrong; none had an effect", body = Problem),
        (status = 404, description = "The job whose state it is to begin with does not exist, or has no such savepoint", body = Problem),
        (status = 409, description = "The state does not fit, or is not kept; nothing has changed", body = Problem),
        (status = 413, description = "Too long", body = Problem),
        (status = 415, description = "The body is of another type than JSON", body = Problem),
        (status = 422, description = "The body is not an object with the field `sql`", body = Problem),
        (status = 429, description = "Too many jobs", body = Problem),
    ),
)]
pub(super) async fn execute(
    State(statements): State<Arc<Statements>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<StatementsResponse>), Problem> {
    let fields = STATEMENTS.read(&headers, body)?;
    let sql = fields.text("sql")?;
    let restore = match fields.object_if_there("restore")? {
        Some(restore) => Some(read_restore(restore)?),
        None => None,
    };
    if fields.flag("check")? {
        statements.check(sql, restore.as_ref())?;
        let results = Vec::new();
        return Ok((StatusCode::OK, Json(StatementsResponse { results })));
    }
    let results = statements.execute_on(sql, restore).await?;
    let results = results.into_iter().map(view).collect();
    Ok((StatusCode::CREATED, Json(StatementsResponse { results })))
}

fn read_restore(fields: &Map<String, Value>) -> Result<Restore, Problem> {
    let shape = Shape {
        fields: &["job", "savepoint", "checkpoint", "allow_non_restored_state"],
        example: r#"{"sql": "INSERT INTO …", "restore": {"job": "job_1", "savepoint": "a"}}"#,
    };
    let fields = shape.of(fields.clone())?;
    let job = fields.text("job")?;
    let job = job
        .parse()
        .map_err(|_| fields.wrong("job", "is not the id of a job"))?;
    Ok(Restore {
        origin: OriginSpec {
            job,
            at: read_state(&fields)?,
        },
        allow_unclaimed: fields.flag("allow_non_restored_state")?,
    })
}

/// Which state is meant by the fields `savepoint` and `checkpoint`.
pub(super) fn read_state(fields: &Fields) -> Result<RestoreAt, Problem> {
    let (savepoint, checkpoint) = (
        fields.text_if_there("savepoint")?,
        fields.number_if_there("checkpoint")?,
    );
    match (savepoint, checkpoint) {
        (None, None) => Ok(RestoreAt::Newest),
        (Some(name), None) => Ok(RestoreAt::Savepoint(name.to_owned())),
        (None, Some(epoch)) => Ok(RestoreAt::Checkpoint(Epoch(epoch))),
        (Some(_), Some(_)) => Err(fields.wrong("savepoint", "excludes `checkpoint`")),
    }
}

fn view(result: StatementResult) -> StatementView {
    match result {
        StatementResult::Ok(message) => StatementView::Ok { message },
        StatementResult::Rows { columns, rows } => StatementView::Rows { columns, rows },
        StatementResult::Job(entry) => StatementView::Job {
            job: entry.id.to_string(),
            results: entry
                .feed
                .as_ref()
                .map(|_| format!("/v1/jobs/{}/results", entry.id)),
        },
    }
}
