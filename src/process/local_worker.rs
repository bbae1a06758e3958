//! The worker of this process, and the way to it: commands, news and rows are handed over.

use std::{
    io::{self, Write},
    sync::{Arc, OnceLock},
};

use compute::{Worker, WorkerConfig, WorkerHandle};
use connectors::{CollectTarget, LineWriter};
use control_plane::{Jobs, WorkerLink, results::Feed, workers::WorkerNews};
use engine::{ChangeBatch, clock::Clock, memory::MemoryPool};
use futures::{FutureExt as _, future::BoxFuture};
use proto::{
    control::{JobMetrics, WorkerCommand, WorkerEvent},
    types::{Epoch, Generation, JobId, WorkerId},
};
use state_client::StateStore;
use tokio::sync::mpsc;

/// Commands on their way to the worker: a few per job that is running.
const COMMAND_QUEUE: usize = 16 * control_plane::caps::JOBS_ACTIVE_MAX;

/// The worker is made before the jobs whose results it delivers.
pub(super) type LaterJobs = Arc<OnceLock<Jobs>>;

/// Starts the worker; its news go to `news`.
pub(super) fn start(
    store: Arc<dyn StateStore>,
    memory: Arc<MemoryPool>,
    clock: Arc<dyn Clock>,
    jobs: LaterJobs,
    news: mpsc::Sender<WorkerNews>,
) {
    let since_ms = u64::try_from(clock.wall_ms()).unwrap_or_default();
    let (worker, events) = Worker::start(WorkerConfig {
        store,
        memory,
        clock,
        print: Arc::new(Console),
        collect: Arc::new(move |job| Arc::new(Delivery(feed(&jobs, job)))),
        exchange: None,
    });
    tokio::spawn(tell(worker, since_ms, events, news));
}

fn feed(jobs: &OnceLock<Jobs>, job: JobId) -> Option<Arc<Feed>> {
    jobs.get()?.get(job).ok()?.feed.clone()
}

/// Says what the one worker has to say.
async fn tell(
    worker: WorkerHandle,
    since_ms: u64,
    mut events: mpsc::Receiver<WorkerEvent>,
    news: mpsc::Sender<WorkerNews>,
) {
    let id = WorkerId(0);
    let joined = WorkerNews::Joined(
        control_plane::workers::Worker {
            id,
            address: String::new(),
            since_ms,
            link: Arc::new(Link::new(worker)),
        },
        Vec::new(),
    );
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
    /// It leaves with the process.
    fn release(&self) {}

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
pub(crate) struct Console;

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
