//! REST under `/v1`. One file per resource; the OpenAPI description is made from the handlers.

#[cfg(test)]
mod api_test;
mod auth;
mod autoscaler;
mod backend;
mod body;
mod cluster;
mod describe;
mod figures;
mod files;
mod health;
mod jobs;
mod lives;
mod operator_state;
mod operators;
mod parallelism;
mod problem;
#[cfg(test)]
mod processes_test;
mod results;
mod router;
mod savepoints;
mod state_nodes;
mod state_queries;
mod state_tier;
mod statements;
mod tables;
mod trace;
mod transfers;
mod upgrades;
mod workers;

pub use auth::{Token, guarded};
pub use backend::Backend;
pub use coordinator::census::Piece;
pub(crate) use problem::{Problem, in_doubt};
pub(crate) use router::open_router;
pub use router::{openapi, router};
pub use state_queries::{
    KeyQuery, NoStateQueries, StateAt, StateOf, StateQueries, StateQuery, StateQueryError,
    StateRows, StateSizes,
};
pub use state_tier::{NoStateNodes, StateNodes};
