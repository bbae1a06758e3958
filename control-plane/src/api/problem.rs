//! Errors as `application/problem+json`: the one place that maps ours to status and code.

use axum::{
    http::{HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use coordinator::{fit::Misfit, meta::Refusal};
use serde::Serialize;
use sql::error::{SqlError, Stage};
use utoipa::ToSchema;

use super::describe::PROBLEM_JSON;
use crate::{
    JobsError, RestoreError, StatementsError, SubmitError, membership::MembershipError,
    metadata::MetadataError,
};

/// What went wrong, for programs (`code`) and people (`detail`, `hint`).
#[derive(Serialize, ToSchema, Clone, Debug)]
pub(crate) struct Problem {
    /// A name for the kind of problem.
    #[serde(rename = "type")]
    kind: String,
    /// The kind in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// Stable name of the cause: `sql.validate`.
    code: &'static str,
    /// What is wrong.
    detail: String,
    /// Where in the statements, if it is about them.
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<Position>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

/// A place in the text of the request; both numbers start at 1.
#[derive(Serialize, ToSchema, Clone, Copy, Debug)]
pub(super) struct Position {
    line: u32,
    column: u32,
}

impl Problem {
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        detail: impl Into<String>,
    ) -> Problem {
        Problem {
            kind: format!("urn:millstream:problem:{code}"),
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            code,
            detail: detail.into(),
            position: None,
            hint: None,
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = Some(hint.into());
        self
    }
}

/// Nothing was done: the process is going down, or leads no more.
fn closing(detail: String) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "server.closing", detail)
        .hint("nothing has changed; ask again in a few seconds, or another server")
}

/// Nobody knows whether it was done.
pub(crate) fn in_doubt(detail: String) -> Problem {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    Problem::new(status, "metadata.unavailable", detail)
        .hint("it may have happened all the same: look before you ask again")
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(self)).into_response();
        let json = HeaderValue::from_static(PROBLEM_JSON);
        response.headers_mut().insert(CONTENT_TYPE, json);
        response
    }
}

impl From<SqlError> for Problem {
    fn from(error: SqlError) -> Problem {
        let code = match error.stage {
            Stage::Parse => "sql.parse",
            Stage::Validate => "sql.validate",
            Stage::Plan => "sql.plan",
        };
        Problem {
            position: error.span.map(|span| Position {
                line: u32::try_from(span.line).unwrap_or(u32::MAX),
                column: u32::try_from(span.column).unwrap_or(u32::MAX),
            }),
            hint: error.hint,
            ..Problem::new(StatusCode::BAD_REQUEST, code, error.message)
        }
    }
}

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Problem {
        let detail = error.to_string();
        match error {
            SubmitError::Place(_) => Problem::new(StatusCode::BAD_REQUEST, "job.placement", detail)
                .hint("SET 'parallelism.default' to a number in that range"),
            SubmitError::Refused(Refusal::TooManyJobs { .. }) => {
                Problem::new(StatusCode::TOO_MANY_REQUESTS, "job.limit", detail)
                    .hint("cancel jobs first, or start fewer at once")
            }
            SubmitError::Refused(Refusal::CatalogMoved(_)) => {
                Problem::new(StatusCode::CONFLICT, "catalog.moved", detail)
                    .hint("send the statements again")
            }
            SubmitError::Refused(refusal) => refusal.into(),
            SubmitError::Metadata(error) => error.into(),
            SubmitError::Closed => closing(detail),
            SubmitError::Interrupted => in_doubt(detail),
        }
    }
}

impl From<MetadataError> for Problem {
    fn from(error: MetadataError) -> Problem {
        let (code, hint) = match &error {
            MetadataError::Unavailable {
                indeterminate: true,
                ..
            } => return in_doubt(error.to_string()),
            MetadataError::Unavailable { .. } | MetadataError::NotLeader { .. } => (
                "metadata.unavailable",
                "ask again later; jobs that run go on",
            ),
            MetadataError::Closed { .. } => ("server.closing", "ask another server"),
        };
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, error.to_string()).hint(hint)
    }
}

