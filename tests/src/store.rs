//! Where the state of a process under test is: a map in memory, or the real tiers of one process.

use std::sync::Arc;

use control_plane::{
    metadata::{LocalMetadata, Metadata},
    state_tier::StateTier,
};
use millstream::{join_tier, state_node_config};
use proto::types::{KeyGroupCount, StateNodeId};
use state_client::{MemoryStore, StateControl, StateStore};
use state_service::{
    EmbeddedStore, PatientStore, StateNode,
    object::{OpenStore, StoreUrl, open},
};
use tokio::runtime::Handle;

/// Merged pages that are kept for reads: few, so that others are read.
const PAGE_CACHE_BYTES: u64 = 1 << 20;

/// Commits after which rows are flushed: within the few epochs that a run of a test has.
const FLUSH_EPOCHS: u64 = 2;

/// Where state is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Store {
    /// The model of the contract.
    Memory,
    /// The state tier of the control plane and a state node of the same process, over an object
    /// store in memory: what `dev` has, but for the disk. It flushes often.
    Embedded,
}

/// A store that runs, for as long as its parts are used.
pub struct StartedStore {
    /// The tasks' side.
    pub tasks: Arc<dyn StateStore>,
    /// The control plane's side.
    pub control: Arc<dyn StateControl>,
    /// What is remembered of jobs.
    pub metadata: Arc<dyn Metadata>,
    node: Option<StateNode>,
}

impl StartedStore {
    /// Starts one on the current runtime.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn start(store: Store) -> StartedStore {
        match store {
            Store::Memory => {
                let memory = Arc::new(MemoryStore::new(KeyGroupCount::DEFAULT));
                StartedStore {
                    tasks: memory.clone(),
                    control: memory,
                    metadata: Arc::new(LocalMetadata::default()),
                    node: None,
                }
            }
            Store::Embedded => {
                let store = open(&StoreUrl::Memory).expect("memory");
                StartedStore::embedded(&store).await
            }
        }
    }

    /// Starts the tiers of one process over an object store, on the current runtime.
    pub async fn embedded(store: &OpenStore) -> StartedStore {
        let metadata = Arc::new(LocalMetadata::default());
        let (tier, driver) = StateTier::new(metadata.clone(), 2);
        tokio::spawn(driver.run());
        let id = StateNodeId(0);
        let mut config = state_node_config(store, id, &Handle::current(), PAGE_CACHE_BYTES, 3);
        config.limits.flush_epochs = FLUSH_EPOCHS;
        let node = join_tier(&tier, id, String::new(), config).await;
        let tasks = PatientStore::new(EmbeddedStore::new(node.clone()), 4);
        StartedStore {
            tasks: Arc::new(tasks),
            control: Arc::new(tier),
            metadata,
            node: Some(node),
        }
    }

    /// Waits until nothing of it is under way any more: the runtime may end.
    pub async fn stop(self) {
        if let Some(node) = self.node {
            node.stop().await;
        }
    }
}
