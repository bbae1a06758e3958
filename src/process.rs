//! Every tier in one process: state in memory, a worker, the control plane over both.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io::{self, Write},
    sync::Arc,
};

use compute::{SystemClock, Worker, WorkerConfig, WorkerHandle};
use connectors::{CollectTarget, LineWriter};
use control_plane::{
    Jobs, Tiers, WorkerLink,
    metadata::{LocalMetadata, Metadata},
    results::Feed,
    workers::WorkerNews,
};
use engine::{ChangeBatch, clock::Clock};
use futures::{FutureExt as _, future::BoxFuture};
use proto::{
    control::{JobMetrics, WorkerCommand, WorkerEvent},
    types::{Epoch, Generation, JobId, KeyGroupCount, WorkerId},
};
use state_client::{MemoryStore, StateControl, StateStore};
use tokio::sync::mpsc;

/// Commands on their way to the worker: a few per job that is running.
const COMMAND_QUEUE: usize = 16 * control_plane::caps::JOBS_ACTIVE_MAX;

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
            metadata: Arc::new(LocalMetadata::default()),
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
        let (jobs, driver) = Jobs::new(Tiers {
            workers: news(worker, events),
            state: config.control,
            metadata: config.metadata,
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

/// What the one worker has to say.
fn news(
    worker: WorkerHandle,
    mut events: mpsc::Receiver<WorkerEvent>,
) -> mpsc::Receiver<WorkerNews> {
    let id = WorkerId(0);
    let (news, receiver) = mpsc::channel(NEWS_QUEUE);
    let joined = WorkerNews::Joined(control_plane::workers::Worker {
        id,
        address: String::new(),
        since_ms: 0,
        link: Arc::new(Link::new(worker)),
    });
    tokio::spawn(async move {
        if news.send(joined).await.is_err() {
            return;
        }
        while let Some(event) = events.recv().await {
            if news.send(WorkerNews::Event(id, event)).await.is_err() {
                return;
            }
        }
        // The process is going down: nobody is left to hear it.
        let _ = news.send(WorkerNews::Left(id)).await;
    });
    receiver
}

/// Sends commands in order without making the driver wait.
struct Link {
    worker: WorkerHandle,
    commands: mpsc::Sender<WorkerCommand>,
}

impl Link {
    fn new(worker: WorkerHandle) -> Link {
        let (commands, mut queue) = mpsc::channel(COMMAND_QUEUE);
        let to = worker.clone();
        tokio::spawn(async move {
            while let Some(command) = queue.recv().await {
                if !to.send(command).await {
                    return;
                }
            }
        });
        Link { worker, commands }
    }
}

impl WorkerLink for Link {
    fn send(&self, command: WorkerCommand) {
        if let Err(error) = self.commands.try_send(command) {
            tracing::error!(%error, "failed to send a command to the worker");
        }
    }

    fn metrics(&self, job: JobId) -> JobMetrics {
        self.worker.metrics(job)
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