impl From<RestoreError> for Problem {
    fn from(error: RestoreError) -> Problem {
        let detail = error.to_string();
        let (status, code, hint) = match error {
            RestoreError::Jobs(error) => return error.into(),
            RestoreError::Sql(error) => return error.into(),
            RestoreError::Path(_) => (
                StatusCode::BAD_REQUEST,
                "restore.path",
                "paths are job_1/savepoints/a, job_1/checkpoints/17, or job_1: its newest checkpoint",
            ),
            RestoreError::Misfit {
                why: Misfit::Unclaimed { multi_joins, .. },
                ..
            } => (
                StatusCode::CONFLICT,
                "state.unclaimed",
                unclaimed(multi_joins),
            ),
            RestoreError::Misfit { .. } => (
                StatusCode::CONFLICT,
                "state.misfit",
                "nothing has changed; without the state, the job would begin from nothing",
            ),
            RestoreError::Select => (StatusCode::CONFLICT, "state.select", "use INSERT INTO"),
            RestoreError::OneJob | RestoreError::NoJob => (
                StatusCode::BAD_REQUEST,
                "restore.jobs",
                "send the statement of that job by itself; EXECUTE STATEMENT SET makes one job of \
                 several INSERTs",
            ),
            RestoreError::Sink { .. } => (
                StatusCode::BAD_REQUEST,
                "fork.sink",
                "names of tables are case-sensitive",
            ),
        };
        Problem::new(status, code, detail).hint(hint)
    }
}

/// What helps where a plan leaves state. With `multi_joins`, joins are one operator in that state
/// (`true`) or several, and in the plan it is the other way round.
fn unclaimed(multi_joins: Option<bool>) -> &'static str {
    match multi_joins {
        None => {
            "nothing has changed; to leave that state alone, SET \
             'execution.state-recovery.ignore-unclaimed-state' = 'true', or say `allow_non_restored_state`"
        }
        Some(false) => {
            "nothing has changed; the state is of joins one by one, which the plan has as one: to go on with \
             it, SET 'table.optimizer.multi-join.enabled' = 'false'; to leave it alone, SET \
             'execution.state-recovery.ignore-unclaimed-state' = 'true', or say `allow_non_restored_state`"
        }
        Some(true) => {
            "nothing has changed; the state is of joins as one, which the plan has one by one: to go on with \
             it, SET 'table.optimizer.multi-join.enabled' = 'true'; to leave it alone, SET \
             'execution.state-recovery.ignore-unclaimed-state' = 'true', or say `allow_non_restored_state`"
        }
    }
}

impl From<StatementsError> for Problem {
    fn from(error: StatementsError) -> Problem {
        match error {
            StatementsError::Sql(error) => error.into(),
            StatementsError::Submit(error) => error.into(),
            StatementsError::Restore(error) => error.into(),
            StatementsError::Jobs(error) => error.into(),
            StatementsError::TooManyJobs { .. } => Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "job.limit",
                error.to_string(),
            )
            .hint("cancel jobs first, or start fewer at once"),
            StatementsError::TooLong { .. } => Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "request.size",
                error.to_string(),
            ),
        }
    }
}

