//! `/v1/statements`: executes SQL.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::problem::Problem;
use crate::{StatementResult, Statements, caps::REQUEST_BYTES_MAX};

/// SQL to execute.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
pub(super) struct StatementsRequest {
    /// One or more statements, separated by semicolons. They count all or none.
    #[schema(example = "SELECT 1")]
    sql: String,
}

impl StatementsRequest {
    /// From the body. Not axum's `Json`, whose errors speak of Rust types, and which takes an array
    /// for an object.
    fn read(headers: &HeaderMap, body: &[u8]) -> Result<StatementsRequest, Problem> {
        if !is_json(headers) {
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(
                Problem::new(status, "request.type", "the body must be JSON")
                    .hint("send the header `Content-Type: application/json`"),
            );
        }
        let body: Value = serde_json::from_slice(body).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            malformed(
                StatusCode::BAD_REQUEST,
                format!("the body is not JSON (line {line}, column {column})"),
            )
        })?;
        let unprocessable = |detail: String| malformed(StatusCode::UNPROCESSABLE_ENTITY, detail);
        let Value::Object(fields) = body else {
            return Err(unprocessable("the body is not a JSON object".to_owned()));
        };
        if let Some(unknown) = fields.keys().find(|name| *name != "sql") {
            return Err(unprocessable(format!(
                "the body has an unknown field `{unknown}`"
            )));
        }
        match fields.get("sql") {
            Some(Value::String(sql)) => Ok(StatementsRequest { sql: sql.clone() }),
            Some(_) => Err(unprocessable("the field `sql` is not text".to_owned())),
            None => Err(unprocessable("the body has no field `sql`".to_owned())),
        }
    }
}

fn malformed(status: StatusCode, detail: String) -> Problem {
    Problem::new(status, "request.malformed", detail)
        .hint("the body is an object such as {\"sql\": \"SELECT 1\"}")
}

fn is_json(headers: &HeaderMap) -> bool {
    let given = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let given = given
        .and_then(|value| value.split(';').next())
        .map(str::trim);
    given.is_some_and(|given| given.eq_ignore_ascii_case("application/json"))
}

fn unreadable(rejection: &BytesRejection) -> Problem {
    match rejection.status() {
        status @ StatusCode::PAYLOAD_TOO_LARGE => {
            let detail = format!("the request has more than {REQUEST_BYTES_MAX} bytes");
            Problem::new(status, "request.size", detail)
        }
        status => malformed(status, "the body could not be read".to_owned()),
    }
}

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
        (status = 201, description = "All were executed", body = StatementsResponse),
        (status = 400, description = "The body is not JSON, or a statement is wrong; none had an effect", body = Problem),
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
    let body = body.map_err(|rejection| unreadable(&rejection))?;
    let request = StatementsRequest::read(&headers, &body)?;
    let results = statements.execute(&request.sql).await?;
    let results = results.into_iter().map(view).collect();
    Ok((StatusCode::CREATED, Json(StatementsResponse { results })))
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
