//! From one stream to the next.

use std::{collections::BTreeSet, sync::Arc};

use control_stream::{
    DialConfig, DialError, Dialer, FormerId, JobOwners, Purpose, Put, Session, WorkerHears,
    WorkerSays,
};
use proto::{
    control::{JobMetrics, Retry, WorkerCommand, WorkerEvent, WorkerEventKind},
    types::{JobId, TaskId},
};
use rpc::Channel;
use tokio::{sync::watch, time::MissedTickBehavior};

use super::{deliver::Leader, tasks::Tasks};
use crate::{Figures, WorkerConfig, caps::METRICS_INTERVAL};

/// What a worker's agent is given.
#[derive(Clone)]
pub struct AgentConfig {
    /// How the leader is found.
    pub dial: DialConfig,
    /// Is told who serves jobs' state.
    pub owners: Arc<dyn OwnersListener>,
    /// Becomes true when the worker is to leave, once its tasks run elsewhere.
    pub leave: watch::Receiver<bool>,
}

/// Is told who serves jobs' state.
pub trait OwnersListener: Send + Sync {
    /// A stream begins: nothing that was said before holds, but of the jobs that run on.
    fn begin(&self, running: &BTreeSet<JobId>);

    /// Who serves the job's state from now on; `None`: the job is gone.
    fn change(&self, job: JobId, owners: Option<JobOwners>);
}

/// Why a worker cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The control plane is out of reach for good.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// What hangs cannot be stopped but with the process.
    #[error("tasks of this worker hang and cannot be stopped: start it again")]
    Hangs,
}

/// The worker's end of its control streams.
pub struct Agent {
    config: AgentConfig,
    dialer: Dialer,
    leader: watch::Sender<Option<Channel>>,
    figures: watch::Sender<Figures>,
}

/// What is measured of the tasks that run at the moment. Cheap to clone.
#[derive(Clone)]
pub struct AgentFigures(watch::Receiver<Figures>);

impl AgentFigures {
    /// Of all tasks, by job.
    #[must_use]
    pub fn all(&self) -> Vec<(JobId, JobMetrics)> {
        let figures = self.0.borrow().clone();
        figures.all().into_iter().collect()
    }
}

type Stream = Session<WorkerSays, WorkerHears>;

impl Agent {
    /// An agent that asks nobody yet, and the way to whoever leads. Within a tokio runtime.
    ///
    /// # Errors
    /// When an address or a certificate is malformed.
    pub fn new(config: AgentConfig) -> Result<(Agent, Leader), DialError> {
        let dialer = Dialer::new(config.dial.clone())?;
        let (leader, leads) = watch::channel(None);
        let agent = Agent {
            config,
            dialer,
            leader,
            figures: watch::Sender::default(),
        };
        Ok((agent, Leader(leads)))
    }

    /// What is measured of the tasks that run at the moment.
    #[must_use]
    pub fn figures(&self) -> AgentFigures {
        AgentFigures(self.figures.subscribe())
    }

    /// Works for whoever leads, until it is to leave and nothing of it is needed any more.
    ///
    /// # Errors
    /// When it cannot go on.
    pub async fn run(mut self, worker: WorkerConfig) -> Result<(), AgentError> {
        let mut before = None;
        let mut former: Option<FormerId> = None;
        let mut leave = self.config.leave.clone();
        loop {
            let runs = before.is_some();
            self.dialer.set_former(former.filter(|_| runs));
            let mut stream = tokio::select! {
                stream = self.find(&mut before) => stream?,
                // Nobody is there who could give its tasks to others.
                () = asked(&mut leave) => return Ok(()),
            };
            let id = stream.welcome.id;
            let is_kept = former.is_some_and(|former| former.id == id);
            former = Some(FormerId {
                id,
                leadership: stream.welcome.leadership,
            });
            tracing::info!(
                is_kept,
                "a leader of the control plane has taken this worker"
            );
            let mut tasks = match before.take() {
                Some(tasks) if is_kept => self.begin_running(&stream, tasks).await,
                other => self.begin_empty(&stream, other, &worker).await?,
            };
            self.figures.send_replace(tasks.figures());
            self.leader.send_replace(Some(stream.leader.clone()));
            let left = self.serve(&mut stream, &mut tasks).await;
            self.leader.send_replace(None);
            if left {
                return Ok(());
            }
            before = Some(tasks);
        }
    }

