//! REST under `/v1`. One file per resource; the OpenAPI description is made from the handlers.

#[cfg(test)]
mod api_test;
mod auth;
mod describe;
mod figures;
mod jobs;
mod problem;
mod results;
mod router;
mod statements;
mod tables;
mod trace;

pub use auth::{Token, guarded};
pub(crate) use problem::Problem;
pub(crate) use router::open_router;
pub use router::{openapi, router};
