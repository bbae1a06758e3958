//! Every tier in one process: state in memory, a worker, the control plane over both.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io::{self, Write},
    sync::Arc,
};

use compute::{SystemClock, Worker, WorkerConfig, WorkerHandle};
use connectors::{CollectTarget, LineWriter};
use control_plane::{Jobs, Tiers, results::Feed};
use engine::{ChangeBatch, clock::Clock};
use futures::{FutureExt as _, future::BoxFuture};
use proto::{
    control::WorkerCommand,
    types::{Epoch, Generation, JobId, KeyGroupCount},
};
use state_client::{MemoryStore, StateControl, StateStore};
use tokio::sync::mpsc;

/// Commands on their way to the worker: a few per job that is running.
const COMMAND_QUEUE: usize = 16 * control_plane::caps::JOBS_ACTIVE_MAX;

/// What a process is started with.
pub struct ProcessConfig {
    /// Tells this process's jobs from those of others, and varies the waits before restarts.
    pub seed: u64,
    /// What tasks keep their state in.
    pub store: Arc<dyn StateStore>,
    /// The control side of the same store.
    pub control: Arc<dyn StateControl>,
    /// Time, as tasks see it.
    pub clock: Arc<dyn Clock>,
}

impl Default for ProcessConfig {
    /// State in memory, a seed that other processes do not have.
    fn default() -> Self {
        let store = Arc::new(MemoryStore::new(KeyGroupCount::DEFAULT));
        ProcessConfig {
            // The system's own randomness, by the one way that std has to it.
            seed: RandomState::new().build_hasher().finish(),
            store: store.clone(),
            control: store,
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
        // The worker is made before the jobs whose results it delivers.
        let feeds = Arc::new(std::sync::OnceLock::<Jobs>::new());
        let (worker, events) = Worker::start(WorkerConfig {
            store: config.store,
            clock: clock.clone(),
            print: Arc::new(Console),
            collect: {
                let feeds = feeds.clone();
                Arc::new(move |job| Arc::new(Delivery(feed(&feeds, job))))
            },
            exchange: None,
        });
        let figures = worker.clone();
        let (jobs, driver) = Jobs::new(Tiers {
            worker: Arc::new(link(worker)),
            events,
            state: config.control,
            figures: Arc::new(move |job| figures.metrics(job)),
            wall_ms: Arc::new(move || u64::try_from(clock.wall_ms()).unwrap_or_default()),
            seed: config.seed,
        });
        let _ = feeds.set(jobs.clone());
        tokio::spawn(driver.run());
        Process { jobs }
    }
}

fn feed(jobs: &std::sync::OnceLock<Jobs>, job: JobId) -> Option<Arc<Feed>> {
    jobs.get()?.get(job).ok()?.feed.clone()
}

/// Sends commands in order without making the driver wait.
fn link(worker: WorkerHandle) -> impl Fn(WorkerCommand) + Send + Sync {
    let (commands, mut queue) = mpsc::channel(COMMAND_QUEUE);
    tokio::spawn(async move {
        while let Some(command) = queue.recv().await {
            if !worker.send(command).await {
                return;
            }
        }
    });
    move |command| {
        if let Err(error) = commands.try_send(command) {
            tracing::error!(%error, "failed to send a command to the worker");
        }
    }
}

/// Hands a SELECT's rows to its feed.
struct Delivery(Option<Arc<Feed>>);

impl CollectTarget for Delivery {
    fn deliver(
        &self,
        _generation: Generation,
        epoch: Epoch,
        slot: u32,
        batches: Vec<ChangeBatch>,
    ) -> BoxFuture<'_, Result<(), String>> {
        async move {
            let feed = self.0.as_ref().ok_or("nobody reads the rows")?;
            let rows = batches.iter().flat_map(crate::lines).collect();
            feed.publish(epoch, slot, rows).await;
            Ok(())
        }
        .boxed()
    }
}

/// The process's own output.
struct Console;

impl LineWriter for Console {
    fn write_lines(&self, lines: &[u8], standard_error: bool) -> io::Result<()> {
        if standard_error {
            io::stderr().lock().write_all(lines)
        } else {
            let mut out = io::stdout().lock();
            out.write_all(lines)?;
            out.flush()
        }
    }
}
