//! The suite of the state contract over the wire.

use std::{sync::Arc, time::Duration};

use rpc::Tls;
use state_client::{
    StateControl, StateStore,
    conformance::{self, Pair, SHARDS},
};
use state_service::NodeLimits;

use super::{authority::mutual_tls, cluster::Cluster};
use crate::{RemoteConfig, RemoteLimits, RemoteStore};

fn pair(nodes: u64, tls: &Tls, limits: NodeLimits) -> Pair {
    let cluster = Cluster::start(nodes, SHARDS, tls.clone(), limits);
    let config = RemoteConfig {
        tls: tls.clone(),
        seed: 7,
        limits: RemoteLimits::default(),
    };
    let store = RemoteStore::new(cluster.routes.clone(), config);
    let control = Arc::new(cluster) as Arc<dyn StateControl>;
    (Arc::new(store) as Arc<dyn StateStore>, control)
}

fn patient() -> NodeLimits {
    NodeLimits {
        request_wait: Duration::from_secs(20),
        ..NodeLimits::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_the_suite_with_one_node() {
    conformance::all(|| pair(1, &Tls::None, patient())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_the_suite_with_shards_on_two_nodes() {
    conformance::all(|| pair(2, &Tls::None, patient())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_the_suite_with_two_nodes_over_mutual_tls() {
    let tls = mutual_tls();
    conformance::all(|| pair(2, &tls, patient())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_the_suite_with_two_nodes_that_keep_nothing_in_memory() {
    // What one node's tasks staged is read back from the log by both.
    let limits = NodeLimits {
        kept_bytes: 0,
        output_bytes: 0,
        flush_epochs: 1,
        ..patient()
    };
    conformance::all(|| pair(2, &Tls::None, limits.clone())).await;
}
