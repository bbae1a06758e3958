//! Reads behind a barrier are linearizable: checked on a register that one client writes and all nodes read.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    Consensus,
    testing::{Cluster, Ledger},
};

/// Reads for a while; every read must be at least as new as what was acknowledged, or read by anybody, before it began.
async fn reader(
    node: Consensus<Ledger>,
    floor: Arc<AtomicU64>,
    reads: Arc<AtomicU64>,
    until: Instant,
) {
    while Instant::now() < until {
        let least = floor.load(Ordering::SeqCst);
        if node
            .read_barrier(Instant::now() + Duration::from_secs(1))
            .await
            .is_err()
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        }
        let value =
            node.with_machine(|ledger| ledger.last().map_or(0, |last| last.parse().unwrap()));
        assert!(
            value >= least,
            "node {} read {value} after {least} was known",
            node.node()
        );
        floor.fetch_max(value, Ordering::SeqCst);
        reads.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn no_read_is_stale_whatever_is_cut_off() {
    for seed in 1..4 {
        let cluster = Cluster::formed(3, seed).await;
        cluster.network.set_faults(0.02, 30);
        let (floor, reads) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let until = Instant::now() + Duration::from_secs(40);
        let mut tasks = Vec::new();
        for node in cluster.nodes.values() {
            tasks.push(tokio::spawn(reader(
                node.clone(),
                floor.clone(),
                reads.clone(),
                until,
            )));
        }
        let nodes: Vec<_> = cluster.nodes.values().cloned().collect();
        let known = floor.clone();
        tasks.push(tokio::spawn(async move {
            let mut value = 0;
            while Instant::now() < until {
                // One writer: a value that is in doubt is followed by larger ones only.
                value += 1;
                for node in &nodes {
                    let patience = Instant::now() + Duration::from_millis(400);
                    if node
                        .propose(Bytes::from(value.to_string()), patience)
                        .await
                        .is_ok()
                    {
                        known.fetch_max(value, Ordering::SeqCst);
                        break;
                    }
                    value += 1;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }));
        while Instant::now() < until {
            tokio::time::sleep(Duration::from_secs(5)).await;
            // The old leader keeps its readers, and must not answer them.
            let leader = cluster.leader().await;
            cluster.isolate(leader);
            tokio::time::sleep(Duration::from_secs(5)).await;
            cluster.network.heal();
        }
        for task in tasks {
            task.await.unwrap();
        }
        assert!(reads.load(Ordering::SeqCst) > 300, "{reads:?}");
        assert!(floor.load(Ordering::SeqCst) > 100, "{floor:?}");
    }
}
