//! The command line against a server: a thin client of the REST API that knows nothing but it.

mod client;
mod jobs;
mod sql;
mod table;

pub use client::ServerArgs;
pub use jobs::{JobsArgs, jobs};
pub use sql::{SqlArgs, sql};
