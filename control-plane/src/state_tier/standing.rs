//! How each shard of a job stands, and where those go that cannot stay.

use std::collections::BTreeMap;

use coordinator::place;
use proto::types::{Epoch, Generation, ShardId, StateNodeId};
use tokio::time::Instant;

use super::{
    job::TierJob,
    known::Known,
    node::{Nodes, Presence},
};
use crate::caps::SHARD_FAILURES_PER_NODE;

/// How a shard stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// Its owner is connected and knows all.
    Served,
    /// Its owner, connected, does not know the latest.
    Untold(StateNodeId),
    /// Its owner may come back until then.
    Awaited(Instant),
    /// It needs another owner.
    Homeless,
}

/// What the owner of a shard was told last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Told {
    pub(super) node: StateNodeId,
    pub(super) session: u64,
    pub(super) generation: Generation,
    pub(super) committed: Epoch,
}

/// A shard that its owner does not serve.
pub(super) struct Fault {
    pub(super) node: StateNodeId,
    pub(super) why: String,
    /// How often in a row the node gave it up.
    pub(super) times: u32,
    /// When it is to be opened again; `None`: the node is at it.
    pub(super) retry_at: Option<Instant>,
}

impl TierJob {
    /// How each shard stands.
    pub(super) fn standings(&self, nodes: &Nodes, now: Instant) -> BTreeMap<ShardId, Standing> {
        let shards = self.known.iter().flat_map(Known::shard_ids);
        shards
            .map(|shard| (shard, self.standing(shard, nodes, now)))
            .collect()
    }

    pub(super) fn standing(&self, shard: ShardId, nodes: &Nodes, now: Instant) -> Standing {
        let known = self.known.as_ref();
        let Some((known, owner)) =
            known.and_then(|known| Some((known, *known.owners.get(&shard)?)))
        else {
            return Standing::Homeless;
        };
        let session = match nodes.presence(owner, now) {
            Presence::Connected(session) => session,
            Presence::Awaited(until) => return Standing::Awaited(until),
            Presence::Gone => return Standing::Homeless,
        };
        let others = nodes.connected().any(|node| node != owner);
        if others && self.is_to_leave(shard, owner) {
            return Standing::Homeless;
        }
        let latest = Told {
            node: owner,
            session,
            generation: known.generation,
            committed: known.committed,
        };
        if self.told.get(&shard) == Some(&latest) {
            Standing::Served
        } else {
            Standing::Untold(owner)
        }
    }

    /// Whether the shard is to be tried on another node than this one: its turn to be opened again
    /// has come, and the node has failed too often.
    fn is_to_leave(&self, shard: ShardId, node: StateNodeId) -> bool {
        let failed = |fault: &Fault| {
            let again = fault.retry_at.is_none() && !self.told.contains_key(&shard);
            again && fault.node == node && fault.times >= SHARD_FAILURES_PER_NODE
        };
        self.faults.get(&shard).is_some_and(failed)
    }

    /// New owners for shards that need some. `loads`: shards of other jobs by connected node.
    pub(super) fn placement(
        &self,
        nodes: &Nodes,
        loads: &BTreeMap<StateNodeId, usize>,
        now: Instant,
    ) -> BTreeMap<ShardId, StateNodeId> {
        let Some(known) = &self.known else {
            return BTreeMap::new();
        };
        let standings = self.standings(nodes, now);
        let awaited = |standing: &Standing| matches!(standing, Standing::Awaited(_));
        let placeable = standings.iter().filter(|(_, standing)| !awaited(standing));
        let leaving = |shard: ShardId| {
            let owner = known.owners.get(&shard).copied();
            owner.filter(|owner| loads.contains_key(owner) && self.is_to_leave(shard, *owner))
        };
        let (moved, others): (Vec<ShardId>, Vec<ShardId>) = placeable
            .map(|(shard, _)| *shard)
            .partition(|shard| leaving(*shard).is_some());
        let mut owners = place::shards(&known.owners, others, loads);
        for shard in moved {
            let mut loads = loads.clone();
            for owner in owners.values() {
                *loads.entry(*owner).or_default() += 1;
            }
            if let Some(node) = leaving(shard) {
                loads.remove(&node);
            }
            owners.extend(place::shards(&BTreeMap::new(), [shard], &loads));
        }
        owners.retain(|shard, owner| known.owners.get(shard) != Some(owner));
        owners
    }
}
