//! A state node: the shards that it serves, what tasks stage with it, and the output that waits to
//! be published.

mod config;
#[cfg(test)]
mod conformance_test;
mod flusher;
mod job;
#[expect(clippy::module_inception, reason = "the type this room is about")]
mod node;
mod orders;
mod output;
#[cfg(test)]
mod scenarios_test;
mod stage;
mod stats;
mod sweep;

pub use config::{NodeLimits, StateNodeConfig};
pub use node::StateNode;
pub use stats::NodeStats;
