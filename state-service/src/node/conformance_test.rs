//! The suite of the state contract over nodes in many conditions.

use std::{sync::Arc, time::Duration};

use object_store::{ObjectStore, local::LocalFileSystem, memory::InMemory};
use state_client::{
    StateControl, StateStore,
    conformance::{self, Pair, SHARDS},
};

use crate::{
    EmbeddedStore, NodeLimits,
    testing::{NodeSetup, RestartingStore},
};

fn setup(store: Arc<dyn ObjectStore>, limits: NodeLimits) -> NodeSetup {
    let mut setup = NodeSetup::new(store, SHARDS);
    setup.limits = limits;
    setup
}

fn limits() -> NodeLimits {
    NodeLimits {
        request_wait: Duration::from_secs(20),
        ..NodeLimits::default()
    }
}

fn never_flushed() -> NodeLimits {
    NodeLimits {
        tail_bytes: usize::MAX,
        shard_tail_bytes: usize::MAX,
        flush_epochs: u64::MAX,
        ..limits()
    }
}

fn always_flushed() -> NodeLimits {
    NodeLimits {
        flush_epochs: 1,
        ..limits()
    }
}

fn running(setup: NodeSetup) -> Pair {
    let node = setup.start();
    let store = Arc::new(EmbeddedStore::new(node)) as Arc<dyn StateStore>;
    (store, Arc::new(setup.control) as Arc<dyn StateControl>)
}

fn restarting(setup: NodeSetup) -> Pair {
    let store = Arc::new(RestartingStore::new(setup));
    (store.clone() as Arc<dyn StateStore>, store as _)
}

fn memory() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_the_suite_with_its_tail_never_flushed() {
    conformance::all(|| running(setup(memory(), never_flushed()))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_the_suite_with_every_commit_flushed() {
    conformance::all(|| running(setup(memory(), always_flushed()))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_the_suite_with_nothing_kept_in_memory() {
    let limits = NodeLimits {
        kept_bytes: 0,
        output_bytes: 0,
        ..limits()
    };
    conformance::all(|| running(setup(memory(), limits.clone()))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_the_suite_on_a_local_directory() {
    let folder = tempfile::tempdir().expect("a folder");
    let stores = std::sync::atomic::AtomicU64::new(0);
    conformance::all(|| {
        let number = stores.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let folder = folder.path().join(number.to_string());
        std::fs::create_dir(&folder).expect("a folder");
        let store = LocalFileSystem::new_with_prefix(folder).expect("a store");
        running(setup(Arc::new(store), always_flushed()))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_the_suite_with_a_restart_between_every_step() {
    conformance::all(|| restarting(setup(memory(), never_flushed()))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_the_suite_with_restarts_and_flushes() {
    conformance::all(|| restarting(setup(memory(), always_flushed()))).await;
}
