//! Flink-dialect SQL to plans: parse → bind → logical → optimise → stream plan → fragments.
//!
//! A core: pure functions over text and a [`catalog::Catalog`]; no I/O, no clock, no connector
//! client. The result is a [`proto::plan::Plan`]; no type of `sqlparser` leaves this crate.

mod bind;
mod caps;
pub mod catalog;
mod connector;
mod ddl;
pub mod error;
mod explain;
pub mod lint;
pub mod logical;
mod optimize;
pub mod parse;
mod render;
pub mod session;
pub mod settings;
mod stream;
mod suggest;

pub use explain::{explain, explain_plan};
pub use optimize::optimize;
pub use parse::{ParsedStatement, parse_script};
pub use session::{JobKind, Outcome, Session};
pub use stream::{PlanOptions, SinkQuery, SinkTarget, duration, plan_job};
