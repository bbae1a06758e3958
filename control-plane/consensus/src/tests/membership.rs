//! Nodes join and leave, one change at a time, under load.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    ChangeError, NodeId, Peer, ProposeError, StopReason,
    testing::{Cluster, soon},
};

fn peer(id: u64) -> Peer {
    Peer {
        id: NodeId(id),
        address: format!("n{id}"),
    }
}

impl Cluster {
    /// Starts a node that is to join, and lets it.
    async fn join(&mut self, id: u64) {
        self.start(id).await.unwrap();
        let leader = self.leader().await;
        self.nodes[&leader]
            .add_node(peer(id), soon())
            .await
            .unwrap();
    }

    async fn remove(&mut self, id: u64) {
        let leader = self.leader().await;
        self.nodes[&leader]
            .remove_node(NodeId(id), soon())
            .await
            .unwrap();
    }

    async fn voters(&self) -> Vec<u64> {
        let members = self.nodes[&self.leader().await].members();
        members
            .iter()
            .filter(|member| member.is_voter)
            .map(|member| member.peer.id.0)
            .collect()
    }

    async fn wait_until_stopped(&self, id: u64) -> StopReason {
        let mut stopped = self.nodes[&id].stopped();
        let stopped =
            tokio::time::timeout(Duration::from_secs(30), stopped.wait_for(Option::is_some));
        stopped.await.expect("in time").unwrap().clone().unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn nodes_are_added_and_removed_under_load() {
    let mut cluster = Cluster::formed(3, 1).await;
    let node = cluster.nodes[&cluster.leader().await].clone();
    let load = tokio::spawn(async move {
        let mut done = Vec::new();
        for n in 0..400 {
            let command = format!("load{n}");
            if node
                .propose(Bytes::from(command.clone()), soon())
                .await
                .is_ok()
            {
                done.push(command);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        done
    });
    cluster.join(4).await;
    cluster.join(5).await;
    assert_eq!(cluster.voters().await, [1, 2, 3, 4, 5]);
    let leader = cluster.leader().await;
    let others: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    for id in &others {
        cluster.remove(*id).await;
    }
    let done = load.await.unwrap();
    assert!(done.len() > 350, "{}", done.len());
    cluster.acknowledged.extend(done);
    for id in others {
        assert_eq!(
            cluster.wait_until_stopped(id).await,
            StopReason::Removed(NodeId(id))
        );
        cluster.kill(id);
    }
    cluster.propose_many(5).await;
    cluster.check().await;
    // The two that joined can do without the first leader.
    cluster.remove(leader).await;
    cluster.wait_until_stopped(leader).await;
    cluster.kill(leader);
    cluster.propose_many(5).await;
    assert_eq!(cluster.voters().await, [4, 5]);
    cluster.check().await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_removes_itself() {
    let mut cluster = Cluster::formed(3, 2).await;
    cluster.propose_many(5).await;
    let old = cluster.leader().await;
    cluster.remove(old).await;
    assert_eq!(
        cluster.wait_until_stopped(old).await,
        StopReason::Removed(NodeId(old))
    );
    let error = cluster.nodes[&old]
        .propose(Bytes::from("no"), soon())
        .await
        .unwrap_err();
    assert!(matches!(error, ProposeError::Stopped { .. }), "{error}");
    cluster.kill(old);
    cluster.propose_many(5).await;
    cluster.check().await;
    assert_eq!(cluster.voters().await.len(), 2);
    // With its disk, it is told again.
    cluster.start(old).await.unwrap();
    cluster.wait_until_stopped(old).await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_node_is_removed_and_its_id_never_comes_back() {
    let mut cluster = Cluster::formed(3, 3).await;
    cluster.propose_many(5).await;
    let leader = cluster.leader().await;
    let dead = (1..=3).find(|id| *id != leader).unwrap();
    cluster.wipe(dead);
    cluster.remove(dead).await;
    cluster.propose_many(5).await;
    // Removing it again is done already; one that never was is not.
    cluster.remove(dead).await;
    let error = cluster.nodes[&leader]
        .remove_node(NodeId(77), soon())
        .await
        .unwrap_err();
    assert_eq!(error, ChangeError::NotMember(NodeId(77)));

    cluster.founders.retain(|id| *id != dead);
    cluster.start(dead).await.unwrap();
    let error = cluster.nodes[&leader]
        .add_node(peer(dead), soon())
        .await
        .unwrap_err();
    assert!(
        matches!(&error, ChangeError::Refused(why) if why.contains("never used again")),
        "{error}"
    );
    cluster.kill(dead);
    cluster.join(9).await;
    cluster.propose_many(5).await;
    cluster.check().await;
    assert!(cluster.voters().await.contains(&9));
}

#[tokio::test(start_paused = true)]
async fn changes_are_made_one_after_the_other_and_by_the_leader() {
    let mut cluster = Cluster::formed(3, 4).await;
    cluster.start(4).await.unwrap();
    cluster.start(5).await.unwrap();
    let leader = cluster.leader().await;
    let node = cluster.nodes[&leader].clone();
    let (first, second) = tokio::join!(
        node.add_node(peer(4), soon()),
        node.add_node(peer(5), soon())
    );
    assert_eq!((first, second), (Ok(()), Err(ChangeError::InProgress)));
    let other = (1..=3).find(|id| *id != leader).unwrap();
    let error = cluster.nodes[&other]
        .add_node(peer(5), soon())
        .await
        .unwrap_err();
    assert_eq!(
        error,
        ChangeError::NotLeader {
            leader: Some(peer(leader))
        }
    );
    // A node that is not there does not join; nobody waits longer than asked.
    cluster.kill(5);
    let deadline = Instant::now() + Duration::from_secs(3);
    let error = node.add_node(peer(5), deadline).await.unwrap_err();
    assert!(matches!(error, ChangeError::Timeout(_)), "{error}");
    assert!(Instant::now() < deadline + Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_change_that_its_leader_did_not_live_to_finish_is_finished() {
    let mut cluster = Cluster::formed(3, 5).await;
    cluster.start(4).await.unwrap();
    let leader = cluster.leader().await;
    let node = cluster.nodes[&leader].clone();
    let change = tokio::spawn(async move { node.add_node(peer(4), soon()).await });
    // As soon as there are two sets of voters.
    let metrics = cluster.nodes[&leader].inner.raft.metrics();
    let mut metrics = metrics;
    let is_joint = |now: &crate::types::Metrics| {
        now.membership_config.membership().get_joint_config().len() > 1
    };
    tokio::time::timeout(Duration::from_secs(20), metrics.wait_for(is_joint))
        .await
        .unwrap()
        .unwrap();
    drop(metrics);
    change.abort();
    cluster.kill(leader);
    cluster.propose_many(3).await;
    let new = cluster.leader().await;
    let deadline = Instant::now() + Duration::from_secs(20);
    let is_uniform = |cluster: &Cluster| {
        let metrics = cluster.nodes[&new].inner.raft.metrics();
        let metrics = metrics.borrow();
        metrics
            .membership_config
            .membership()
            .get_joint_config()
            .len()
            == 1
    };
    while !is_uniform(&cluster) {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    cluster.start(leader).await.unwrap();
    cluster.check().await;
}

#[tokio::test(start_paused = true)]
async fn the_last_voter_stays() {
    let cluster = Cluster::formed(1, 6).await;
    let error = cluster.nodes[&1]
        .remove_node(NodeId(1), soon())
        .await
        .unwrap_err();
    assert!(
        matches!(&error, ChangeError::Refused(why) if why.contains("last one")),
        "{error}"
    );
}
