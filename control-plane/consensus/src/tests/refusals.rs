//! What refuses to start, and clusters that do not mix.

use std::{fs, time::Duration};

use bytes::Bytes;
use openraft::raft::VoteRequest;
use redb::TableDefinition;

use crate::{
    Consensus, ConsensusConfig, DiskId, NodeId, Peer, PeerError, PeerRequestKind, SnapshotPolicy,
    StartError, StopReason, Timing,
    testing::{Cluster, Ledger, SimNetwork},
    types::Vote,
    wire::{self, Envelope, RefusalKind, Reply},
};

fn config(dir: &std::path::Path) -> ConsensusConfig {
    ConsensusConfig {
        data_dir: dir.to_owned(),
        cluster: "test".to_owned(),
        node: NodeId(1),
        peers: vec![Peer {
            id: NodeId(1),
            address: "n1".to_owned(),
        }],
        timing: Timing::default(),
        snapshots: SnapshotPolicy::default(),
        seed: 5,
    }
}

async fn start(config: ConsensusConfig) -> Result<Consensus<Ledger>, StartError> {
    Consensus::start(config, Ledger::default(), SimNetwork::new(1).link("n1")).await
}

#[tokio::test]
async fn a_directory_of_another_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    start(config(dir.path())).await.unwrap().shutdown().await;
    let file = dir.path().join("raft.redb");
    let before = fs::read(&file).unwrap();

    let mut other = config(dir.path());
    other.cluster = "prod".to_owned();
    let error = start(other).await.unwrap_err().to_string();
    assert!(
        error.contains("belongs to node 1 of cluster `test`, not to node 1 of cluster `prod`"),
        "{error}"
    );

    let mut other = config(dir.path());
    other.node = NodeId(2);
    other.peers[0].id = NodeId(2);
    let error = start(other).await.unwrap_err().to_string();
    assert!(
        error.contains("belongs to node 1 of cluster `test`, not to node 2"),
        "{error}"
    );
    assert!(fs::read(&file).unwrap() == before, "nothing was changed");
}

#[tokio::test]
async fn another_version_of_the_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    start(config(dir.path())).await.unwrap().shutdown().await;
    {
        let database = redb::Database::open(dir.path().join("raft.redb")).unwrap();
        let transaction = database.begin_write().unwrap();
        let table = TableDefinition::<&str, &[u8]>::new("meta");
        let future = 2_u64.to_le_bytes();
        transaction
            .open_table(table)
            .unwrap()
            .insert("identity", future.as_slice())
            .unwrap();
        transaction.commit().unwrap();
    }
    let error = start(config(dir.path())).await.unwrap_err();
    assert!(
        matches!(
            &error,
            StartError::Format {
                found: 2,
                known: 1,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn what_is_no_log_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("raft.redb"), b"something else").unwrap();
    let error = start(config(dir.path())).await.unwrap_err();
    assert!(matches!(&error, StartError::Disk { .. }), "{error}");
    assert_eq!(
        fs::read(dir.path().join("raft.redb")).unwrap(),
        b"something else"
    );

    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = start(config(&file)).await.unwrap_err();
    assert!(matches!(&error, StartError::Disk { .. }), "{error}");
}

#[tokio::test]
async fn a_disk_whose_making_was_interrupted_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("raft.redb.new"), b"half a file").unwrap();
    start(config(dir.path())).await.unwrap().shutdown().await;
    assert!(!dir.path().join("raft.redb.new").exists());
}

