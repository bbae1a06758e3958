//! A state node: the shards that it serves, what tasks stage with it, and the output that waits to
//! be published.

mod config;
#[cfg(test)]
mod conformance_test;
mod databases;
mod flusher;
mod job;
mod kept;
#[expect(clippy::module_inception, reason = "the type this room is about")]
mod node;
mod orders;
mod output;
mod stage;
mod stats;
mod sweep;
#[cfg(test)]
mod tests;
mod turns;

pub use config::{NodeLimits, StateNodeConfig};
pub use node::StateNode;
pub use stats::NodeStats;
