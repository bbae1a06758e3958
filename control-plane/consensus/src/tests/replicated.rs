//! Several nodes: whatever is killed or cut off, nothing acknowledged is lost and all apply the same.

use std::time::Duration;

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::time::Instant;

use crate::{
    Leadership, PeerRequestKind, ProposeError, SnapshotPolicy,
    testing::{Cluster, soon},
};

#[tokio::test(start_paused = true)]
async fn every_node_is_killed_in_turn_and_then_all_at_once() {
    let mut cluster = Cluster::formed(3, 1).await;
    for round in 0..3 {
        for id in 1..=3 {
            cluster.propose_many(10).await;
            cluster.kill(id);
            cluster.propose_many(10).await;
            cluster.start(id).await.unwrap();
        }
        cluster.check().await;
        for id in 1..=3 {
            cluster.kill(id);
        }
        for id in [2, 3, 1] {
            cluster.start(id).await.unwrap();
        }
        cluster.propose_many(5).await;
        cluster.check().await;
        assert_eq!(cluster.acknowledged.len(), (round + 1) * 65);
    }
}

/// Random kills, restarts, partitions, losses and delays under load.
async fn storm(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut cluster = Cluster::new(3, seed);
    cluster.snapshots = SnapshotPolicy {
        entries: 25,
        bytes: 1 << 20,
    };
    for id in 1..=3 {
        cluster.start(id).await.unwrap();
    }
    cluster.leader().await;
    for _ in 0..25 {
        cluster
            .network
            .set_faults(random.random_range(0.0..0.15), random.random_range(1..60));
        let victim = random.random_range(1..=3);
        match random.random_range(0..3) {
            0 => {
                cluster.kill(victim);
                cluster.propose_many(random.random_range(1..15)).await;
                cluster.start(victim).await.unwrap();
            }
            1 => {
                cluster.isolate(victim);
                cluster.propose_many(random.random_range(1..15)).await;
                cluster.network.heal();
            }
            _ => {
                for id in 1..=3 {
                    cluster.kill(id);
                }
                for id in 1..=3 {
                    cluster.start(id).await.unwrap();
                }
            }
        }
        cluster.propose_many(random.random_range(1..15)).await;
        cluster.propose_burst(random.random_range(1..6)).await;
    }
    cluster.network.set_faults(0.0, 2);
    cluster.check().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_in_a_storm() {
    for seed in 0..12 {
        storm(seed).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_says_so_and_the_others_elect() {
    let mut cluster = Cluster::formed(3, 2).await;
    cluster.propose_many(3).await;
    let old = cluster.leader().await;
    let node = cluster.nodes[&old].clone();
    cluster.isolate(old);

    let started = Instant::now();
    let deadline = started + Duration::from_secs(5);
    let error = node
        .propose(Bytes::from("lost?"), deadline)
        .await
        .unwrap_err();
    assert!(error.is_indeterminate(), "{error}");
    assert!(Instant::now() <= deadline + Duration::from_millis(10));
    cluster.doubtful.insert("lost?".to_owned());
    // From then on it takes nothing more, and does not call itself leader.
    let error = node
        .propose(Bytes::from("refused"), soon())
        .await
        .unwrap_err();
    assert_eq!(
        error,
        ProposeError::NoQuorum {
            indeterminate: false
        }
    );
    assert_eq!(*node.leadership().borrow(), Leadership::NoLeader);
    node.read_barrier(Instant::now() + Duration::from_secs(2))
        .await
        .unwrap_err();

    let others: Vec<u64> = (1..=3).filter(|id| *id != old).collect();
    let new = cluster.leader_among(&others).await;
    let new = cluster.nodes[&new].clone();
    new.propose(Bytes::from("by the new one"), soon())
        .await
        .unwrap();
    cluster.acknowledged.insert("by the new one".to_owned());

    cluster.network.heal();
    node.read_barrier(soon()).await.unwrap();
    cluster.check().await;
    let error = node
        .propose(Bytes::from("elsewhere"), soon())
        .await
        .unwrap_err();
    assert!(
        matches!(&error, ProposeError::NotLeader { leader: Some(_) }),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_election_takes_about_as_long_as_configured() {
    for seed in 10..16 {
        let mut cluster = Cluster::formed(3, seed).await;
        let old = cluster.leader().await;
        cluster.kill(old);
        let started = Instant::now();
        cluster.leader().await;
        let took = started.elapsed();
        assert!(took < Duration::from_millis(3_500), "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn five_nodes_form_a_cluster_and_bear_two_deaths() {
    let mut cluster = Cluster::formed(5, 3).await;
    cluster.propose_many(5).await;
    cluster.kill(cluster.leader().await);
    cluster.kill(cluster.leader().await);
    cluster.propose_many(5).await;
    cluster.check().await;
    let leader = cluster.leader().await;
    cluster.kill(leader);
    for node in cluster.nodes.values() {
        let error = node
            .propose(Bytes::from("no"), Instant::now() + Duration::from_secs(3))
            .await
            .unwrap_err();
        assert!(!error.is_indeterminate(), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_long_away_gets_a_snapshot_in_pieces() {
    let mut cluster = Cluster::new(3, 4);
    cluster.snapshots = SnapshotPolicy {
        entries: 20,
        bytes: 64 << 20,
    };
    for id in 1..=3 {
        cluster.start(id).await.unwrap();
    }
    let leader = cluster.leader().await;
    let away = (1..=3).find(|id| *id != leader).unwrap();
    cluster.kill(away);
    let leader = cluster.nodes[&leader].clone();
    for n in 0..40 {
        let command = format!("{n}{}", "x".repeat(100_000));
        leader
            .propose(Bytes::from(command.clone()), soon())
            .await
            .unwrap();
        cluster.acknowledged.insert(command);
    }
    assert_eq!(cluster.network.sent(PeerRequestKind::Snapshot), 0);
    // It takes longer than a follower waits for its leader; nobody must be elected meanwhile.
    cluster
        .network
        .slow_down_snapshots(Duration::from_millis(700));
    let term = leader.leadership().borrow().clone();
    cluster.start(away).await.unwrap();
    cluster.check().await;
    assert_eq!(*leader.leadership().borrow(), term);
    let pieces = cluster.network.sent(PeerRequestKind::Snapshot);
    assert!((3..20).contains(&pieces), "{pieces}");
    assert!(cluster.network.bytes_max() <= crate::REQUEST_BYTES_MAX);
    // And keeps it.
    cluster.kill(away);
    cluster.start(away).await.unwrap();
    assert!(cluster.nodes[&away].with_machine(|ledger| ledger.entries.len()) >= 20);
    cluster.check().await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_reports_itself_only_when_it_has_applied_what_came_before() {
    for seed in 20..26 {
        let mut cluster = Cluster::formed(3, seed).await;
        cluster.propose_many(30).await;
        for id in 1..=3 {
            cluster.kill(id);
        }
        for id in 1..=3 {
            cluster.start(id).await.unwrap();
        }
        let leader = cluster.leader().await;
        let has = cluster.nodes[&leader].with_machine(|ledger| ledger.entries.len());
        assert!(has >= cluster.acknowledged.len(), "{has}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_proposal_whose_deadline_passed_in_the_queue_is_never_applied() {
    let mut cluster = Cluster::formed(3, 30).await;
    cluster.propose_many(3).await;
    let old = cluster.leader().await;
    let node = cluster.nodes[&old].clone();
    cluster.isolate(old);
    let within = |millis| Instant::now() + Duration::from_millis(millis);
    let (stuck, queued) = tokio::join!(node.propose(Bytes::from("stuck"), within(500)), async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        node.propose(Bytes::from("queued"), within(300)).await
    });
    assert_eq!(
        stuck,
        Err(ProposeError::Timeout {
            indeterminate: true
        })
    );
    assert_eq!(
        queued,
        Err(ProposeError::Timeout {
            indeterminate: false
        })
    );
    cluster.network.heal();
    cluster.doubtful.insert("stuck".to_owned());
    cluster.propose_many(3).await;
    cluster.check().await;
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_a_newer_leader_drops_is_in_doubt() {
    let mut cluster = Cluster::formed(3, 31).await;
    cluster.propose_many(3).await;
    let old = cluster.leader().await;
    let node = cluster.nodes[&old].clone();
    cluster.isolate(old);
    let dropped = tokio::spawn(async move { node.propose(Bytes::from("dropped"), soon()).await });
    let others: Vec<u64> = (1..=3).filter(|id| *id != old).collect();
    cluster.leader_among(&others).await;
    cluster.network.heal();
    // Not "not the leader": had there been a third node that had it, it might have come back.
    let error = dropped.await.unwrap().unwrap_err();
    assert_eq!(
        error,
        ProposeError::NoQuorum {
            indeterminate: true
        }
    );
    cluster.doubtful.insert("dropped".to_owned());
    cluster.propose_many(3).await;
    cluster.check().await;
}