#[tokio::test]
async fn senseless_configurations_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let peers = |ids: &[u64]| {
        ids.iter()
            .map(|id| Peer {
                id: NodeId(*id),
                address: format!("n{id}"),
            })
            .collect()
    };
    let with = |change: &dyn Fn(&mut ConsensusConfig)| {
        let mut config = config(dir.path());
        change(&mut config);
        config
    };
    let cases = [
        (
            with(&|c| c.peers = peers(&[1, 2])),
            "1, 3 or 5 nodes, not by 2",
        ),
        (with(&|c| c.peers = peers(&[1, 1, 2])), "names a node twice"),
        (with(&|c| c.peers.clear()), "is empty"),
        (with(&|c| c.cluster.clear()), "name"),
        (
            with(&|c| c.timing.election_min = Duration::from_millis(300)),
            "timing",
        ),
        (with(&|c| c.snapshots.entries = 0), "snapshot"),
    ];
    for (config, expected) in cases {
        let error = start(config).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert!(
        fs::read_dir(dir.path()).unwrap().next().is_none(),
        "nothing was written"
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_forms_while_the_lists_of_peers_differ() {
    let mut cluster = Cluster::new(3, 1);
    cluster.start(1).await.unwrap();
    cluster.start(2).await.unwrap();
    let mut odd = cluster.config(3);
    odd.peers.truncate(1);
    odd.peers[0] = Peer {
        id: NodeId(3),
        address: "n3".to_owned(),
    };
    let third = odd.clone();
    cluster.start_with(third).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    // Node 3 formed a cluster of its own, and the founder says that it cannot have it.
    let stopped = cluster.nodes[&1].stopped().borrow().clone();
    assert!(
        matches!(&stopped, Some(StopReason::OtherCluster(why)) if why.contains("node 3 already belongs"))
    );
    assert!(cluster.nodes[&2].members().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_cluster_waits_for_all_of_its_founders() {
    let mut cluster = Cluster::new(3, 2);
    cluster.start(1).await.unwrap();
    cluster.start(2).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(cluster.nodes.values().all(|node| node.members().is_empty()));
    // The founder dies at any moment of it, and goes on.
    for millis in [0, 100, 200, 300, 400, 500, 600] {
        cluster.start(3).await.unwrap();
        tokio::time::sleep(Duration::from_millis(millis)).await;
        cluster.kill(1);
        cluster.start(1).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        cluster.kill(3);
    }
    cluster.start(3).await.unwrap();
    cluster.propose_many(3).await;
    cluster.check().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_of_another_cluster_does_not_join() {
    let mut cluster = Cluster::formed(1, 3).await;
    // Forms a cluster of its own under the same name.
    let mut config = cluster.config(2);
    config.peers = vec![Peer {
        id: NodeId(2),
        address: "n2".to_owned(),
    }];
    cluster.start_with(config).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let peer = Peer {
        id: NodeId(2),
        address: "n2".to_owned(),
    };
    let error = cluster.nodes[&1]
        .add_node(peer.clone(), crate::testing::soon())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("another cluster"), "{error}");
    // And one of another name is not even asked.
    let mut config = cluster.config(3);
    config.peers = vec![Peer {
        id: NodeId(1),
        address: "n1".to_owned(),
    }];
    config.cluster = "other".to_owned();
    cluster.start_with(config).await.unwrap();
    let peer = Peer {
        id: NodeId(3),
        address: "n3".to_owned(),
    };
    let error = cluster.nodes[&1]
        .add_node(peer, crate::testing::soon())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("cluster `other`"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_not_for_this_node_or_not_from_a_member_are_refused() {
    let mut cluster = Cluster::formed(3, 4).await;
    cluster.propose_many(2).await;
    let node = cluster.nodes[&1].clone();
    let member = cluster.nodes[&2].disk();
    let metrics = node.inner.raft.metrics();
    let before = metrics.borrow().vote;
    // Granted, if it were looked at: from the future, with all of the log.
    let last_log_id = metrics.borrow().last_applied;
    let vote = VoteRequest::new(Vote::new_committed(99, 2), last_log_id);
    let body = wire::encode(&vote);
    let good = Envelope {
        kind: PeerRequestKind::Vote,
        cluster: "test".to_owned(),
        incarnation: node.inner.local.identity().incarnation,
        from: 2,
        from_disk: member,
        to: 1,
        to_disk: Some(node.disk()),
        body: &body,
    };
    let cases = [
        (
            Envelope {
                cluster: "prod".to_owned(),
                ..good.clone()
            },
            RefusalKind::WrongAddress,
        ),
        (
            Envelope {
                to: 3,
                ..good.clone()
            },
            RefusalKind::WrongAddress,
        ),
        (
            Envelope {
                incarnation: Some(7),
                ..good.clone()
            },
            RefusalKind::OtherCluster,
        ),
        (
            Envelope {
                incarnation: None,
                ..good.clone()
            },
            RefusalKind::Unable,
        ),
        (
            Envelope {
                from_disk: DiskId(7),
                ..good.clone()
            },
            RefusalKind::SenderDisk,
        ),
    ];
    for (envelope, expected) in cases {
        let answer = node.handle(Bytes::from(envelope.write())).await.unwrap();
        let Reply::Refused(refusal) = Reply::read(&answer).unwrap() else {
            panic!("{envelope:?}")
        };
        assert_eq!(refusal.kind, expected, "{refusal}");
    }
    assert_eq!(metrics.borrow().vote, before);
    let answer = node.handle(Bytes::from(good.write())).await.unwrap();
    assert!(matches!(Reply::read(&answer), Ok(Reply::Body(_))));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_request_is_an_error() {
    let cluster = Cluster::formed(1, 5).await;
    for bytes in [&b""[..], b"x", &[1, 0, 255, 255, 255, 255], &[1, 9]] {
        let error = cluster.nodes[&1]
            .handle(Bytes::copy_from_slice(bytes))
            .await
            .unwrap_err();
        assert!(matches!(error, PeerError::Malformed(_)), "{error}");
    }
}
