//! The contract of the state service, kept by the real tiers: the control plane's state tier over
//! its metadata, and state nodes in the same process or behind gRPC.

use std::{
    future::{Future, pending},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use control_plane::{
    JobSpec,
    metadata::{LocalMetadata, Metadata},
    state_tier::{OwnerChanges, StateTier},
};
use coordinator::meta::{Answer, Change, Command};
use millstream::{join_tier, state_node_config};
use proto::{control::JobOptions, plan::Plan, types::StateNodeId};
use remote_store::{JobRoute, Owner, RemoteConfig, RemoteLimits, RemoteStore, Routes};
use rpc::{Tls, tonic::service::Routes as Served};
use state_client::conformance::{self, JOB, Pair, SHARDS};
use state_service::{
    StateService,
    object::{OpenStore, StoreUrl, open},
};
use tests::{StartedStore, minio::Minio};
use tokio::{net::TcpListener, runtime::Handle, task::block_in_place};

use crate::s3::opened;

fn memory() -> OpenStore {
    open(&StoreUrl::Memory).expect("memory")
}

/// Waits within the suite's maker of stores.
fn now<T>(work: impl Future<Output = T>) -> T {
    block_in_place(|| Handle::current().block_on(work))
}

/// Makes the suite's job known, and those that have the numbers before it.
async fn accept(metadata: &dyn Metadata) {
    let plan = Plan {
        key_groups: 256,
        ..Plan::default()
    };
    let spec = JobSpec {
        name: "job".into(),
        sql: "SELECT 1".into(),
        plan: Arc::new(plan),
        options: JobOptions {
            shards: SHARDS,
            ..JobOptions::default()
        },
        select: None,
        origin: None,
        tables_max: 0,
    };
    let jobs = usize::try_from(JOB.0).expect("small");
    let change = Change::Accept {
        catalog: None,
        statements: None,
        jobs: vec![spec; jobs],
        now_ms: 0,
        seed: 0,
    };
    let answer = metadata.propose(Command { request: 1, change }).await;
    let Ok(Answer::Accepted { jobs }) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(jobs.last(), Some(&JOB));
}

/// A state node in the process of its state tier.
async fn embedded(store: &OpenStore) -> Pair {
    let started = StartedStore::embedded(store).await;
    accept(&*started.metadata).await;
    (started.tasks, started.control)
}

/// Two state nodes behind gRPC; the tasks know what the state tier says of owners.
async fn remote(store: &OpenStore) -> Pair {
    let metadata = Arc::new(LocalMetadata::default());
    accept(&*metadata).await;
    let (tier, driver) = StateTier::new(metadata, 1);
    tokio::spawn(driver.run());
    for id in [1, 2] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let id = StateNodeId(id);
        let config = state_node_config(store, id, &Handle::current(), 1 << 20, id.0);
        let node = join_tier(&tier, id, address, config).await;
        let served = Served::new(StateService::new(node).into_server());
        tokio::spawn(async move {
            let ended = rpc::serve(listener, served, &Tls::None, pending()).await;
            ended.expect("a server");
        });
    }
    let routes = Routes::default();
    tokio::spawn(follow(tier.owner_changes(), routes.clone()));
    let config = RemoteConfig {
        tls: Tls::None,
        seed: 7,
        limits: RemoteLimits::default(),
    };
    (Arc::new(RemoteStore::new(routes, config)), Arc::new(tier))
}

/// Tells tasks where shards are.
async fn follow(mut changes: OwnerChanges, routes: Routes) {
    while let Some((job, owners)) = changes.next().await {
        let Some(now) = owners else {
            routes.remove(job);
            continue;
        };
        let owner = |(shard, owner): (&_, &control_stream::ShardOwner)| {
            let (node, address) = (owner.node, owner.address.clone());
            (*shard, Owner { node, address })
        };
        let route = JobRoute {
            key_groups: now.key_groups,
            shards: now.shards,
            owners: now.owners.iter().map(owner).collect(),
        };
        routes.set(job, route);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tiers_of_one_process_keep_the_contract() {
    conformance::all(|| now(embedded(&memory()))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_state_nodes_behind_grpc_keep_the_contract() {
    conformance::all(|| now(remote(&memory()))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_state_nodes_over_s3_keep_the_contract() {
    let minio = Minio::start();
    minio.make_bucket("bucket").await;
    let stores = AtomicU64::new(0);
    conformance::all(|| {
        let number = stores.fetch_add(1, Ordering::Relaxed);
        let store = opened(&minio, &format!("s3://bucket/{number}"), &[]);
        now(remote(&store))
    })
    .await;
}
