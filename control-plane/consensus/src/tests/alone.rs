//! One node: what is acknowledged is there after any end.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    COMMAND_BYTES_MAX, Consensus, ConsensusConfig, Leadership, NodeId, Peer, ProposeError,
    SnapshotPolicy, StopReason, Timing,
    testing::{Cluster, Ledger, SimNetwork, soon},
};

fn config(dir: &Path, seed: u64) -> ConsensusConfig {
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
        seed,
    }
}

async fn lead(node: &Consensus<Ledger>) {
    let mut leadership = node.leadership();
    let leads = leadership.wait_for(|now| matches!(now, Leadership::Leader { .. }));
    tokio::time::timeout(Duration::from_secs(10), leads)
        .await
        .expect("in time")
        .expect("it runs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_in_a_directory_keeps_what_it_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let link = SimNetwork::new(1).link("n1");
    let node = Consensus::start(config(dir.path(), 1), Ledger::default(), link.clone())
        .await
        .unwrap();
    lead(&node).await;
    let first = node.propose(Bytes::from("a"), soon()).await.unwrap();
    let second = node.propose(Bytes::from("b"), soon()).await.unwrap();
    assert_eq!(
        (first.response.as_slice(), second.response.as_slice()),
        (&b"1"[..], &b"2"[..])
    );
    assert!(second.index > first.index);
    assert_eq!(*node.applied().borrow(), second.index);
    let disk = node.disk();

    let in_use = Consensus::start(config(dir.path(), 2), Ledger::default(), link.clone())
        .await
        .unwrap_err();
    assert!(
        in_use.to_string().contains("failed to open the log in"),
        "{in_use}"
    );

    node.shutdown().await;
    let error = node.propose(Bytes::from("c"), soon()).await.unwrap_err();
    assert_eq!(
        error,
        ProposeError::Stopped {
            reason: StopReason::Shutdown,
            indeterminate: false
        }
    );
    node.with_machine(|ledger| assert_eq!(ledger.commands(), ["a", "b"]));

    let node = Consensus::start(config(dir.path(), 3), Ledger::default(), link)
        .await
        .unwrap();
    assert!(node.read_barrier(soon()).await.unwrap() >= second.index);
    node.with_machine(|ledger| assert_eq!(ledger.commands(), ["a", "b"]));
    assert_eq!(node.disk(), disk);
    // The leader that reports itself has applied everything.
    lead(&node).await;
}

#[tokio::test(start_paused = true)]
async fn a_killed_node_has_everything_that_it_acknowledged() {
    let mut cluster = Cluster::formed(1, 1).await;
    for _ in 0..8 {
        cluster.propose_many(7).await;
        cluster.kill(1);
        cluster.start(1).await.unwrap();
        cluster.leader().await;
        cluster.nodes[&1]
            .with_machine(|ledger| assert_eq!(ledger.entries.len(), cluster.acknowledged.len()));
        cluster.check().await;
    }
}

#[tokio::test(start_paused = true)]
async fn snapshots_cut_the_log_and_survive() {
    let mut cluster = Cluster::new(1, 2);
    cluster.snapshots = SnapshotPolicy {
        entries: 20,
        bytes: 1 << 20,
    };
    cluster.start(1).await.unwrap();
    for _ in 0..4 {
        cluster.propose_many(50).await;
        cluster.kill(1);
        cluster.start(1).await.unwrap();
        let restored = cluster.nodes[&1].with_machine(|ledger| ledger.entries.len());
        assert!(restored > 0, "from the snapshot alone, before any leader");
        cluster.check().await;
    }
    let (first, last) = cluster.nodes[&1].inner.local.disk().log_ends().unwrap();
    let kept = last.unwrap().index - first.unwrap().index;
    assert!(kept < 60, "the log is cut: {kept}");
}

#[tokio::test(start_paused = true)]
async fn many_bytes_make_a_snapshot_before_many_entries_do() {
    let mut cluster = Cluster::new(1, 3);
    cluster.snapshots = SnapshotPolicy {
        entries: 1_000_000,
        bytes: 100_000,
    };
    cluster.start(1).await.unwrap();
    cluster.leader().await;
    let node = cluster.nodes[&1].clone();
    for n in 0..30 {
        node.propose(Bytes::from(format!("{n}{}", "x".repeat(10_000))), soon())
            .await
            .unwrap();
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(node.inner.local.disk().snapshot().unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_command_has_a_size_and_the_largest_fits() {
    let mut cluster = Cluster::formed(3, 4).await;
    let leader = cluster.nodes[&cluster.leader().await].clone();
    let command = Bytes::from("x".repeat(COMMAND_BYTES_MAX + 1));
    let error = leader.propose(command.clone(), soon()).await.unwrap_err();
    assert_eq!(
        error,
        ProposeError::TooLarge {
            bytes: command.len(),
            max: COMMAND_BYTES_MAX
        }
    );
    leader.propose(command.slice(1..), soon()).await.unwrap();
    // Several of them are on their way together, but not in one request.
    let many = (0..6).map(|_| leader.propose(command.slice(1..), soon()));
    assert!(
        futures::future::join_all(many)
            .await
            .iter()
            .all(Result::is_ok)
    );
    assert!(
        cluster.network.bytes_max() <= crate::REQUEST_BYTES_MAX,
        "{}",
        cluster.network.bytes_max()
    );
    cluster.kill(1);
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_panics_stops_the_node() {
    let cluster = Cluster::formed(1, 5).await;
    let node = &cluster.nodes[&1];
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let error = node
        .propose(
            Bytes::from("panic"),
            Instant::now() + Duration::from_secs(5),
        )
        .await
        .unwrap_err();
    std::panic::set_hook(hook);
    assert!(error.is_indeterminate(), "{error}");
    let reason = node
        .stopped()
        .wait_for(Option::is_some)
        .await
        .unwrap()
        .clone()
        .unwrap();
    assert!(
        matches!(&reason, StopReason::Storage(why) if why.contains("panicked")),
        "{reason}"
    );
}
