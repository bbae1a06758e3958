//! One generation of one job on this worker: its tasks and publishers, from start to stop.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use engine::task::{Task, TaskCommand, TaskError, TaskEvent, TaskMetrics};
use futures::{FutureExt as _, channel::mpsc as task_channel};
use proto::{
    control::{Deployment, Retry, WorkerEvent, WorkerEventKind},
    types::{Epoch, Generation, TaskId},
};
use state_client::Incarnation;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use crate::{
    build::{BuildError, Builder, BuiltTask},
    caps::TASK_COMMANDS_MAX,
    exchange::{Expected, LinkError, Links, ReceiveLink, SendLink},
    publish::PublishLoop,
    report::Reporter,
    task_spans::{TaskSpans, TracedStore},
    wiring::Wiring,
    worker::WorkerConfig,
};

/// Tasks and publishers of a generation.
pub(crate) struct RunningGeneration {
    generation: Generation,
    tasks: JoinSet<()>,
    commands: Vec<task_channel::Sender<TaskCommand>>,
    committed: watch::Sender<Epoch>,
    figures: Vec<TaskFigures>,
    /// Streams of other workers that are waited for.
    expected: Option<Expected>,
    spans: Vec<Arc<TaskSpans>>,
}

/// Where a task's figures are.
#[derive(Clone)]
pub(crate) struct TaskFigures {
    /// Index among its fragment's tasks.
    pub(crate) index: u32,
    pub(crate) metrics: Arc<TaskMetrics>,
}

impl RunningGeneration {
    /// Builds and starts everything.
    pub(crate) async fn start(
        config: &WorkerConfig,
        deployment: Deployment,
        events: &mpsc::Sender<WorkerEvent>,
    ) -> Result<RunningGeneration, BuildError> {
        let who = Incarnation {
            job: deployment.job,
            generation: deployment.generation,
        };
        let (committed, committed_receiver) = watch::channel(deployment.restored);
        let mut running = RunningGeneration {
            generation: deployment.generation,
            tasks: JoinSet::new(),
            commands: Vec::new(),
            committed,
            figures: Vec::new(),
            expected: None,
            spans: Vec::new(),
        };
        let (reporter, forwarder) =
            Reporter::new(deployment.job, deployment.generation, events.clone());
        running.tasks.spawn(forwarder.run());
        // Before sources are opened, which may take long: other workers wait for the streams.
        let (wiring, links) = Wiring::new(&deployment)?;
        running.start_links(config, &deployment, links, &reporter)?;
        let built = Builder::new(config, &deployment).build(wiring).await?;
        let patience_ms = deployment.options.sink_patience_ms;
        for (sink, table, publisher) in built.publishers {
            let (published, troubled) = (reporter.clone(), reporter.clone());
            let publish = PublishLoop {
                who,
                sink,
                table,
                publisher,
                store: Arc::clone(&config.store),
                committed: committed_receiver.clone(),
                budget: built.output.clone(),
                patience: patience_ms.map(Duration::from_millis),
                published: Box::new(move |epoch| {
                    published.send(WorkerEventKind::Published { sink, epoch });
                }),
                troubled: Box::new(move |error| {
                    troubled.send(WorkerEventKind::SinkTroubled { sink, error });
                }),
            };
            running.start_publisher(publish, &reporter);
        }
        if built.tasks.is_empty() {
            reporter.send(WorkerEventKind::Running);
        }
        let restoring = Arc::new(AtomicUsize::new(built.tasks.len()));
        for task in built.tasks {
            running.start_task(config, &deployment, task, &reporter, &restoring);
        }
        Ok(running)
    }

    fn start_links(
        &mut self,
        config: &WorkerConfig,
        deployment: &Deployment,
        links: Links,
        reporter: &Reporter,
    ) -> Result<(), BuildError> {
        let Some(exchange) = &config.exchange else {
            let alone = links.is_empty();
            return alone.then_some(()).ok_or(BuildError::NoExchange);
        };
        let who = Incarnation {
            job: deployment.job,
            generation: deployment.generation,
        };
        let here = deployment.exchange.here;
        let mut expected = exchange.server.begin(who, here, &links);
        for (from, incoming) in links.incoming {
            let task = incoming.task;
            let link = ReceiveLink::new(incoming, &mut expected, from, exchange.clone());
            let link = async move {
                let mut link = link;
                let received = link.run().await;
                (received, link)
            };
            self.start_link(task, format!("receiving from {from}"), link, reporter);
        }
        for (to, outgoing) in links.outgoing {
            let task = outgoing.task;
            let link = SendLink {
                who,
                here,
                to,
                outgoing,
                config: exchange.clone(),
            };
            let link = async move {
                let sent = link.run().await;
                (sent, link)
            };
            self.start_link(task, format!("sending to {to}"), link, reporter);
        }
        self.expected = Some(expected);
        Ok(())
    }

