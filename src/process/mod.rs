//! Every tier in one process: state, a worker, the control plane over both. In memory here, and in
//! `durable` on an object store.

mod durable;
mod local_worker;
mod state_node;

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    sync::Arc,
};

use compute::SystemClock;
use control_plane::{
    Jobs, Tiers,
    metadata::{LocalMetadata, Metadata},
};
use engine::{clock::Clock, memory::MemoryPool};
use proto::types::KeyGroupCount;
use state_client::{MemoryStore, StateControl, StateStore};
use tokio::sync::mpsc;

pub use durable::{Durable, DurableConfig, OpenedStore};
pub(crate) use local_worker::Console;
pub use state_node::{join_tier, state_node_config};

/// News of the worker on their way to the driver.
const NEWS_QUEUE: usize = 1024;

/// What a process is started with.
pub struct ProcessConfig {
    /// Tells this process's jobs from those of others, and varies the waits before restarts.
    pub seed: u64,
    /// What tasks keep their state in.
    pub store: Arc<dyn StateStore>,
    /// The control side of the same store.
    pub control: Arc<dyn StateControl>,
    /// What is remembered of jobs.
    pub metadata: Arc<dyn Metadata>,
    /// Memory for what operators hold.
    pub memory: Arc<MemoryPool>,
    /// Time, as tasks see it.
    pub clock: Arc<dyn Clock>,
}

impl Default for ProcessConfig {
    /// State in memory, a seed that other processes do not have.
    fn default() -> Self {
        let store = Arc::new(MemoryStore::new(KeyGroupCount::DEFAULT));
        ProcessConfig {
            seed: draw_seed(),
            store: store.clone(),
            control: store,
            metadata: Arc::new(LocalMetadata::default()),
            // What goes from here goes nowhere else.
            memory: MemoryPool::unbounded(),
            clock: Arc::new(SystemClock::default()),
        }
    }
}

/// A running process. Dropping it stops the worker.
pub struct Process {
    /// Its jobs.
    pub jobs: Jobs,
}

impl Process {
    /// Starts all tiers on the current tokio runtime.
    #[must_use]
    pub fn start(config: ProcessConfig) -> Process {
        let clock = config.clock;
        let later = local_worker::LaterJobs::default();
        let (news, workers) = mpsc::channel(NEWS_QUEUE);
        local_worker::start(
            config.store,
            config.memory,
            clock.clone(),
            later.clone(),
            news,
        );
        let (jobs, driver) = Jobs::new(Tiers {
            workers,
            state: config.control,
            metadata: config.metadata,
            wall_ms: Arc::new(move || u64::try_from(clock.wall_ms()).unwrap_or_default()),
            seed: config.seed,
        });
        let _ = later.set(jobs.clone());
        tokio::spawn(driver.run());
        Process { jobs }
    }
}

/// A number that no other process has, and no other start of this one.
pub(crate) fn draw_seed() -> u64 {
    // The system's own randomness, by the one way that std has to it.
    RandomState::new().build_hasher().finish()
}
