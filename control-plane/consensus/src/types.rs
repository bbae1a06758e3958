//! The types that openraft is used with. None of them leaves this crate.

use std::{
    io::Cursor,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde::{Deserialize, Serialize};

use crate::{Applied, DiskId};

openraft::declare_raft_types!(
    /// The types that openraft is used with.
    pub(crate) Types:
        D = Commands,
        R = Vec<Applied>,
        NodeId = u64,
        Node = Node,
        Entry = openraft::Entry<Types>,
        SnapshotData = Cursor<Vec<u8>>,
        AsyncRuntime = openraft::TokioRuntime,
);

pub(crate) type Raft = openraft::Raft<Types>;
pub(crate) type Entry = openraft::Entry<Types>;
pub(crate) type LogId = openraft::LogId<u64>;
pub(crate) type Vote = openraft::Vote<u64>;
pub(crate) type Membership = openraft::Membership<u64, Node>;
pub(crate) type StoredMembership = openraft::StoredMembership<u64, Node>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<u64, Node>;
pub(crate) type Snapshot = openraft::Snapshot<Types>;
pub(crate) type StorageError = openraft::StorageError<u64>;
pub(crate) type Metrics = openraft::RaftMetrics<u64, Node>;

/// What the membership records of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Node {
    pub(crate) address: String,
    pub(crate) disk: DiskId,
}

/// Commands that go into the log as one entry. The bounds on it ask for serde; what is written and sent is `wire`'s.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Commands {
    pub(crate) commands: Vec<Vec<u8>>,
    #[serde(skip)]
    pub(crate) ticket: Option<Ticket>,
}

/// Tells the proposer of an entry whether it has reached a log. If openraft refuses one that has not, nothing was
/// written; if it drops one that has (a newer leader's entry took its place here), another node may still have it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ticket(Arc<AtomicBool>);

impl Ticket {
    pub(crate) fn mark_written(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn is_written(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