/// Of changes that jobs and their state do not allow.
impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let (status, code, hint) = match &refusal {
            Refusal::UnknownJob(_) => (StatusCode::NOT_FOUND, "job.unknown", "ids look like job_1"),
            Refusal::UnknownSavepoint { .. } => (
                StatusCode::NOT_FOUND,
                "savepoint.unknown",
                "GET /v1/jobs/{id}/savepoints lists them",
            ),
            Refusal::SavepointExists { .. } => (
                StatusCode::CONFLICT,
                "savepoint.exists",
                "nothing has changed",
            ),
            Refusal::TooManySavepoints(_) => (
                StatusCode::CONFLICT,
                "savepoint.limit",
                "DELETE /v1/jobs/{id}/savepoints/{name}",
            ),
            Refusal::HasSavepoints(_) => (
                StatusCode::CONFLICT,
                "job.has_savepoints",
                "DELETE /v1/jobs/{id}/savepoints/{name} for each of them",
            ),
            Refusal::NoCheckpoint(_)
            | Refusal::NotRestorable { .. }
            | Refusal::NothingKept(_)
            | Refusal::Overtaken { .. } => (
                StatusCode::CONFLICT,
                "checkpoint.not_kept",
                "GET /v1/jobs/{id}/checkpoints lists those that can be restored",
            ),
            Refusal::Exporting { .. } => (
                StatusCode::CONFLICT,
                "savepoint.exporting",
                "POST /v1/transfers/{id}/cancel stops it",
            ),
            Refusal::UnknownTransfer(_) => (
                StatusCode::NOT_FOUND,
                "transfer.unknown",
                "GET /v1/transfers lists them",
            ),
            Refusal::TransferEnded(_) => (
                StatusCode::CONFLICT,
                "transfer.ended",
                "GET /v1/transfers/{id} says how",
            ),
            Refusal::TooManyTransfers => (
                StatusCode::CONFLICT,
                "transfer.limit",
                "GET /v1/transfers lists them",
            ),
            Refusal::OtherCut { .. } => {
                (StatusCode::CONFLICT, "state.misfit", "nothing has changed")
            }
            Refusal::NotQuarantined(_) | Refusal::Quarantined(_) => (
                StatusCode::CONFLICT,
                "job.state",
                "GET /v1/jobs/{id} says how it is",
            ),
            _ => (StatusCode::CONFLICT, "job.state", "nothing has changed"),
        };
        Problem::new(status, code, refusal.to_string()).hint(hint)
    }
}

impl From<JobsError> for Problem {
    fn from(error: JobsError) -> Problem {
        let (status, code) = match error {
            JobsError::Metadata(error) => return error.into(),
            JobsError::Refused(refusal) => return refusal.into(),
            JobsError::NotKept => {
                return Problem::new(
                    StatusCode::CONFLICT,
                    "state.not_kept",
                    "this server keeps state in memory only: there is nothing to go on with",
                )
                .hint("start it with --data-dir or --store");
            }
            JobsError::Unknown(_) => (StatusCode::NOT_FOUND, "job.unknown"),
            JobsError::NotEnded(job) => {
                let hint = format!("cancel it first: POST /v1/jobs/{job}/cancel");
                let detail = error.to_string();
                return Problem::new(StatusCode::CONFLICT, "job.not_ended", detail).hint(hint);
            }
            JobsError::Ended(_) => {
                let problem = Problem::new(StatusCode::CONFLICT, "job.ended", error.to_string());
                return problem.hint("nothing of it runs any more");
            }
            JobsError::Place(_) => {
                let status = StatusCode::UNPROCESSABLE_ENTITY;
                return Problem::new(status, "job.placement", error.to_string())
                    .hint("nothing has changed; ask for a number in that range");
            }
            JobsError::Rescale { .. } => {
                return Problem::new(StatusCode::CONFLICT, "job.rescale", error.to_string())
                    .hint("nothing has changed: the job runs on as it did");
            }
            JobsError::Closed => return closing(error.to_string()),
            JobsError::Interrupted => return in_doubt(error.to_string()),
        };
        Problem::new(status, code, error.to_string())
    }
}

impl From<MembershipError> for Problem {
    fn from(error: MembershipError) -> Problem {
        let (conflict, unavailable) = (StatusCode::CONFLICT, StatusCode::SERVICE_UNAVAILABLE);
        let (status, code, hint) = match &error {
            MembershipError::Alone => (
                conflict,
                "cluster.alone",
                "start the tiers as processes of their own: millstream control-plane --help",
            ),
            MembershipError::NotMember(_) => (
                StatusCode::NOT_FOUND,
                "cluster.node_unknown",
                "ids are numbers; GET /v1/cluster lists the nodes",
            ),
            MembershipError::Refused(_) => (
                conflict,
                "cluster.refused",
                "nothing has changed; GET /v1/cluster lists the nodes",
            ),
            MembershipError::InProgress => (
                conflict,
                "cluster.changing",
                "nothing has changed; ask again when it is done",
            ),
            MembershipError::Unfinished(_) => (
                unavailable,
                "cluster.unfinished",
                "GET /v1/cluster says how far it came; asked again, it goes on from there",
            ),
            MembershipError::Unavailable(_) => (
                unavailable,
                "metadata.unavailable",
                "nothing has changed; ask again in a few seconds",
            ),
        };
        Problem::new(status, code, error.to_string()).hint(hint)
    }
}
