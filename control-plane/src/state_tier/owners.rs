//! Who serves which shard, for those who send requests to shards.

use std::{collections::BTreeMap, sync::Arc};

use proto::types::{JobId, ShardId, StateNodeId};
use tokio::sync::watch;

use super::StateTierDriver;

/// The node that serves a shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShardOwner {
    /// Node.
    pub node: StateNodeId,
    /// Where it answers requests.
    pub address: String,
}

/// The owners of a job's shards. A shard whose owner has not connected to the present leader is
/// left out: what was known of it before still holds.
pub type ShardOwners = BTreeMap<ShardId, ShardOwner>;

/// The owners of all jobs' shards.
pub(super) type OwnersByJob = BTreeMap<JobId, Arc<ShardOwners>>;

/// Changes of owners, job by job. Who listens late hears the newest only.
#[derive(Clone, Debug)]
pub struct OwnerChanges {
    owners: watch::Receiver<OwnersByJob>,
    told: OwnersByJob,
}

impl OwnerChanges {
    pub(super) fn new(owners: watch::Receiver<OwnersByJob>) -> Self {
        OwnerChanges {
            owners,
            told: OwnersByJob::new(),
        }
    }

    /// The next job whose owners are others than this listener was told, at first every job; no
    /// owners: the job is gone. `None`: the tier is gone. May be dropped and called again.
    pub async fn next(&mut self) -> Option<(JobId, Arc<ShardOwners>)> {
        loop {
            let change = self.change();
            if let Some((job, owners)) = change {
                if owners.is_empty() {
                    self.told.remove(&job);
                } else {
                    self.told.insert(job, owners.clone());
                }
                return Some((job, owners));
            }
            self.owners.changed().await.ok()?;
        }
    }

    fn change(&mut self) -> Option<(JobId, Arc<ShardOwners>)> {
        let owners = self.owners.borrow_and_update();
        let differs = |(job, now): &(&JobId, &Arc<ShardOwners>)| self.told.get(job) != Some(*now);
        if let Some((job, now)) = owners.iter().find(differs) {
            return Some((*job, now.clone()));
        }
        let gone = self.told.keys().find(|job| !owners.contains_key(job));
        gone.map(|job| (*job, Arc::default()))
    }
}

impl StateTierDriver {
    /// Makes a job's owners known to those who listen.
    pub(super) fn tell_owners(&self, id: JobId) {
        let job = self.jobs.get(&id);
        let known = job.and_then(|job| job.known.as_ref());
        let running = known.filter(|known| !known.ended);
        let owned = running.iter().flat_map(|known| &known.owners);
        let owners: ShardOwners = owned
            .filter_map(|(shard, node)| {
                let address = self.nodes.get(*node)?.address.clone();
                let node = *node;
                Some((*shard, ShardOwner { node, address }))
            })
            .collect();
        self.owners.send_if_modified(|all| {
            if all.get(&id).map_or(&ShardOwners::new(), |before| before) == &owners {
                return false;
            }
            if owners.is_empty() {
                all.remove(&id);
            } else {
                all.insert(id, Arc::new(owners));
            }
            true
        });
    }
}
