//! A replicated log with a durable disk, behind a small trait.
//!
//! A [`Machine`] is a deterministic state machine; [`Consensus`] runs one copy of it on each of 1, 3 or 5 nodes, and
//! sees to it that all apply the same commands in the same order, whatever is killed or cut off. Beneath is Raft
//! (openraft) over one redb file per node; nothing of either shows here. Payloads are bytes. How bytes get to another
//! node is a [`PeerLink`]'s business.
//!
//! # What is durable when
//! - `propose` answers when the command is fsynced on a quorum of disks and applied by this node's machine. It survives
//!   the loss of any minority of the disks, and any number of crashes and restarts of all nodes.
//! - An entry is appended by one transaction that is fsynced before the node says that it has it. Commands that wait
//!   while another is written become one entry, and entries that come in one request share a transaction. A vote is fsynced before it is given, the membership is part of the log.
//! - The machine is in memory. Its snapshot is written (one fsynced transaction) after so many entries or bytes
//!   ([`SnapshotPolicy`]); only then is the log before it dropped, but for a tail that saves other nodes a snapshot.
//! - A node that starts again has its machine at the last snapshot. It applies the rest of the log when a leader says
//!   how far it is committed; until then `applied` is behind. Reads that must not be stale go through `read_barrier`.
//! - A write that fails, for a full disk too, stops the node with [`StopReason::Storage`]. The file holds everything
//!   that was acknowledged, and no half transaction.
//!
//! # Disks
//! A disk draws its [`DiskId`] when it is first used; the membership records which disk joined under which id; every
//! request names the disks at both of its ends. So a node whose disk was wiped, or exchanged for an old copy of another,
//! can neither vote nor append: the others refuse it, it refuses them, and it stops with [`StopReason::WrongDisk`]. It
//! returns as a new node: remove the old id, add the disk under an id that was never used. (A disk that was set back to
//! an older copy of itself cannot be told from one that was not: do not do that.)
//!
//! # Forming a cluster
//! All nodes are started with the same list of peers. The one with the lowest id waits until all others have answered,
//! and forms the cluster only if none of them belongs to one; see `form`. Later the list only says where nodes listen.

mod caps;
mod config;
mod consensus;
mod error;
mod form;
mod leadership;
mod local;
mod machine;
mod members;
mod network;
mod peer;
mod propose;
mod serve;
mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod types;
mod wire;

pub use caps::{COMMAND_BYTES_MAX, REQUEST_BYTES_MAX};
pub use config::{ConsensusConfig, SnapshotPolicy, Timing};
pub use consensus::{Applied, Consensus};
pub use error::{ChangeError, ProposeError, ReadError, StartError, StopReason};
pub use leadership::Leadership;
pub use machine::Machine;
pub use peer::{
    DiskId, Member, NodeId, Peer, PeerError, PeerLink, PeerRequest, PeerRequestKind, SharedLink,
};
