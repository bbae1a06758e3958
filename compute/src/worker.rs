//! The worker's loop: commands in, events out, one running generation per job.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use connectors::{CollectTarget, LineWriter};
use engine::clock::Clock;
use proto::{
    control::{JobMetrics, WorkerCommand, WorkerEvent, WorkerEventKind},
    types::{Generation, JobId, TaskId},
};
use state_client::StateStore;
use tokio::sync::mpsc;

use crate::{
    caps::{COMMANDS_MAX, EVENTS_MAX},
    generation::{RunningGeneration, TaskFigures},
};

/// What a worker is given by the process that runs it.
#[derive(Clone)]
pub struct WorkerConfig {
    /// State.
    pub store: Arc<dyn StateStore>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Takes the lines of `print` sinks.
    pub print: Arc<dyn LineWriter>,
    /// Makes the target of a job's `collect` sinks.
    pub collect: Arc<dyn Fn(JobId) -> Arc<dyn CollectTarget> + Send + Sync>,
}

/// A worker; see [`Worker::start`].
pub struct Worker;

/// Gives a worker commands and reads its figures. When the last handle is gone, the worker stops.
#[derive(Clone)]
pub struct WorkerHandle {
    commands: mpsc::Sender<WorkerCommand>,
    figures: Figures,
}

type Figures = Arc<Mutex<BTreeMap<JobId, Vec<TaskFigures>>>>;

impl Worker {
    /// Starts a worker on the current tokio runtime.
    #[must_use]
    pub fn start(config: WorkerConfig) -> (WorkerHandle, mpsc::Receiver<WorkerEvent>) {
        let (commands, command_receiver) = mpsc::channel(COMMANDS_MAX);
        let (events, event_receiver) = mpsc::channel(EVENTS_MAX);
        let figures = Figures::default();
        let handle = WorkerHandle {
            commands,
            figures: Arc::clone(&figures),
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
        let mut metrics = JobMetrics::new();
        let figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        for task in figures.get(&job).into_iter().flatten() {
            for (node, operator) in task.metrics.read() {
                metrics
                    .entry(node)
                    .or_default()
                    .insert(task.index, operator);
            }
        }
        metrics
    }
}

async fn run(
    config: WorkerConfig,
    mut commands: mpsc::Receiver<WorkerCommand>,
    events: mpsc::Sender<WorkerEvent>,
    figures: Figures,
) {
    let mut jobs: BTreeMap<JobId, RunningGeneration> = BTreeMap::new();
    while let Some(command) = commands.recv().await {
        match command {
            WorkerCommand::Deploy(deployment) => {
                let (job, generation) = (deployment.job, deployment.generation);
                if let Some(old) = jobs.remove(&job) {
                    old.stop().await;
                }
                match RunningGeneration::start(&config, *deployment, &events).await {
                    Ok(running) => {
                        let mut figures = figures.lock().unwrap_or_else(PoisonError::into_inner);
                        figures.insert(job, running.figures());
                        jobs.insert(job, running);
                    }
                    Err(error) => {
                        let kind = WorkerEventKind::Failed {
                            task: TaskId(0),
                            retry: error.retry(),
                            error: error.to_string(),
                        };
                        send(&events, job, generation, kind).await;
                    }
                }
            }
            WorkerCommand::Barrier {
                job,
                generation,
                epoch,
            } => {
                if let Some(running) = of_generation(&mut jobs, job, generation) {
                    running.barrier(epoch);
                }
            }
            WorkerCommand::Committed {
                job,
                generation,
                epoch,
            } => {
                if let Some(running) = of_generation(&mut jobs, job, generation) {
                    running.committed(epoch);
                }
            }
            WorkerCommand::Stop { job } => {
                let mut generation = Generation::default();
                if let Some(running) = jobs.remove(&job) {
                    generation = running.generation();
                    running.stop().await;
                }
                send(&events, job, generation, WorkerEventKind::Stopped).await;
            }
        }
    }
    for running in std::mem::take(&mut jobs).into_values() {
        running.stop().await;
    }
}

fn of_generation(
    jobs: &mut BTreeMap<JobId, RunningGeneration>,
    job: JobId,
    generation: Generation,
) -> Option<&mut RunningGeneration> {
    jobs.get_mut(&job)
        .filter(|running| running.generation() == generation)
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
