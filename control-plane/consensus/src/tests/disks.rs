//! Disks that were wiped, fail, or fill up.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    NodeId, Peer, ProposeError, StopReason,
    testing::{Cluster, soon},
};

async fn why(cluster: &Cluster, id: u64) -> StopReason {
    let mut stopped = cluster.nodes[&id].stopped();
    let stopped = tokio::time::timeout(Duration::from_secs(30), stopped.wait_for(Option::is_some));
    stopped.await.expect("in time").unwrap().clone().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_wiped_node_cannot_return_as_itself() {
    for wiped in 1..=3 {
        let mut cluster = Cluster::formed(3, wiped).await;
        cluster.propose_many(5).await;
        cluster.wipe(wiped);
        cluster.propose_many(5).await;
        cluster.start(wiped).await.unwrap();
        let reason = why(&cluster, wiped).await;
        assert_eq!(
            reason,
            StopReason::WrongDisk {
                node: NodeId(wiped),
                cluster: "test".to_owned()
            }
        );
        assert!(reason.to_string().contains(&format!(
            "the disk of node {wiped} is not the one that joined"
        )));
        cluster.kill(wiped);
        // The same disk joins under a new id.
        cluster.wipe(wiped);
        cluster.start(4).await.unwrap();
        let leader = cluster.leader().await;
        let peer = Peer {
            id: NodeId(4),
            address: "n4".to_owned(),
        };
        cluster.nodes[&leader].add_node(peer, soon()).await.unwrap();
        cluster.nodes[&leader]
            .remove_node(NodeId(wiped), soon())
            .await
            .unwrap();
        cluster.propose_many(5).await;
        cluster.check().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_wiped_node_takes_nothing_before_it_knows() {
    let mut cluster = Cluster::formed(3, 6).await;
    cluster.propose_many(5).await;
    let leader = cluster.leader().await;
    let wiped = (1..=3).find(|id| *id != leader).unwrap();
    cluster.wipe(wiped);
    // It cannot ask, but it is sent votes and entries.
    let others: Vec<String> = (1..=3).map(|id| format!("n{id}")).collect();
    cluster.network.mute(&format!("n{wiped}"), &others);
    cluster.start(wiped).await.unwrap();
    let disk = Arc::clone(cluster.nodes[&wiped].inner.local.disk());
    let raft = cluster.nodes[&wiped].inner.raft.clone();
    assert!(matches!(
        why(&cluster, wiped).await,
        StopReason::WrongDisk { .. }
    ));
    let metrics = raft.metrics();
    let metrics = metrics.borrow();
    assert_eq!(
        (metrics.last_log_index, metrics.vote),
        (None, Default::default())
    );
    assert!(disk.vote().is_err(), "its disk is closed");
}

#[tokio::test(start_paused = true)]
async fn a_wiped_node_does_not_help_to_elect() {
    // Node 2 is cut off while 1 and 3 acknowledge. Then 1 is gone and 3 is wiped: 2 and the new 3 must not form a
    // quorum that knows nothing.
    let mut cluster = Cluster::formed(3, 7).await;
    let leader = cluster.leader().await;
    let [behind, witness] = (1..=3).filter(|id| *id != leader).collect::<Vec<_>>()[..] else {
        panic!()
    };
    cluster.kill(behind);
    cluster.propose_many(5).await;
    cluster.kill(leader);
    cluster.wipe(witness);
    cluster.start(behind).await.unwrap();
    cluster.start(witness).await.unwrap();
    assert!(matches!(
        why(&cluster, witness).await,
        StopReason::WrongDisk { .. }
    ));
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        let error = cluster.nodes[&behind]
            .propose(Bytes::from("x"), Instant::now() + Duration::from_secs(1))
            .await;
        assert!(!error.unwrap_err().is_indeterminate());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    cluster.kill(witness);
    cluster.start(leader).await.unwrap();
    cluster.propose_many(5).await;
    cluster.check().await;
}

#[tokio::test(start_paused = true)]
async fn nodes_that_are_wiped_while_the_cluster_forms_do_no_harm() {
    for seed in 0..10 {
        let mut cluster = Cluster::new(3, 30 + seed);
        for id in 1..=3 {
            cluster.start(id).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(seed * 40)).await;
        cluster.wipe(3);
        cluster.start(3).await.unwrap();
        let told = tokio::time::timeout(Duration::from_secs(20), why(&cluster, 3)).await;
        match told {
            // The cluster had its first disk: it works without it.
            Ok(reason) => assert!(matches!(reason, StopReason::WrongDisk { .. }), "{reason}"),
            // It had not: the second one is a member like any other.
            Err(_) => cluster.kill(1),
        }
        cluster
            .nodes
            .retain(|id, node| *id == 1 || node.stopped().borrow().is_none());
        cluster.propose_many(3).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_founder_that_was_wiped_founds_nothing_again() {
    let mut cluster = Cluster::formed(3, 8).await;
    cluster.propose_many(3).await;
    // Only one of the others is there to tell it.
    cluster.kill(3);
    cluster.wipe(1);
    cluster.start(1).await.unwrap();
    let reason = why(&cluster, 1).await;
    assert!(matches!(reason, StopReason::WrongDisk { .. }), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_stops_the_node_and_damages_nothing() {
    for is_full in [true, false] {
        let mut cluster = Cluster::formed(1, 9).await;
        cluster.propose_many(20).await;
        if is_full {
            cluster.disks[&1].fill();
        } else {
            cluster.disks[&1].set_broken(true);
        }
        let node = cluster.nodes[&1].clone();
        let error = loop {
            let command = format!("last{}{}", cluster.doubtful.len(), "x".repeat(50_000));
            match node.propose(Bytes::from(command.clone()), soon()).await {
                Ok(_) => cluster.acknowledged.insert(command),
                Err(error) => {
                    cluster.doubtful.insert(command);
                    break error;
                }
            };
            assert!(cluster.acknowledged.len() < 1_000);
            cluster.doubtful.insert(String::new());
        };
        assert!(
            matches!(
                &error,
                ProposeError::Stopped {
                    reason: StopReason::Storage(_),
                    ..
                }
            ),
            "{error}"
        );
        let expected = if is_full {
            "no space left on device"
        } else {
            "input/output error"
        };
        let reason = why(&cluster, 1).await.to_string();
        assert!(
            reason.contains(expected) && reason.contains("write the log"),
            "{reason}"
        );
        assert!(!reason.contains('\n'), "one line: {reason}");
        let again = node.propose(Bytes::from("more"), soon()).await.unwrap_err();
        assert!(!again.is_indeterminate(), "{again}");

        drop(node);
        cluster.kill(1);
        cluster.disks[&1].make_room();
        cluster.disks[&1].set_broken(false);
        cluster.start(1).await.unwrap();
        cluster.propose_many(3).await;
        cluster.check().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_with_a_full_disk_leaves_the_others_in_peace() {
    let mut cluster = Cluster::formed(3, 10).await;
    let leader = cluster.leader().await;
    let victim = (1..=3).find(|id| *id != leader).unwrap();
    cluster.disks[&victim].set_broken(true);
    cluster.propose_many(10).await;
    assert!(matches!(
        why(&cluster, victim).await,
        StopReason::Storage(_)
    ));
    cluster.kill(victim);
    cluster.propose_many(10).await;
    cluster.disks[&victim].set_broken(false);
    cluster.start(victim).await.unwrap();
    cluster.check().await;
}

#[tokio::test(start_paused = true)]
async fn a_proposal_costs_one_sync() {
    let mut cluster = Cluster::formed(1, 11).await;
    cluster.propose_many(5).await;
    let before = cluster.disks[&1].syncs();
    cluster.propose_many(100).await;
    let syncs = cluster.disks[&1].syncs() - before;
    assert!((100..=110).contains(&syncs), "{syncs}");
}

#[tokio::test(start_paused = true)]
async fn proposals_that_wait_go_to_the_disk_together() {
    let cluster = Cluster::formed(1, 12).await;
    let node = &cluster.nodes[&1];
    let before = cluster.disks[&1].syncs();
    let many = (0..400).map(|n| node.propose(Bytes::from(format!("{n}")), soon()));
    let answers = futures::future::join_all(many).await;
    let mut indexes: Vec<u64> = answers
        .into_iter()
        .map(|answer| answer.unwrap().index)
        .collect();
    indexes.sort_unstable();
    assert_eq!(
        indexes,
        (1..=400).collect::<Vec<_>>(),
        "each has its number"
    );
    let syncs = cluster.disks[&1].syncs() - before;
    assert!(syncs < 20, "{syncs}");
}
