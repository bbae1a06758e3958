//! State on other processes' state nodes: [`RemoteStore`] is the tasks' side of the wire.
//!
//! ```text
//! read, scan, stage ─▶ cut by shard ─▶ grouped by owner ([`Routes`]) ─▶ a call per node
//!                          ▲                                              │ no answer, moved
//!                          └──────────────────────────────────────────────┘
//! ```
//! - Knows where shards are only from [`Routes`], which the control plane's word changes. What a node
//!   did not answer is asked for again, there or of the next owner; that is all that a task notices of
//!   a state node's death.
//! - Reads and scans give up after a while. Staging does not: a job whose object store is down falls
//!   behind, it does not fail. What cannot succeed (fenced, damaged) ends at once.
//! - [`RemoteKept`] reads states that are kept, which every node can: no route is needed for that.
//! - Every call has a deadline, pauses grow and differ, what is under way per node is bounded.

mod caps;
mod committed_output;
mod config;
#[cfg(test)]
mod e2e;
mod kept;
mod link;
mod operation;
mod owner;
mod read;
mod routes;
mod scan;
mod scatter;
mod spawned;
mod stage;
mod store;

pub use config::{RemoteConfig, RemoteLimits};
pub use kept::RemoteKept;
pub use owner::{JobRoute, Owner};
pub use routes::Routes;
pub use store::RemoteStore;