    /// Begins a stream with nothing: what runs is stopped. The leader need not wait for that.
    async fn begin_empty(
        &self,
        stream: &Stream,
        before: Option<Tasks>,
        worker: &WorkerConfig,
    ) -> Result<Tasks, AgentError> {
        stream.say(WorkerSays::Told);
        if let Some(before) = before
            && !Tasks::stop(before).await
        {
            return Err(AgentError::Hangs);
        }
        self.config.owners.begin(&BTreeSet::new());
        Ok(Tasks::start(worker))
    }

    /// Begins a stream with what runs, and tells what that is. A part that is too large to be told is
    /// stopped, and no other.
    async fn begin_running(&self, stream: &Stream, mut tasks: Tasks) -> Tasks {
        let parts = tasks.parts();
        let running = parts.iter().map(|part| part.job).collect();
        self.config.owners.begin(&running);
        for part in parts {
            let job = part.job;
            if let Put::TooLarge(bytes) = stream.say_bounded(WorkerSays::Runs(Box::new(part))) {
                tracing::warn!(%job, bytes, "what runs of a job is too much to be told: it stops");
                tasks.command(WorkerCommand::Stop { job }).await;
            }
        }
        stream.say(WorkerSays::Told);
        for event in tasks.take_held() {
            say(stream, event);
        }
        tasks
    }

    /// A stream to whoever leads. Tasks of the last one run on meanwhile, as long as the lease lasts.
    async fn find(&mut self, before: &mut Option<Tasks>) -> Result<Stream, AgentError> {
        let contact = self.dialer.contact();
        let lease = self.config.dial.timing.lease;
        let dial = self.dialer.dial(Purpose::Worker);
        tokio::pin!(dial);
        loop {
            let Some(tasks) = before else {
                return Ok(dial.await?);
            };
            tokio::select! {
                stream = &mut dial => return Ok(stream?),
                // Nobody is there to hear it; the next leader is told what has become of it.
                event = tasks.event() => tasks.hold(event),
                () = contact.lost(lease) => {
                    tracing::warn!(?lease, "no node of the control plane was heard: tasks stop");
                    let stopped = match before.take() {
                        Some(tasks) => tasks.stop().await,
                        None => true,
                    };
                    if !stopped {
                        return Err(AgentError::Hangs);
                    }
                }
            }
        }
    }

    /// Carries commands and events until the stream ends; whether the worker may leave.
    async fn serve(&self, stream: &mut Stream, tasks: &mut Tasks) -> bool {
        let mut leave = self.config.leave.clone();
        let mut leaving = false;
        let mut measure = tokio::time::interval(METRICS_INTERVAL);
        measure.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let goes_on = tokio::select! {
                () = asked(&mut leave), if !leaving => {
                    tracing::info!("this worker leaves as soon as its tasks run elsewhere");
                    leaving = true;
                    stream.say(WorkerSays::Leaving)
                }
                heard = stream.hear() => match heard {
                    Some(WorkerHears::Released) => return true,
                    Some(WorkerHears::Command(command)) => tasks.command(command).await,
                    Some(WorkerHears::Owners(job, owners)) => {
                        self.config.owners.change(job, owners);
                        true
                    }
                    None => false,
                },
                event = tasks.event() => {
                    if let Some(metrics) = tasks.measure_for(&event) {
                        stream.say(WorkerSays::Metrics(metrics));
                    }
                    say(stream, event)
                }
                _ = measure.tick() => {
                    let metrics = tasks.measure();
                    metrics.is_empty() || stream.say(WorkerSays::Metrics(metrics))
                }
            };
            if !goes_on {
                return leaving;
            }
        }
    }
}

/// Waits until the worker is to leave; for ever if nobody can say so any more.
async fn asked(leave: &mut watch::Receiver<bool>) {
    if leave.wait_for(|leave| *leave).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Says what has happened; `false`: the stream has ended. What is too large to be said fails its job,
/// and no other.
fn say(stream: &Stream, event: WorkerEvent) -> bool {
    let (job, generation) = (event.job, event.generation);
    let bytes = match stream.say_bounded(WorkerSays::Event(event)) {
        Put::Done => return true,
        Put::Gone => return false,
        Put::TooLarge(bytes) => bytes,
    };
    let error = format!(
        "a report of the job has {bytes} bytes, which is too much to be sent: does a source list \
         hundreds of thousands of files? Give it fewer and larger ones"
    );
    let kind = WorkerEventKind::Failed {
        task: TaskId(0),
        error,
        retry: Retry::Never,
    };
    stream.say(WorkerSays::Event(WorkerEvent {
        job,
        generation,
        kind,
    }))
}
