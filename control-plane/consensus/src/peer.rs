//! Nodes, and the link that carries requests between them.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

/// The number of a node: chosen by the operator, bound to one disk for ever, never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

/// The name that a disk draws for itself when it is first used.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct DiskId(pub(crate) u128);

impl fmt::Display for DiskId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "disk_{:032x}", self.0)
    }
}

impl fmt::Debug for DiskId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

/// A node and where it listens. The address is for the [`PeerLink`] alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its number.
    pub id: NodeId,
    /// Where it listens.
    pub address: String,
}

/// One member of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The node and its address.
    pub peer: Peer,
    /// The disk that joined under this number.
    pub disk: DiskId,
    /// Whether it counts for quorums; if not, it is still catching up.
    pub is_voter: bool,
}

/// What a request asks for; for metrics and traces, and to give each its own priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerRequestKind {
    /// A candidate asks for a vote.
    Vote,
    /// The leader sends log entries, or shows that it is alive.
    Append,
    /// The leader sends a piece of a snapshot.
    Snapshot,
    /// A node asks another who it is.
    Hello,
    /// A follower asks the leader how far it must have applied before it may answer a read.
    ReadIndex,
}

/// A request on its way to another node: `body` goes to that node's [`Consensus::handle`](crate::Consensus::handle).
#[derive(Debug, Clone)]
pub struct PeerRequest {
    /// What it asks for.
    pub kind: PeerRequestKind,
    /// All of it, sender and cluster included; at most [`REQUEST_BYTES_MAX`](crate::REQUEST_BYTES_MAX).
    pub body: Bytes,
    /// How long the link may take; the caller gives up then.
    pub timeout: Duration,
}

/// Carries requests to other nodes. It need not retry, keep order or remember anything; it must not answer for others.
pub trait PeerLink: Send + Sync + 'static {
    /// Sends one request to a node and waits for what its `handle` answered.
    fn call(&self, to: &Peer, request: PeerRequest)
    -> BoxFuture<'static, Result<Bytes, PeerError>>;
}

/// A link that may be shared.
pub type SharedLink = Arc<dyn PeerLink>;

/// Why a request got no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// The node cannot be reached, or does not answer for now.
    #[error("the node cannot be reached: {0}")]
    Unreachable(String),
    /// No answer in time; it may have been handled.
    #[error("no answer in time")]
    Timeout,
    /// The request is no request, or not of a version that this node knows.
    #[error("not a request of this version: {0}")]
    Malformed(String),
    /// The node is stopping or has stopped.
    #[error("the node has stopped: {0}")]
    Stopped(String),
}
