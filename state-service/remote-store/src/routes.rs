//! Which node serves which shard of which job: a table that the control plane's word changes and that
//! requests under way watch.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use proto::types::{JobId, KeyGroup, KeyGroupCount, ShardId};
use tokio::sync::watch;

use crate::{JobRoute, Owner, link::NodeLink};

/// Where the shards of all jobs are. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    table: Arc<watch::Sender<Table>>,
}

/// The table at one time.
#[derive(Debug, Default)]
pub(crate) struct Table {
    jobs: BTreeMap<JobId, Arc<Route>>,
    /// Links that something uses.
    links: BTreeMap<Owner, Weak<NodeLink>>,
}

/// Where the shards of one job are.
#[derive(Debug)]
pub(crate) struct Route {
    key_groups: KeyGroupCount,
    shards: u32,
    owners: BTreeMap<ShardId, Arc<NodeLink>>,
}

impl Routes {
    /// From now on the job's shards are where `route` says.
    pub fn set(&self, job: JobId, route: JobRoute) {
        self.table.send_modify(|table| {
            let owners = route.owners.into_iter();
            let owners = owners.map(|(shard, owner)| (shard, table.link(owner)));
            let route = Route {
                key_groups: route.key_groups,
                shards: route.shards,
                owners: owners.collect(),
            };
            table.jobs.insert(job, Arc::new(route));
            table.forget_links();
        });
    }

    /// The job has no shards any more, or nobody knows where they are.
    pub fn remove(&self, job: JobId) {
        self.table.send_modify(|table| {
            table.jobs.remove(&job);
            table.forget_links();
        });
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Table> {
        self.table.subscribe()
    }

    pub(crate) fn of(&self, job: JobId) -> Option<Arc<Route>> {
        self.table.borrow().of(job)
    }

    /// Waits until one of the shards is known to be with another node than that of `link`.
    pub(crate) async fn moved(&self, job: JobId, shards: &[ShardId], link: &Arc<NodeLink>) {
        let is_here = |route: &Route, shard: &ShardId| {
            let owner = route.owner(*shard);
            owner.is_some_and(|owner| Arc::ptr_eq(owner, link))
        };
        let moved = |table: &Table| {
            let route = table.jobs.get(&job);
            route.is_some_and(|route| !shards.iter().all(|shard| is_here(route, shard)))
        };
        // The table outlives its watchers: `self` has it.
        drop(self.table.subscribe().wait_for(moved).await);
    }
}

impl Table {
    pub(crate) fn of(&self, job: JobId) -> Option<Arc<Route>> {
        self.jobs.get(&job).cloned()
    }

    fn link(&mut self, owner: Owner) -> Arc<NodeLink> {
        let known = self.links.get(&owner).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let link = Arc::new(NodeLink::new(owner.clone()));
            self.links.insert(owner, Arc::downgrade(&link));
            link
        })
    }

    fn forget_links(&mut self) {
        self.links.retain(|_, link| link.strong_count() > 0);
    }
}

impl Route {
    /// The shard of a key by its hash.
    pub(crate) fn shard_of_hash(&self, hash: u64) -> ShardId {
        self.shard_of(self.key_groups.of_hash(hash))
    }

    /// The shard of a key group.
    pub(crate) fn shard_of(&self, group: KeyGroup) -> ShardId {
        ShardId(self.key_groups.part_of(group, self.shards))
    }

    /// The node that serves a shard.
    pub(crate) fn owner(&self, shard: ShardId) -> Option<&Arc<NodeLink>> {
        self.owners.get(&shard)
    }

    /// Each shard and its node.
    pub(crate) fn owners(&self) -> impl Iterator<Item = (ShardId, &Arc<NodeLink>)> {
        self.owners.iter().map(|(shard, link)| (*shard, link))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proto::types::StateNodeId;
    use tokio::time::timeout;

    use super::*;

    const JOB: JobId = JobId(1);

    fn route(nodes: &[u64]) -> JobRoute {
        let owner = |node: &u64| Owner {
            node: StateNodeId(*node),
            address: "127.0.0.1:1".to_owned(),
        };
        let shards = (0..).map(ShardId);
        JobRoute {
            key_groups: KeyGroupCount::DEFAULT,
            shards: nodes.len() as u32,
            owners: shards.zip(nodes.iter().map(owner)).collect(),
        }
    }

    fn link(routes: &Routes, job: JobId, shard: u32) -> Arc<NodeLink> {
        let route = routes.of(job).expect("a route");
        route.owner(ShardId(shard)).expect("an owner").clone()
    }

    #[test]
    fn links_are_shared_and_go_with_the_last_route_that_names_them() {
        let routes = Routes::default();
        routes.set(JOB, route(&[1, 1, 2]));
        routes.set(JobId(2), route(&[2, 3]));
        let one = link(&routes, JOB, 0);
        assert!(Arc::ptr_eq(&one, &link(&routes, JOB, 1)));
        let two = link(&routes, JOB, 2);
        assert!(Arc::ptr_eq(&two, &link(&routes, JobId(2), 0)));
        // The same node at the same place is the same link in the next route.
        routes.set(JOB, route(&[1, 2, 2]));
        assert!(Arc::ptr_eq(&one, &link(&routes, JOB, 0)));
        let (one, two) = {
            let weak = (Arc::downgrade(&one), Arc::downgrade(&two));
            drop((one, two));
            weak
        };
        routes.set(JOB, route(&[2, 2, 2]));
        assert!(one.upgrade().is_none());
        routes.remove(JOB);
        assert!(two.upgrade().is_some());
        routes.remove(JobId(2));
        assert!(two.upgrade().is_none());
        assert!(routes.table.borrow().links.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_move_is_noticed_and_nothing_else() {
        let routes = Routes::default();
        routes.set(JOB, route(&[1, 1, 2]));
        let one = link(&routes, JOB, 0);
        let both = [ShardId(0), ShardId(1)];
        let soon = Duration::from_secs(1);
        let stays = || timeout(soon, routes.moved(JOB, &both, &one));
        assert!(stays().await.is_err());
        routes.set(JOB, route(&[1, 1, 3]));
        routes.set(JobId(2), route(&[9]));
        assert!(stays().await.is_err());
        let (moved, ()) = tokio::join!(stays(), async { routes.set(JOB, route(&[1, 3, 3])) });
        assert!(moved.is_ok());
        let mut orphan = route(&[1, 1, 1]);
        orphan.owners.remove(&ShardId(0));
        routes.set(JOB, orphan);
        assert!(stays().await.is_ok(), "nobody has it");
    }
}
