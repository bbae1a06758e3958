//! One error per operation; each says what is wrong and what to do, and whether a write may have happened.

use crate::{NodeId, Peer};

/// Why a node does not start. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration makes no sense.
    #[error("bad consensus configuration: {0}")]
    Config(String),
    /// The data directory is another's.
    #[error(
        "the data directory {dir} belongs to {found}, not to {wanted}: give this node a directory of its own"
    )]
    Foreign {
        /// The directory.
        dir: String,
        /// Whose it is.
        found: String,
        /// Who wants it.
        wanted: String,
    },
    /// The data directory was written by another version of this format.
    #[error(
        "the data directory {dir} has format version {found}, and this program knows {known}: use the program that \
         wrote it, or a newer one that can upgrade it"
    )]
    Format {
        /// The directory.
        dir: String,
        /// Its version.
        found: u64,
        /// The version of this program.
        known: u64,
    },
    /// The disk does not work, is full, is damaged or is in use.
    #[error("failed to open the log in {dir}: {cause}")]
    Disk {
        /// The directory.
        dir: String,
        /// What went wrong.
        cause: String,
    },
}

/// Why a running node stopped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StopReason {
    /// It was asked to.
    #[error("the node was shut down")]
    Shutdown,
    /// Its disk failed or is full. What was acknowledged is safe; it may start again once the disk works.
    #[error("the log's disk failed, and the node stopped before anything was damaged: {0}")]
    Storage(String),
    /// Its disk was lost or exchanged after it joined: it may hold less than it once acknowledged.
    #[error(
        "the disk of node {node} is not the one that joined cluster `{cluster}`: remove node {node} from the cluster \
         and let this disk join under an id that was never used"
    )]
    WrongDisk {
        /// This node.
        node: NodeId,
        /// The cluster.
        cluster: String,
    },
    /// The node was removed from the cluster.
    #[error(
        "node {0} was removed from the cluster: to return, it needs an empty data directory and a new id"
    )]
    Removed(NodeId),
    /// The other nodes form another cluster, though its name is the same.
    #[error("{0}: empty the data directory of whichever is to join the other")]
    OtherCluster(String),
}

/// Why a proposal was not, or not certainly, applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Another node leads, or none does. Nothing was written.
    #[error("this node is not the leader{}", leader_hint(.leader))]
    NotLeader {
        /// Who leads, if known.
        leader: Option<Peer>,
    },
    /// The leader cannot reach a quorum.
    #[error("no quorum of nodes can be reached{}", doubt(*.indeterminate))]
    NoQuorum {
        /// Whether the command may still be applied.
        indeterminate: bool,
    },
    /// Not done by the deadline.
    #[error("the deadline passed{}", doubt(*.indeterminate))]
    Timeout {
        /// Whether the command may still be applied.
        indeterminate: bool,
    },
    /// The command is too large. Nothing was written.
    #[error("the command has {bytes} bytes, and at most {max} are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The node has stopped, or stopped meanwhile.
    #[error("{reason}{}", doubt(*.indeterminate))]
    Stopped {
        /// Why.
        reason: StopReason,
        /// Whether the command may still be applied.
        indeterminate: bool,
    },
}

impl ProposeError {
    /// Whether the command may have been applied, or may still be. If not, nothing was written, and it may be repeated.
    pub fn is_indeterminate(&self) -> bool {
        match self {
            Self::NoQuorum { indeterminate }
            | Self::Timeout { indeterminate }
            | Self::Stopped { indeterminate, .. } => *indeterminate,
            Self::NotLeader { .. } | Self::TooLarge { .. } => false,
        }
    }
}

/// Why a read cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No leader is known, or it cannot reach a quorum.
    #[error("no leader with a quorum of nodes can be reached")]
    NoQuorum,
    /// The node has stopped.
    #[error("{0}")]
    Stopped(StopReason),
}

/// Why the members were not, or not certainly, changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Another node leads, or none does. Nothing was changed.
    #[error("this node is not the leader{}", leader_hint(.leader))]
    NotLeader {
        /// Who leads, if known.
        leader: Option<Peer>,
    },
    /// Changes are made one after the other. Nothing was changed.
    #[error("another change of members is under way: try again when it is done")]
    InProgress,
    /// There is no such node. Nothing was changed.
    #[error("node {0} is not a member")]
    NotMember(NodeId),
    /// The change makes no sense. Nothing was changed.
    #[error("{0}")]
    Refused(String),
    /// Not done by the deadline: `members` says how far it came, and repeating it goes on from there.
    #[error("not done in time: {0}; the change may be repeated")]
    Timeout(String),
    /// The node has stopped.
    #[error("{0}")]
    Stopped(StopReason),
}

fn leader_hint(leader: &Option<Peer>) -> String {
    match leader {
        Some(peer) => format!("; node {} at {} is", peer.id, peer.address),
        None => ", and none is known".to_owned(),
    }
}

fn doubt(indeterminate: bool) -> &'static str {
    if indeterminate {
        "; the command may or may not be applied"
    } else {
        "; nothing was written"
    }
}
