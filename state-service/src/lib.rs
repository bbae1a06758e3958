//! The state of jobs in an LSM on object storage: what a state node does. Bytes in, bytes out; it
//! never decodes a row of a user.
//!
//! ```text
//! stage ─▶ node::stage ─▶ epoch_log ══ object store
//! Committed ─▶ shard (tail in memory) ──flush──▶ pages ══ object store
//! read, scan ─▶ shard: tail over pages
//! ```
//! [`StateNode`] is the node, [`EmbeddedStore`] the tasks' side of it in the same process.

pub mod agent;
mod budget;
mod caps;
pub mod check;
mod control;
mod embedded;
mod epoch_log;
mod health;
mod node;
pub mod object;
mod objects;
pub mod pages;
mod patient;
mod reports;
mod server;
mod shard;
mod tasks;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod transfer;
mod watched;

pub use control::ControlView;
pub use embedded::EmbeddedStore;
pub use node::{NodeLimits, NodeStats, StateNode, StateNodeConfig};
pub use patient::PatientStore;
pub use reports::ReportReceiver;
pub use server::StateService;
pub use transfer::Places;
pub use watched::StoreRequests;