    /// Runs a link. `L` is what is left of it, and outlives a failure: nothing is lost while the
    /// job is being stopped that a task believes to be sent.
    fn start_link<L: Send + 'static>(
        &mut self,
        task: TaskId,
        what: String,
        link: impl Future<Output = (Result<(), LinkError>, L)> + Send + 'static,
        reporter: &Reporter,
    ) {
        let reporter = reporter.clone();
        self.tasks.spawn(async move {
            let _link = match AssertUnwindSafe(link).catch_unwind().await {
                Ok((Ok(()), _)) => return,
                Ok((Err(error), link)) => {
                    let error = format!("{what}: {}", error_text(&error));
                    reporter.fail(task, error, Retry::Always);
                    Some(link)
                }
                Err(panic) => {
                    let text = panic_text(panic.as_ref());
                    reporter.fail(task, format!("{what} panicked: {text}"), Retry::Always);
                    None
                }
            };
            std::future::pending::<()>().await;
        });
    }

    fn start_publisher(&mut self, publish: PublishLoop, reporter: &Reporter) {
        let (sink, reporter) = (publish.sink, reporter.clone());
        self.tasks.spawn(async move {
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
    }

    fn start_task(
        &mut self,
        config: &WorkerConfig,
        deployment: &Deployment,
        task: BuiltTask,
        reporter: &Reporter,
        restoring: &Arc<AtomicUsize>,
    ) {
        let (commands, receiver) = task_channel::channel(TASK_COMMANDS_MAX);
        let metrics = Arc::new(TaskMetrics::default());
        self.commands.push(commands);
        self.figures.push(TaskFigures {
            index: task.spec.index,
            metrics: Arc::clone(&metrics),
        });
        let id = task.spec.task;
        let spans = Arc::new(TaskSpans::new(deployment.job, id));
        self.spans.push(Arc::clone(&spans));
        let mut report = task_events(id, reporter.clone(), Arc::clone(restoring));
        let store = Arc::new(TracedStore {
            store: Arc::clone(&config.store),
            spans: Arc::clone(&spans),
        });
        let events = Box::new(move |event| {
            spans.on_event(&event);
            report(event);
        });
        let parts = task.into_parts(config, store, deployment, receiver, events, metrics);
        let reporter = reporter.clone();
        self.tasks.spawn(async move {
            // A broken invariant kills the task, not the worker.
            let task = async move { Task::new(parts).await };
            let result = AssertUnwindSafe(task).catch_unwind().await;
            match result {
                Ok(Ok(()) | Err(TaskError::Orphaned)) => {}
                Ok(Err(error)) => reporter.fail(id, error.to_string(), error.retry()),
                Err(panic) => {
                    let text = panic_text(panic.as_ref());
                    reporter.fail(id, format!("{id} panicked: {text}"), Retry::Always);
                }
            }
        });
    }

    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    pub(crate) fn figures(&self) -> Vec<TaskFigures> {
        self.figures.clone()
    }

    /// Sends the barrier to every task; those that get it with their inputs ignore it.
    pub(crate) fn barrier(&mut self, epoch: Epoch, traceparent: Option<&str>) {
        if let Some(parent) = traceparent {
            self.spans
                .iter()
                .for_each(|spans| spans.barrier(epoch, parent));
        }
        for commands in &mut self.commands {
            if let Err(error) = commands.try_send(TaskCommand::Barrier(epoch)) {
                // The task has ended (its failure is reported), or is far behind: it will get
                // the next one.
                tracing::debug!(%epoch, %error, "a task did not take the barrier");
            }
        }
    }

    /// Lets publishers go on.
    pub(crate) fn committed(&mut self, epoch: Epoch) {
        self.committed.send_replace(epoch);
    }

    /// Stops every task and publisher, and waits until they are gone.
    pub(crate) async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

fn task_events(
    task: TaskId,
    reporter: Reporter,
    restoring: Arc<AtomicUsize>,
) -> Box<dyn FnMut(TaskEvent) + Send> {
    Box::new(move |event| match event {
        TaskEvent::Running => {
            if restoring.fetch_sub(1, Ordering::AcqRel) == 1 {
                reporter.send(WorkerEventKind::Running);
            }
        }
        TaskEvent::Staged { epoch, objects } => reporter.send(WorkerEventKind::Staged {
            task,
            epoch,
            objects,
        }),
        TaskEvent::Finished => reporter.send(WorkerEventKind::Finished { task }),
        TaskEvent::DeadLetters(letters) => reporter.send(WorkerEventKind::DeadLetters(letters)),
        TaskEvent::OutputFull => reporter.send(WorkerEventKind::OutputFull),
        TaskEvent::Frozen(_) => {}
    })
}

/// An error and what caused it.
fn error_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default()
}
