//! The worker's end of its control stream: finds the leader, carries commands in and events out.
//!
//! Invariants
//! - Every stream begins with an empty worker, or with one whose name the leader lets it keep: that
//!   one tells first what it runs. Else what an earlier stream had started is stopped before the first
//!   command is heard.
//! - Tasks outlive a stream, so that jobs run on while there is no leader. They do not outlive the
//!   lease: whoever has heard no node of the control plane for so long stops them by itself.

mod deliver;
mod link;
mod tasks;

pub use deliver::{Delivery, DeliveryRow, Leader};
pub use link::{Agent, AgentConfig, AgentError, AgentFigures, OwnersListener};
