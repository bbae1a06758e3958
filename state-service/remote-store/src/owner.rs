//! Who serves the shards of a job, as the control plane says it.

use std::collections::BTreeMap;

use proto::types::{KeyGroupCount, ShardId, StateNodeId};

/// A state node and where it listens.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Owner {
    /// The node. One that comes back after a crash is another.
    pub node: StateNodeId,
    /// Its address, host:port.
    pub address: String,
}

/// How a job is cut, and who owns the parts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JobRoute {
    /// Key groups of the job.
    pub key_groups: KeyGroupCount,
    /// Shards of the job.
    pub shards: u32,
    /// Owners. A shard that nobody owns is missing: requests for it wait.
    pub owners: BTreeMap<ShardId, Owner>,
}
