//! The command line against a server: a thin client of the REST API that knows nothing but it.

mod client;
mod complete;
mod interrupt;
mod jobs;
mod script;
mod sql;
mod table;

pub use client::ServerArgs;
pub use jobs::{JobsArgs, jobs};
pub use script::read_script;
pub use sql::{SqlArgs, sql};
pub use table::{pad_join, printable};
