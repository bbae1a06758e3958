//! The worker's loops: commands in, events out; a loop per job, in which at most one generation
//! runs.

use std::{
    collections::{BTreeMap, VecDeque},
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use connectors::{CollectTarget, LineWriter};
use engine::{Barrier, clock::Clock, memory::MemoryPool};
use futures::FutureExt as _;
use proto::{
    control::{Deployment, JobMetrics, Retry, WorkerCommand, WorkerEvent, WorkerEventKind},
    types::{Generation, JobId, TaskId},
};
use rpc::trace_context::span_with_parent;
use state_client::StateStore;
use tokio::{sync::mpsc, task::JoinHandle};
use tracing::{Instrument as _, info_span};

use crate::{
    build::{BuildError, Builder},
    caps::{COMMANDS_MAX, EVENTS_MAX, JOB_COMMANDS_MAX},
    exchange::ExchangeConfig,
    generation::{Kept, RunningGeneration, TaskFigures, panic_text},
};

/// What a worker is given by the process that runs it.
#[derive(Clone)]
pub struct WorkerConfig {
    /// State.
    pub store: Arc<dyn StateStore>,
    /// Memory for what operators hold.
    pub memory: Arc<MemoryPool>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Takes the lines of `print` sinks.
    pub print: Arc<dyn LineWriter>,
    /// Makes the target of a job's `collect` sinks.
    pub collect: Arc<dyn Fn(JobId) -> Arc<dyn CollectTarget> + Send + Sync>,
    /// Lets jobs run on several workers; `None`: each runs on one.
    pub exchange: Option<ExchangeConfig>,
}

/// A worker; see [`Worker::start`].
pub struct Worker;

/// Gives a worker commands and reads its figures. When the last handle is gone, the worker stops.
#[derive(Clone)]
pub struct WorkerHandle {
    commands: mpsc::Sender<WorkerCommand>,
    figures: Figures,
}

/// Figures of a worker's tasks. Does not keep the worker running. Cheap to clone.
#[derive(Clone, Default)]
pub struct Figures(Arc<Mutex<BTreeMap<JobId, Vec<TaskFigures>>>>);

impl Figures {
    /// Of a job's tasks.
    #[must_use]
    pub fn of(&self, job: JobId) -> JobMetrics {
        let figures = self.lock();
        figures
            .get(&job)
            .map_or_else(JobMetrics::new, |tasks| read(tasks))
    }

    /// Of all tasks, by job.
    #[must_use]
    pub fn all(&self) -> BTreeMap<JobId, JobMetrics> {
        let figures = self.lock();
        let jobs = figures.iter();
        jobs.map(|(job, tasks)| (*job, read(tasks))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<JobId, Vec<TaskFigures>>> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Worker {
    /// Starts a worker on the current tokio runtime.
    #[must_use]
    pub fn start(config: WorkerConfig) -> (WorkerHandle, mpsc::Receiver<WorkerEvent>) {
        let (commands, command_receiver) = mpsc::channel(COMMANDS_MAX);
        let (events, event_receiver) = mpsc::channel(EVENTS_MAX);
        let figures = Figures::default();
        let handle = WorkerHandle {
            commands,
            figures: figures.clone(),
        };
        tokio::spawn(run(config, command_receiver, events, figures));
        (handle, event_receiver)
    }
}

impl WorkerHandle {
    /// Queues a command; `false` when the worker is gone.
    pub async fn send(&self, command: WorkerCommand) -> bool {
        self.commands.send(command).await.is_ok()
    }

    /// Figures of a job's tasks here.
    #[must_use]
    pub fn metrics(&self, job: JobId) -> JobMetrics {
        self.figures.of(job)
    }

    /// Figures of all tasks here.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.figures.clone()
    }
}

fn read(tasks: &[TaskFigures]) -> JobMetrics {
    let mut metrics = JobMetrics::new();
    for task in tasks {
        for (node, operator) in task.metrics.read() {
            let node = metrics.entry(node).or_default();
            node.insert(task.index, operator);
        }
    }
    metrics
}

/// Hands each command to its job. Jobs do not wait for each other: listing the splits of one, or
/// stopping what hangs in it, takes nothing from the rest.
async fn run(
    config: WorkerConfig,
    mut commands: mpsc::Receiver<WorkerCommand>,
    events: mpsc::Sender<WorkerEvent>,
    figures: Figures,
) {
    let mut jobs: BTreeMap<JobId, JobTask> = BTreeMap::new();
    while let Some(command) = commands.recv().await {
        let (id, generation) = command.addressee();
        if has_panicked(&mut jobs, id).await && !overrules(&command) {
            let kind = WorkerEventKind::Failed {
                task: TaskId(0),
                error: "a panic in the job's loop on its worker".to_owned(),
                retry: Retry::Always,
            };
            send(&events, id, generation, kind).await;
        }
        let ends = matches!(command, WorkerCommand::Stop { .. });
        let stopped = jobs.get(&id).is_some_and(|job| job.ends);
        let before = if stopped { jobs.remove(&id) } else { None };
        let job = jobs.entry(id).or_insert_with(|| {
            let job = JobLoop {
                job: id,
                config: config.clone(),
                events: events.clone(),
                figures: figures.clone(),
                running: None,
                kept: Mutex::default(),
            };
            JobTask::start(job, before)
        });
        job.ends = ends;
        if let Err(error) = job.commands.try_send(command) {
            // Its commands follow each other's answers: a queue that is full has hung.
            tracing::error!(job = %id, %error, "a job takes no commands");
            let kind = WorkerEventKind::Failed {
                task: TaskId(0),
                error: "the job hangs on its worker".to_owned(),
                retry: Retry::Always,
            };
            send(&events, id, generation, kind).await;
        }
    }
    // All are told before any is waited for.
    let tasks: Vec<JoinHandle<()>> = jobs.into_values().map(|job| job.task).collect();
    for task in tasks {
        // A panic there was reported when it happened.
        let _ = task.await;
    }
}

/// Forgets loops that are over; whether that of a job was ended by a panic.
async fn has_panicked(jobs: &mut BTreeMap<JobId, JobTask>, id: JobId) -> bool {
    let mut panicked = false;
    for (job, over) in jobs.extract_if(.., |_, job| job.task.is_finished()) {
        let ended = over.task.await;
        panicked |= job == id && ended.is_err_and(|error| error.is_panic());
    }
    panicked
}

/// What is built, or why not. A panic is a reason too: the job's loop goes on, and says it.
async fn caught<T>(built: impl Future<Output = Result<T, BuildError>>) -> Result<T, BuildError> {
    let caught = AssertUnwindSafe(built).catch_unwind().await;
    caught.unwrap_or_else(|panic| Err(BuildError::Panic(panic_text(panic.as_ref()))))
}

fn failed(error: &BuildError) -> WorkerEventKind {
    WorkerEventKind::Failed {
        task: TaskId(0),
        retry: error.retry(),
        error: error.to_string(),
    }
}

/// The way to a job's loop.
struct JobTask {
    commands: mpsc::Sender<WorkerCommand>,
    task: JoinHandle<()>,
    /// The last command was to stop.
    ends: bool,
}

impl JobTask {
    /// Starts once the loop `before` it, which was told to stop, is over.
    fn start(job: JobLoop, before: Option<JobTask>) -> JobTask {
        let (commands, receiver) = mpsc::channel(JOB_COMMANDS_MAX);
        let task = tokio::spawn(async move {
            if let Some(before) = before {
                let _ = before.task.await;
            }
            job.run(receiver).await;
        });
        JobTask {
            commands,
            task,
            ends: false,
        }
    }
}

/// Commands in their order.
struct Commands {
    queue: mpsc::Receiver<WorkerCommand>,
    /// Those that came while something else was under way.
    held: VecDeque<WorkerCommand>,
}

impl Commands {
    async fn next(&mut self) -> Option<WorkerCommand> {
        match self.held.pop_front() {
            Some(command) => Some(command),
            None => self.queue.recv().await,
        }
    }

    /// Waits until what was begun before is of no use: the job ends, or another generation of it begins.
    async fn overruled(&mut self) {
        while !self.held.iter().any(overrules) {
            match self.queue.recv().await {
                Some(command) => self.held.push_back(command),
                None => return,
            }
        }
    }
}

/// Whether what was begun before a command is of no use.
fn overrules(command: &WorkerCommand) -> bool {
    matches!(
        command,
        WorkerCommand::Stop { .. } | WorkerCommand::Deploy(_)
    )
}

/// One job on this worker: at most one generation runs.
struct JobLoop {
    job: JobId,
    config: WorkerConfig,
    events: mpsc::Sender<WorkerEvent>,
    figures: Figures,
    running: Option<RunningGeneration>,
    /// What tasks held that were suspended. Behind a lock only because it is not `Sync`.
    kept: Mutex<Kept>,
}

impl JobLoop {
    async fn run(mut self, commands: mpsc::Receiver<WorkerCommand>) {
        let mut commands = Commands {
            queue: commands,
            held: VecDeque::new(),
        };
        while let Some(command) = commands.next().await {
            match command {
                WorkerCommand::ListSplits(deployment) => self.list_splits(&deployment).await,
                WorkerCommand::Deploy(deployment) => {
                    self.deploy(*deployment, &mut commands).await;
                }
                WorkerCommand::Prepare(deployment) => {
                    self.prepare(*deployment, &mut commands).await;
                }
                WorkerCommand::KeepRouting {
                    generation,
                    routing,
                    ..
                } => {
                    if let Some(running) = self.of_generation(generation) {
                        running.keep_routing(routing);
                    }
                }
                WorkerCommand::Barrier {
                    generation,
                    epoch,
                    routing,
                    aligned,
                    traceparent,
                    ..
                } => {
                    if let Some(running) = self.of_generation(generation) {
                        let barrier = Barrier { epoch, routing };
                        running.barrier(barrier, aligned, traceparent.as_deref());
                        let figures = running.figures();
                        self.figures.lock().insert(self.job, figures);
                    }
                }
                WorkerCommand::StopSources {
                    generation, drain, ..
                } => {
                    if let Some(running) = self.of_generation(generation) {
                        running.stop_sources(drain);
                    }
                }
                WorkerCommand::Committed {
                    generation, epoch, ..
                } => {
                    if let Some(running) = self.of_generation(generation) {
                        running.committed(epoch);
                    }
                }
                WorkerCommand::Suspend { .. } => {
                    if let Some(running) = self.running.take() {
                        let kept = running.suspend().await;
                        *self.kept.get_mut().unwrap_or_else(PoisonError::into_inner) = kept;
                    }
                }
                WorkerCommand::Stop { .. } => {
                    let generation = self.stop().await;
                    self.forget();
                    let kind = WorkerEventKind::Stopped;
                    return send(&self.events, self.job, generation, kind).await;
                }
            }
        }
        self.stop().await;
        self.forget();
    }

    /// Nobody asks for its figures, and no stream of the job is refused or taken any more.
    fn forget(&self) {
        self.figures.lock().remove(&self.job);
        if let Some(exchange) = &self.config.exchange {
            exchange.server.forget(self.job);
        }
    }

    async fn list_splits(&self, deployment: &Deployment) {
        let kind = match caught(Builder::new(&self.config, deployment).list_splits()).await {
            Ok(splits) => WorkerEventKind::SplitsListed(splits),
            Err(error) => failed(&error),
        };
        send(&self.events, self.job, deployment.generation, kind).await;
    }

    async fn deploy(&mut self, deployment: Deployment, commands: &mut Commands) {
        self.stop().await;
        let kept = self.kept.get_mut().unwrap_or_else(PoisonError::into_inner);
        let kept = std::mem::take(kept);
        let generation = deployment.generation;
        let span = info_span!("worker.deploy", job = %self.job, %generation);
        let span = span_with_parent(span, deployment.traceparent.as_deref());
        let start = RunningGeneration::start(&self.config, deployment, kept, &self.events);
        // What is opened outside may hang, and a job that is to end must not hang with it.
        let started = tokio::select! {
            biased;
            started = caught(start.instrument(span)) => started,
            () = commands.overruled() => return,
        };
        match started {
            Ok(running) => {
                self.figures.lock().insert(self.job, running.figures());
                self.running = Some(running);
            }
            Err(error) => {
                send(&self.events, self.job, generation, failed(&error)).await;
            }
        }
    }

    /// Makes ready for another routing of the generation that runs, or that runs elsewhere.
    async fn prepare(&mut self, deployment: Deployment, commands: &mut Commands) {
        let (generation, routing) = (deployment.generation, deployment.routing);
        let span = info_span!("worker.prepare", job = %self.job, %generation, routing);
        let span = span_with_parent(span, deployment.traceparent.as_deref());
        let runs = |running: &RunningGeneration| running.generation() >= generation;
        if !self.running.as_ref().is_some_and(runs) {
            self.stop().await;
            let empty = RunningGeneration::empty(&self.config, &deployment, &self.events);
            self.running = Some(empty);
        }
        let Some(running) = self.of_generation(generation) else {
            return;
        };
        let prepared = tokio::select! {
            biased;
            prepared = caught(running.prepare(deployment).instrument(span)) => prepared,
            () = commands.overruled() => return,
        };
        let kind = match prepared {
            Ok(()) => WorkerEventKind::Prepared { routing },
            Err(error) => WorkerEventKind::NotPrepared {
                routing,
                error: error.to_string(),
            },
        };
        send(&self.events, self.job, generation, kind).await;
    }

    /// Stops what runs; its generation, or zero.
    async fn stop(&mut self) -> Generation {
        let Some(running) = self.running.take() else {
            return Generation::default();
        };
        let generation = running.generation();
        running.stop().await;
        generation
    }

    fn of_generation(&mut self, generation: Generation) -> Option<&mut RunningGeneration> {
        self.running
            .as_mut()
            .filter(|running| running.generation() == generation)
    }
}

async fn send(
    events: &mpsc::Sender<WorkerEvent>,
    job: JobId,
    generation: Generation,
    kind: WorkerEventKind,
) {
    // A receiver that is gone means that the process is stopping.
    let _ = events
        .send(WorkerEvent {
            job,
            generation,
            kind,
        })
        .await;
}
