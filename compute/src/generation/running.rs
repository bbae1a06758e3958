//! What runs of a generation, and how it is started, told and stopped.

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicUsize},
    time::Duration,
};

use engine::{
    Barrier,
    flow::OutputBudget,
    task::{Graph, Task, TaskCommand, TaskError, TaskMetrics},
};
use futures::{FutureExt as _, channel::mpsc as task_channel};
use proto::{
    control::{Deployment, Retry, WorkerEvent, WorkerEventKind},
    types::{Epoch, Generation, SinkId, TaskId},
};
use state_client::Incarnation;
use tokio::{
    sync::{mpsc, watch},
    task::{AbortHandle, JoinSet},
    time::timeout,
};

use super::{
    events::{Restoring, panic_text, task_events},
    links::RoutingLinks,
    reroute::Next,
};
use crate::{
    build::{BuildError, Builder, BuiltTask, Connected, OpenPublisher},
    caps::{TASK_COMMANDS_MAX, YIELD_MAX},
    publish::PublishLoop,
    report::Reporter,
    task_spans::{TaskSpans, TracedStore},
    wiring::Wiring,
    worker::WorkerConfig,
};

/// Tasks and publishers of a generation.
pub(crate) struct RunningGeneration {
    pub(super) config: WorkerConfig,
    pub(super) who: Incarnation,
    pub(super) reporter: Reporter,
    /// The routing in force.
    pub(super) deployment: Deployment,
    pub(super) connected: Connected,
    pub(super) futures: JoinSet<()>,
    pub(super) tasks: BTreeMap<TaskId, RunningTask>,
    publishers: BTreeMap<SinkId, AbortHandle>,
    committed: watch::Sender<Epoch>,
    pub(super) links: Vec<RoutingLinks>,
    /// Operators of tasks that have yielded.
    yielded: Arc<Mutex<BTreeMap<TaskId, Graph>>>,
    /// The last epoch of which its tasks may hold anything.
    last_epoch: Epoch,
    /// The routing that is prepared.
    pub(super) next: Option<Next>,
    /// What changes when an epoch is committed, oldest first.
    pub(super) leaving: Vec<Leaving>,
}

/// A task that runs here.
pub(super) struct RunningTask {
    pub(super) commands: task_channel::Sender<TaskCommand>,
    pub(super) abort: AbortHandle,
    pub(super) figures: TaskFigures,
    pub(super) spans: Arc<TaskSpans>,
}

/// What waits for the commit of the epoch that changed the routing.
pub(super) struct Leaving {
    pub(super) epoch: Epoch,
    pub(super) tasks: Vec<RunningTask>,
    /// Sinks that another worker publishes from then on.
    pub(super) publishers: Vec<SinkId>,
    /// Sinks that this one does.
    pub(super) new_publishers: Vec<OpenPublisher>,
}

/// Operators of a generation that has ended, for the next one.
#[derive(Default)]
pub(crate) struct Kept {
    graphs: BTreeMap<TaskId, Graph>,
    last_epoch: Epoch,
}

impl Kept {
    /// What a task holds, unless a generation in between has committed more, elsewhere: its epochs are
    /// above all of this one's.
    fn take(&mut self, task: TaskId, restored: Epoch) -> Option<Graph> {
        let graph = self.graphs.remove(&task);
        graph.filter(|_| restored <= self.last_epoch)
    }
}

/// Where a task's figures are.
#[derive(Clone)]
pub(crate) struct TaskFigures {
    /// Index among its fragment's tasks.
    pub(crate) index: u32,
    pub(crate) metrics: Arc<TaskMetrics>,
}

