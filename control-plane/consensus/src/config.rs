//! What a node is started with.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use crate::{NodeId, Peer, StartError};

/// What a node is started with. All nodes of a new cluster are given the same name and the same peers.
#[derive(Debug, Clone)]
pub struct ConsensusConfig {
    /// Where the log lives. Belongs to this node of this cluster alone.
    pub data_dir: PathBuf,
    /// The cluster's name; a disk of another cluster is refused.
    pub cluster: String,
    /// This node's number. A disk keeps the number that it was first used with.
    pub node: NodeId,
    /// The nodes that form the cluster: 1, 3 or 5, this one among them. A node that is to join later is given those
    /// that are there, without itself. Once the cluster exists, this list only says where its nodes listen now, and
    /// wins over the addresses that the cluster remembers.
    pub peers: Vec<Peer>,
    /// How fast failures are noticed.
    pub timing: Timing,
    /// When the log is cut.
    pub snapshots: SnapshotPolicy,
    /// Where this node's randomness comes from: disk ids and election timeouts. Two starts must never be given the same
    /// one; only a simulation fixes it.
    pub seed: u64,
}

/// How fast failures are noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How often the leader shows that it is alive; also how long one request between nodes may take.
    pub heartbeat: Duration,
    /// A follower that hears nothing from the leader for a random time from here ...
    pub election_min: Duration,
    /// ... to here asks to be elected. A leader that has heard from no quorum for this long no longer calls itself one.
    pub election_max: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(150),
            election_min: Duration::from_millis(1_000),
            election_max: Duration::from_millis(2_000),
        }
    }
}

/// When the log is cut: a snapshot of the machine is written, and what it covers is dropped from the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotPolicy {
    /// After so many entries.
    pub entries: u64,
    /// After so many bytes of commands.
    pub bytes: u64,
}

impl Default for SnapshotPolicy {
    fn default() -> Self {
        Self {
            entries: 4_096,
            bytes: 16 << 20,
        }
    }
}

impl ConsensusConfig {
    /// Refuses what can only be a mistake.
    pub(crate) fn check(&self) -> Result<(), StartError> {
        let refuse = |why: String| Err(StartError::Config(why));
        let ids: BTreeSet<NodeId> = self.peers.iter().map(|peer| peer.id).collect();
        if ids.len() != self.peers.len() {
            return refuse("the list of peers names a node twice".to_owned());
        }
        if ids.contains(&self.node) && !matches!(ids.len(), 1 | 3 | 5) {
            return refuse(format!(
                "a cluster is formed by 1, 3 or 5 nodes, not by {}",
                ids.len()
            ));
        }
        if ids.is_empty() {
            return refuse("the list of peers is empty".to_owned());
        }
        if self.cluster.is_empty() || self.cluster.len() > 200 {
            return refuse("the cluster's name must have 1 to 200 bytes".to_owned());
        }
        let Timing {
            heartbeat,
            election_min,
            election_max,
        } = self.timing;
        // A follower must miss at least two heartbeats before it doubts the leader.
        if heartbeat < Duration::from_millis(10)
            || election_min < heartbeat * 4
            || election_max <= election_min
        {
            return refuse(format!(
                "the timing {heartbeat:?} / {election_min:?} to {election_max:?} does not work: at least 10 ms, four \
                 heartbeats to the first timeout, and a range of timeouts"
            ));
        }
        if self.snapshots.entries == 0 || self.snapshots.bytes == 0 {
            return refuse("a snapshot after no entries makes no sense".to_owned());
        }
        Ok(())
    }
}
