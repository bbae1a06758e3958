//! The state tier as the control plane sees it: which state nodes there are, which of them serves
//! which shard, and what they are told about commits. One [`StateTier`] lives as long as this
//! process leads the cluster.
//!
//! ```text
//! jobs ──StateControl──▶ StateTier ──events──▶ StateTierDriver ⇄ Metadata
//!                                                │ ▲
//!                                          orders  reports (one link per node)
//! ```
//! Invariants
//! - What a node is told has happened in the metadata before. Owners are in the metadata, nodes are
//!   known to the leader only.
//! - Of one job one thing is under way in the metadata at a time, and the next waits until its fate
//!   is known. So orders follow the log's order, whatever times out.
//! - A node hears `Committed` of an epoch only if it was told the one before it on the same stream;
//!   else it is told to open its shards, from the metadata as they are. Nothing is skipped.

mod answers;
mod driver;
mod event;
mod handle;
mod job;
mod known;
mod marks;
mod node;
mod orders;
mod owners;
mod patient;
mod refusal;
mod reports;
mod standing;
mod status;
#[cfg(test)]
mod tests;
mod transfers;

pub use driver::StateTierDriver;
pub use event::StateNodeSession;
pub use handle::{StateTier, TransferError};
pub use owners::OwnerChanges;
pub use status::{StateNodeStatus, StateTierStatus};
pub use transfers::{TransferStatus, TransferStatuses};
