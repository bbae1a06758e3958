//! `/v1/statements`: executes SQL.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{body::Shape, problem::Problem};
use crate::{StatementResult, Statements};

/// SQL to execute.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes what `Shape` reads")]
pub(super) struct StatementsRequest {
    /// One or more statements, separated by semicolons. They count all or none.
    #[schema(example = "SELECT 1")]
    sql: String,
}

const STATEMENTS: Shape = Shape {
    fields: &["sql"],
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
    let fields = STATEMENTS.read(&headers, body)?;
    let results = statements.execute(fields.text("sql")?).await?;
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
