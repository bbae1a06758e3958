//! How the tier is, for people.

use std::collections::BTreeMap;

use proto::types::{JobId, StateNodeId};
use tokio::time::Instant;

use super::{driver::StateTierDriver, job::TierJob, node::Nodes, standing::Standing};

/// A state node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StateNodeStatus {
    /// Number.
    pub node: StateNodeId,
    /// Where it answers requests.
    pub address: String,
    /// Whether it is connected to this process.
    pub connected: bool,
    /// Shards of all jobs that it owns.
    pub shards: usize,
    /// What it misses from the object store.
    pub degraded: Option<String>,
}

/// The tier.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StateTierStatus {
    /// Nodes that are connected, or were until lately and still own shards.
    pub nodes: Vec<StateNodeStatus>,
    /// What holds jobs up.
    pub degraded: BTreeMap<JobId, String>,
}

impl StateTierDriver {
    pub(super) fn status(&self) -> StateTierStatus {
        let shards = self.shards_by_node(None);
        let nodes = self.nodes.iter().map(|(id, node)| StateNodeStatus {
            node: id,
            address: node.address.clone(),
            connected: node.is_up(),
            shards: shards.get(&id).copied().unwrap_or_default(),
            degraded: node.degraded.clone(),
        });
        let now = Instant::now();
        let jobs = self.jobs.iter();
        let degraded = jobs.filter_map(|(id, job)| Some((*id, job.degraded(&self.nodes, now)?)));
        StateTierStatus {
            nodes: nodes
                .filter(|node| node.connected || node.shards > 0)
                .collect(),
            degraded: degraded.collect(),
        }
    }
}

impl TierJob {
    /// What holds the job up, if anything does.
    fn degraded(&self, nodes: &Nodes, now: Instant) -> Option<String> {
        let known = self.known.as_ref()?;
        if known.ended {
            return None;
        }
        let owned = known.owners.iter();
        let without =
            owned
                .clone()
                .find_map(|(shard, owner)| match self.standing(*shard, nodes, now) {
                    Standing::Awaited(_) => Some(format!("{shard} waits for {owner} to come back")),
                    Standing::Homeless => {
                        Some(format!("{shard} has no state node: {owner} is gone"))
                    }
                    Standing::Untold(_) | Standing::Served => None,
                });
        let fault = || {
            let (shard, fault) = self.faults.iter().next()?;
            Some(format!(
                "{shard} is not served by {}: {}",
                fault.node, fault.why
            ))
        };
        let node = || {
            owned.clone().find_map(|(_, owner)| {
                let why = nodes.get(*owner)?.degraded.as_ref()?;
                Some(format!("{owner}: {why}"))
            })
        };
        let waiting = || {
            let waits = self.beginning.is_some() && nodes.connected().next().is_none();
            waits.then(|| "no state node is connected".to_owned())
        };
        without.or_else(fault).or_else(node).or_else(waiting)
    }
}