fn lock(kept: &Mutex<BTreeMap<TaskId, Graph>>) -> MutexGuard<'_, BTreeMap<TaskId, Graph>> {
    // Nothing panics while it is held.
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RunningGeneration {
    /// A generation of which nothing runs here.
    pub(crate) fn empty(
        config: &WorkerConfig,
        deployment: &Deployment,
        events: &mpsc::Sender<WorkerEvent>,
    ) -> RunningGeneration {
        let (reporter, forwarder) =
            Reporter::new(deployment.job, deployment.generation, events.clone());
        let mut futures = JoinSet::new();
        futures.spawn(forwarder.run());
        let mut deployment = deployment.clone();
        deployment.tasks.clear();
        deployment.groups.clear();
        deployment.routing = 0;
        RunningGeneration {
            config: config.clone(),
            who: Incarnation {
                job: deployment.job,
                generation: deployment.generation,
            },
            reporter,
            connected: Connected::default(),
            futures,
            tasks: BTreeMap::new(),
            publishers: BTreeMap::new(),
            committed: watch::channel(deployment.restored).0,
            links: Vec::new(),
            yielded: Arc::default(),
            last_epoch: deployment.restored,
            next: None,
            leaving: Vec::new(),
            deployment,
        }
    }

    /// Builds and starts everything. Tasks go on with what is kept of them.
    pub(crate) async fn start(
        config: &WorkerConfig,
        deployment: Deployment,
        mut kept: Kept,
        events: &mpsc::Sender<WorkerEvent>,
    ) -> Result<RunningGeneration, BuildError> {
        let mut running = RunningGeneration::empty(config, &deployment, events);
        running.deployment = deployment;
        // Before sources are opened, which may take long: other workers wait for the streams.
        let (mut wiring, links) = Wiring::new(&running.deployment, |_| true)?;
        let started = RoutingLinks::start(
            config.exchange.as_ref(),
            &running.deployment,
            links,
            true,
            &mut running.futures,
            &running.reporter,
        );
        running.links.push(started?);
        let builder = Builder::new(config, &running.deployment);
        let all = running.deployment.tasks_here();
        let publishers = builder.connect(&mut running.connected, &all).await?;
        let mut built = builder.build(&running.connected, &all, &mut wiring)?;
        let restored = running.deployment.restored;
        if restored > Epoch::ZERO {
            for task in &mut built {
                if let Some(old) = kept.take(task.spec.task, restored) {
                    let operators = task.adopt(old);
                    tracing::debug!(task = %task.spec.task, operators, "a task keeps its state");
                }
            }
        }
        for publisher in publishers {
            running.start_publisher(publisher);
        }
        if built.is_empty() {
            running.reporter.send(WorkerEventKind::Running);
        }
        let restoring = Arc::new(AtomicUsize::new(built.len()));
        let deployment = running.deployment.clone();
        for task in built {
            running.start_task(&deployment, task, Some(Arc::clone(&restoring)));
        }
        Ok(running)
    }

    pub(super) fn start_publisher(&mut self, opened: OpenPublisher) {
        let OpenPublisher {
            sink,
            table,
            publisher,
        } = opened;
        let patience_ms = self.deployment.options.sink_patience_ms;
        let (published, troubled) = (self.reporter.clone(), self.reporter.clone());
        let publish = PublishLoop {
            who: self.who,
            sink,
            table,
            publisher,
            store: Arc::clone(&self.config.store),
            committed: self.committed.subscribe(),
            budget: self.output(),
            patience: patience_ms.map(Duration::from_millis),
            published: Box::new(move |epoch| {
                published.send(WorkerEventKind::Published { sink, epoch });
            }),
            troubled: Box::new(move |error| {
                troubled.send(WorkerEventKind::SinkTroubled { sink, error });
            }),
        };
        let reporter = self.reporter.clone();
        let abort = self.futures.spawn(async move {
            let (error, retry) = match AssertUnwindSafe(publish.run()).catch_unwind().await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => (error.to_string(), error.retry()),
                Err(panic) => (
                    format!(
                        "publishing to {sink} panicked: {}",
                        panic_text(panic.as_ref())
                    ),
                    Retry::Always,
                ),
            };
            reporter.fail(TaskId(0), error, retry);
        });
        self.publishers.insert(sink, abort);
    }

    fn output(&self) -> OutputBudget {
        self.connected.output.clone()
    }

    pub(super) fn start_task(
        &mut self,
        deployment: &Deployment,
        task: BuiltTask,
        restoring: Option<Restoring>,
    ) {
        let (commands, receiver) = task_channel::channel(TASK_COMMANDS_MAX);
        let metrics = Arc::new(TaskMetrics::default());
        let figures = TaskFigures {
            index: task.spec.index,
            metrics: Arc::clone(&metrics),
        };
        let id = task.spec.task;
        let spans = Arc::new(TaskSpans::new(deployment.job, id));
        let mut report = task_events(id, self.reporter.clone(), restoring);
        let store = Arc::new(TracedStore {
            store: Arc::clone(&self.config.store),
            spans: Arc::clone(&spans),
        });
        let traced = Arc::clone(&spans);
        let events = Box::new(move |event| {
            traced.on_event(&event);
            report(event);
        });
        let parts = task.into_parts(&self.config, store, deployment, receiver, events, metrics);
        let reporter = self.reporter.clone();
        let yielded = Arc::clone(&self.yielded);
        let abort = self.futures.spawn(async move {
            // A broken invariant kills the task, not the worker.
            let task = async move { Task::new(parts).await };
            let result = AssertUnwindSafe(task).catch_unwind().await;
            match result {
                Ok(Ok(graph)) => drop(lock(&yielded).insert(id, graph)),
                Ok(Err(TaskError::Orphaned)) => {}
                Ok(Err(error)) => reporter.fail(id, error.to_string(), error.retry()),
                Err(panic) => {
                    let text = panic_text(panic.as_ref());
                    reporter.fail(id, format!("{id} panicked: {text}"), Retry::Always);
                }
            }
        });
        let running = RunningTask {
            commands,
            abort,
            figures,
            spans,
        };
        self.tasks.insert(id, running);
    }

    pub(crate) fn generation(&self) -> Generation {
        self.who.generation
    }

    pub(crate) fn figures(&self) -> Vec<TaskFigures> {
        let tasks = self.tasks.values();
        tasks.map(|task| task.figures.clone()).collect()
    }

    /// Sends the barrier to every task; those that get it with their inputs wait for that, but for one
    /// that need not be aligned no longer than the job says. If it changes the routing, new tasks start.
    pub(crate) fn barrier(&mut self, barrier: Barrier, aligned: bool, traceparent: Option<&str>) {
        let patience_ms = self.deployment.options.alignment_timeout_ms;
        let overtakes_after_ms = patience_ms.filter(|_| !aligned);
        self.last_epoch = self.last_epoch.max(barrier.epoch);
        for task in self.tasks.values_mut() {
            if let Some(parent) = traceparent {
                task.spans.barrier(barrier.epoch, parent);
            }
            let command = TaskCommand::Barrier {
                barrier,
                overtakes_after_ms,
            };
            if let Err(error) = task.commands.try_send(command) {
                // The task has ended (its failure is reported), or is far behind: it will get
                // the next one.
                tracing::debug!(epoch = %barrier.epoch, %error, "a task did not take the barrier");
            }
        }
        // One that nothing of the generation is placed on hears barriers until it is told to stop, and
        // those of routings that it has no part in before that of the one it is prepared for.
        let takes_part = self.is_prepared_by(barrier.routing) || !self.tasks.is_empty();
        if barrier.routing > self.deployment.routing && takes_part {
            self.change_routing(barrier);
        }
    }

    /// Tells every task that its sources are to read no more.
    pub(crate) fn stop_sources(&mut self, drain: bool) {
        for task in self.tasks.values_mut() {
            if let Err(error) = task.commands.try_send(TaskCommand::StopSources { drain }) {
                // It has ended. The control plane says it again to the next generation.
                tracing::debug!(%error, "a task was not told to stop its sources");
            }
        }
    }

    /// Lets publishers go on; what had no place in the routing of the epoch goes.
    pub(crate) fn committed(&mut self, epoch: Epoch) {
        let (gone, leaving) = std::mem::take(&mut self.leaving)
            .into_iter()
            .partition(|leaving| leaving.epoch <= epoch);
        self.leaving = leaving;
        let gone: Vec<Leaving> = gone;
        for leaving in gone {
            leaving.tasks.iter().for_each(|task| task.abort.abort());
            for sink in leaving.publishers {
                if let Some(publisher) = self.publishers.remove(&sink) {
                    publisher.abort();
                }
            }
            for publisher in leaving.new_publishers {
                self.start_publisher(publisher);
            }
        }
        for task in self.tasks.values_mut() {
            // One that takes no command has failed.
            drop(task.commands.try_send(TaskCommand::Committed(epoch)));
        }
        // What has ended need not be remembered until the generation does.
        while self.futures.try_join_next().is_some() {}
        self.committed.send_replace(epoch);
    }

    /// Stops every task and publisher as [`RunningGeneration::stop`] does, and keeps what tasks hold
    /// that can still hand it over.
    pub(crate) async fn suspend(mut self) -> Kept {
        let mut asked = 0;
        for task in self.tasks.values_mut() {
            let is_asked = task.commands.try_send(TaskCommand::Yield).is_ok();
            asked += usize::from(is_asked);
        }
        let all = async {
            // Links and publishers do not end by themselves; tasks that have failed hand over nothing.
            while lock(&self.yielded).len() < asked {
                if self.futures.join_next().await.is_none() {
                    return;
                }
            }
        };
        drop(timeout(YIELD_MAX, all).await);
        self.futures.shutdown().await;
        Kept {
            graphs: std::mem::take(&mut *lock(&self.yielded)),
            last_epoch: self.last_epoch,
        }
    }

    /// Stops every task and publisher, and waits until they are gone.
    pub(crate) async fn stop(mut self) {
        self.futures.shutdown().await;
    }
}
