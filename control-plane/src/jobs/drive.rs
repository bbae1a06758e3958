//! The event loop: one closed set of events in, `coordinator`'s effects carried out. It alone
//! changes jobs, and it never waits for anything but the next event.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use coordinator::{Effect, Event, Job, JobFacts, JobState};
use proto::{
    control::{Deployment, ExchangeMap, WorkerCommand, WorkerEvent, WorkerEventKind},
    types::JobId,
};
use rpc::trace_context;
use state_client::StateControl;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    ExceptionRecord, JobEntry, JobSpec, Jobs, SubmitError,
    handle::{JobTable, Request},
    state::StateRequests,
    traces::JobTraces,
};
use crate::{
    Figures, WorkerLink,
    caps::{JOBS_ACTIVE_MAX, REQUEST_QUEUE, RESULT_BYTES_ENDED_MAX},
    results::FeedEnd,
};

/// The tiers that jobs run on.
pub struct Tiers {
    /// The way to the worker.
    pub worker: Arc<dyn WorkerLink>,
    /// What it reports.
    pub events: mpsc::Receiver<WorkerEvent>,
    /// The state service.
    pub state: Arc<dyn StateControl>,
    /// What the worker knows about running jobs.
    pub figures: Arc<dyn Figures>,
    /// The wall clock, in ms since 1970.
    pub wall_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Tells this process's jobs from those of others, and varies the waits before restarts.
    pub seed: u64,
}

/// Runs jobs; [`Driver::run`] must be polled for anything to happen.
pub struct Driver {
    requests: mpsc::Receiver<Request>,
    worker: Arc<dyn WorkerLink>,
    events: mpsc::Receiver<WorkerEvent>,
    state: StateRequests,
    figures: Arc<dyn Figures>,
    table: Arc<JobTable>,
    traces: JobTraces,
    /// When jobs want a tick.
    wakes: BTreeMap<JobId, u64>,
    wall_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
    seed: u64,
    last_id: JobId,
    started: Instant,
}

impl Jobs {
    /// A handle, and the driver behind it.
    #[must_use]
    pub fn new(tiers: Tiers) -> (Jobs, Driver) {
        let (requests, receiver) = mpsc::channel(REQUEST_QUEUE);
        let table = Arc::new(JobTable::default());
        let jobs = Jobs {
            requests,
            table: table.clone(),
            figures: tiers.figures.clone(),
        };
        let driver = Driver {
            requests: receiver,
            worker: tiers.worker,
            events: tiers.events,
            state: StateRequests::new(tiers.state),
            figures: tiers.figures,
            table,
            traces: JobTraces::default(),
            wakes: BTreeMap::new(),
            wall_ms: tiers.wall_ms,
            seed: tiers.seed,
            last_id: JobId(0),
            started: Instant::now(),
        };
        (jobs, driver)
    }
}

