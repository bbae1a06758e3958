//! The state node's end of its control stream: finds the leader, carries orders in, reports and
//! questions out.
//!
//! The node serves its shards on, whether there is a leader or not: what it must not do any more, it
//! is kept from by the object store.

mod link;
mod view;

pub use link::{AgentError, NodeAgent};
pub use view::StreamView;
