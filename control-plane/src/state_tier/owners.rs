//! Who serves which shard, for those who send requests to shards.

use std::{collections::BTreeMap, sync::Arc};

use control_stream::{JobOwners, ShardOwner};
use proto::types::JobId;
use tokio::sync::watch;

use super::StateTierDriver;

/// The owners of all jobs' shards.
pub(super) type OwnersByJob = BTreeMap<JobId, Arc<JobOwners>>;

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

    /// The next job whose owners are others than this listener was told, at first every job; with no
    /// owners if the job is gone. `None`: the tier is gone. May be dropped and called again.
    pub async fn next(&mut self) -> Option<(JobId, Option<Arc<JobOwners>>)> {
        loop {
            if let Some((job, owners)) = self.change() {
                match &owners {
                    Some(owners) => self.told.insert(job, owners.clone()),
                    None => self.told.remove(&job),
                };
                return Some((job, owners));
            }
            self.owners.changed().await.ok()?;
        }
    }

    fn change(&mut self) -> Option<(JobId, Option<Arc<JobOwners>>)> {
        let owners = self.owners.borrow_and_update();
        let differs = |(job, now): &(&JobId, &Arc<JobOwners>)| self.told.get(job) != Some(*now);
        if let Some((job, now)) = owners.iter().find(differs) {
            return Some((*job, Some(now.clone())));
        }
        let gone = self.told.keys().find(|job| !owners.contains_key(job));
        gone.map(|job| (*job, None))
    }
}

impl StateTierDriver {
    /// Makes a job's owners known to those who listen.
    pub(super) fn tell_owners(&self, id: JobId) {
        let job = self.jobs.get(&id);
        let known = job.and_then(|job| job.known.as_ref());
        let owners = known.filter(|known| !known.ended).map(|known| {
            let owner = |node| {
                let address = self.nodes.get(node)?.address.clone();
                Some(ShardOwner { node, address })
            };
            let owners = known.owners.iter();
            JobOwners {
                key_groups: known.key_groups,
                shards: known.shards,
                owners: owners
                    .filter_map(|(shard, node)| Some((*shard, owner(*node)?)))
                    .collect(),
            }
        });
        let owners = owners.filter(|owners| !owners.owners.is_empty());
        self.owners.send_if_modified(|all| {
            if all.get(&id).map(|before| &**before) == owners.as_ref() {
                return false;
            }
            match owners {
                Some(owners) => all.insert(id, Arc::new(owners)),
                None => all.remove(&id),
            };
            true
        });
    }
}