impl Driver {
    /// Drives jobs until every [`Jobs`] handle is gone.
    pub async fn run(mut self) {
        loop {
            let wake = self.wakes.values().min().copied();
            let wake_at = self.started + Duration::from_micros(wake.unwrap_or_default());
            tokio::select! {
                request = self.requests.recv() => match request {
                    Some(request) => self.on_request(request),
                    None => return,
                },
                event = self.events.recv() => match event {
                    Some(event) => self.on_worker_event(event),
                    None => return self.on_worker_gone(),
                },
                answer = self.state.next() => {
                    if let Some((job, event)) = answer {
                        self.handle(job, event);
                    }
                }
                () = tokio::time::sleep_until(wake_at), if wake.is_some() => self.tick(),
            }
        }
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn on_request(&mut self, request: Request) {
        match request {
            Request::Submit { spec, reply, trace } => self.submit(*spec, reply, trace),
            Request::Cancel(job) => self.handle(job, Event::CancelRequested),
        }
    }

    fn submit(
        &mut self,
        spec: JobSpec,
        reply: oneshot::Sender<Result<Arc<JobEntry>, SubmitError>>,
        trace: Option<String>,
    ) {
        let answer = self.accept(spec);
        let accepted = answer.as_ref().ok().map(|entry| entry.id);
        // Nobody waits any more: the job runs all the same and can be found in the list.
        let _ = reply.send(answer);
        if let Some(job) = accepted {
            self.traces.submitted(job, trace);
            self.handle(job, Event::Submitted);
        }
    }

    fn accept(&mut self, spec: JobSpec) -> Result<Arc<JobEntry>, SubmitError> {
        let active = self.table.active();
        if active >= JOBS_ACTIVE_MAX {
            return Err(SubmitError::TooMany(active));
        }
        let facts = JobFacts::of_plan(&spec.plan, spec.options.parallelism)?;
        self.last_id = JobId(self.last_id.0 + 1);
        let id = self.last_id;
        let core = Job::new(facts, spec.options.clone(), self.seed.wrapping_add(id.0));
        let entry = Arc::new(JobEntry::new(
            id,
            spec,
            core,
            self.now_us(),
            (self.wall_ms)(),
            self.seed,
        ));
        self.table.insert(entry.clone());
        Ok(entry)
    }

    fn on_worker_event(&mut self, event: WorkerEvent) {
        let Some(entry) = self.table.get(event.job) else {
            return;
        };
        let (generation, kind) = (event.generation, event.kind);
        match kind {
            WorkerEventKind::DeadLetters(letters) => return entry.push_dead_letters(letters),
            WorkerEventKind::SinkTroubled { sink, ref error } => {
                tracing::warn!(job = %event.job, %generation, %sink, error, "sink failed");
                return entry.push_exception(ExceptionRecord {
                    at_us: self.now_us(),
                    generation,
                    task: None,
                    error: format!("{error}; trying again"),
                });
            }
            WorkerEventKind::Failed {
                task, ref error, ..
            } => {
                tracing::warn!(job = %event.job, %generation, %task, error, "task failed");
                self.keep_figures(&entry);
                entry.push_exception(ExceptionRecord {
                    at_us: self.now_us(),
                    generation,
                    task: Some(task),
                    error: error.clone(),
                });
            }
            _ => {}
        }
        self.handle(event.job, Event::Worker { generation, kind });
    }

    /// Nothing can run any more; whoever waits for a job must hear so.
    fn on_worker_gone(&mut self) {
        for entry in self.table.list() {
            if entry.state().is_terminal() {
                continue;
            }
            let generation = entry.generation();
            let error = "the worker is gone".to_owned();
            let event = Event::StateFailed {
                generation,
                error: error.clone(),
                retryable: false,
            };
            self.handle(entry.id, event);
            let kind = WorkerEventKind::Stopped;
            self.handle(entry.id, Event::Worker { generation, kind });
            if !entry.state().is_terminal() {
                self.on_ended(&entry, JobState::Failed);
                entry.state.send_replace(JobState::Failed);
            }
        }
    }

    fn tick(&mut self) {
        let now_us = self.now_us();
        let due: Vec<JobId> = self
            .wakes
            .iter()
            .filter(|(_, at_us)| **at_us <= now_us)
            .map(|(job, _)| *job)
            .collect();
        for job in due {
            self.handle(job, Event::Tick);
        }
    }

    fn handle(&mut self, job: JobId, event: Event) {
        let Some(entry) = self.table.get(job) else {
            return;
        };
        let now_us = self.now_us();
        if let Event::StateFailed {
            generation, error, ..
        } = &event
        {
            tracing::warn!(%job, %generation, error, "state store failed");
            entry.push_exception(ExceptionRecord {
                at_us: now_us,
                generation: *generation,
                task: None,
                error: error.clone(),
            });
        }
        let (effects, wake, checkpointing) = {
            let mut core = entry.core();
            let effects = core.handle(event, now_us);
            (effects, core.wake_at_us(), core.is_checkpointing())
        };
        match wake {
            Some(at_us) => self.wakes.insert(job, at_us),
            None => self.wakes.remove(&job),
        };
        for effect in effects {
            self.carry_out(&entry, effect);
        }
        if !checkpointing {
            self.traces.checkpoint_is_over(job);
        }
    }

    fn carry_out(&mut self, entry: &Arc<JobEntry>, effect: Effect) {
        let job = entry.id;
        let span = self.traces.on_effect(entry, &effect);
        let _entered = span.enter();
        match effect {
            Effect::BeginGeneration { .. }
            | Effect::Commit { .. }
            | Effect::RecordPublished { .. }
            | Effect::DropState => self.state.start(job, &effect),
            Effect::Deploy {
                generation,
                restored,
                tasks,
            } => self.worker.send(WorkerCommand::Deploy(Box::new(Deployment {
                job,
                generation,
                restored,
                plan: entry.spec.plan.clone(),
                tasks,
                options: entry.spec.options.clone(),
                created_ms: entry.created_ms,
                run: entry.run,
                exchange: ExchangeMap::default(),
                traceparent: trace_context::current(),
            }))),
            Effect::SendBarrier { generation, epoch } => {
                self.worker.send(WorkerCommand::Barrier {
                    job,
                    generation,
                    epoch,
                    traceparent: trace_context::current(),
                });
            }
            Effect::SendCommitted { generation, epoch } => {
                self.worker.send(WorkerCommand::Committed {
                    job,
                    generation,
                    epoch,
                });
            }
            Effect::Stop => {
                // The worker forgets figures with the tasks.
                self.keep_figures(entry);
                self.worker.send(WorkerCommand::Stop { job });
            }
            Effect::ReportState(state) => {
                tracing::info!(%job, %state, "job is now in this state");
                if state.is_terminal() {
                    self.on_ended(entry, state);
                }
                entry.state.send_replace(state);
            }
        }
    }

    fn on_ended(&mut self, entry: &JobEntry, state: JobState) {
        self.keep_figures(entry);
        entry.set_ended(self.now_us());
        let Some(feed) = &entry.feed else { return };
        feed.end(match state {
            JobState::Finished => FeedEnd::Complete,
            JobState::Canceled => FeedEnd::Broken("the job was cancelled".to_owned()),
            _ => {
                let cause = entry.last_error();
                FeedEnd::Broken(cause.unwrap_or_else(|| "the job failed".to_owned()))
            }
        });
        self.table.trim_results(RESULT_BYTES_ENDED_MAX);
    }

    fn keep_figures(&self, entry: &JobEntry) {
        entry.keep_metrics(self.figures.metrics(entry.id));
    }
}
