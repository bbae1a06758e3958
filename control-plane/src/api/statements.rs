//! `/v1/statements`: executes SQL.

use std::sync::Arc;

use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
    http::StatusCode,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::Problem;
use crate::{StatementResult, Statements};

/// SQL to execute.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
pub(super) struct StatementsRequest {
    /// One or more statements, separated by semicolons. They count all or none.
    #[schema(example = "SELECT 1")]
    sql: String,
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
/// Creates tables and views, answers SHOW and DESCRIBE, starts a job for each INSERT and SELECT.
#[utoipa::path(
    post,
    path = "/v1/statements",
    tag = "statements",
    request_body = StatementsRequest,
    responses(
        (status = 201, description = "All were executed", body = StatementsResponse),
        (status = 400, description = "One is wrong; none had an effect", body = Problem),
        (status = 413, description = "Too long", body = Problem),
        (status = 429, description = "Too many jobs", body = Problem),
    ),
)]
pub(super) async fn execute(
    State(statements): State<Arc<Statements>>,
    request: Result<Json<StatementsRequest>, JsonRejection>,
) -> Result<(StatusCode, Json<StatementsResponse>), Problem> {
    let Json(request) = request?;
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
