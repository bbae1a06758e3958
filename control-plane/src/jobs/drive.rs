//! The event loop: one closed set of events in, `coordinator`'s effects carried out. It alone
//! changes jobs, and it never waits for anything but the next event.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use coordinator::{
    Event, Job, JobFacts, JobState,
    meta::{Answer, Desired, JobRecord, Refusal},
};
use proto::{
    control::{WorkerEvent, WorkerEventKind},
    types::{Generation, JobId, WorkerId},
};
use state_client::StateControl;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    ExceptionRecord, JobEntry, Jobs, JobsError,
    handle::{Ask, JobTable, Request},
    requests::{Done, Requests, ScriptReply},
    scaling::Scaling,
    traces::JobTraces,
};
use crate::{
    SubmitError,
    caps::{REQUEST_QUEUE, RESULT_BYTES_ENDED_MAX},
    metadata::{Metadata, MetadataError, look},
    results::FeedEnd,
    workers::{WorkerNews, Workers},
};

/// What jobs run on.
pub struct Tiers {
    /// What happens to workers.
    pub workers: mpsc::Receiver<WorkerNews>,
    /// The state service.
    pub state: Arc<dyn StateControl>,
    /// What is remembered of jobs.
    pub metadata: Arc<dyn Metadata>,
    /// The wall clock, in ms since 1970.
    pub wall_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Must be another one at every start; makes ids, and varies the waits before restarts.
    pub seed: u64,
}

/// Runs jobs; [`Driver::run`] must be polled for anything to happen.
pub struct Driver {
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) news: mpsc::Receiver<WorkerNews>,
    pub(super) workers: Workers,
    /// Those that want to leave.
    pub(super) leaving: BTreeSet<WorkerId>,
    pub(super) in_flight: Requests,
    pub(super) metadata: Arc<dyn Metadata>,
    pub(super) table: Arc<JobTable>,
    pub(super) traces: JobTraces,
    pub(super) scaling: Scaling,
    /// Until when workers may come before jobs are told of them.
    pub(super) gathering: Option<Instant>,
    /// How long the first worker is alone at most, before others count as missing.
    pub(super) grace: Duration,
    /// When jobs want a tick.
    pub(super) wakes: BTreeMap<JobId, u64>,
    pub(super) wall_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
    pub(super) seed: u64,
    pub(super) started: Instant,
}

impl Jobs {
    /// A handle, and the driver behind it.
    #[must_use]
    pub fn new(tiers: Tiers) -> (Jobs, Driver) {
        let (requests, receiver) = mpsc::channel(REQUEST_QUEUE);
        let table = Arc::new(JobTable::default());
        let workers = Workers::default();
        let jobs = Jobs {
            requests,
            table: table.clone(),
            workers: workers.clone(),
            metadata: Arc::clone(&tiers.metadata),
            keeps_checkpoints: tiers.state.keeps_checkpoints(),
        };
        let metadata = tiers.metadata;
        let driver = Driver {
            requests: receiver,
            news: tiers.workers,
            workers,
            leaving: BTreeSet::new(),
            in_flight: Requests::new(metadata.clone(), tiers.state, tiers.seed),
            metadata,
            table,
            traces: JobTraces::default(),
            scaling: Scaling::default(),
            gathering: None,
            grace: Duration::ZERO,
            wakes: BTreeMap::new(),
            wall_ms: tiers.wall_ms,
            seed: tiers.seed,
            started: Instant::now(),
        };
        (jobs, driver)
    }
}

impl Driver {
    /// Takes over the jobs that the metadata knows, before any other is accepted: those that have
    /// not ended run on, where workers tell that they do, or else start again from their last
    /// checkpoint. They wait `grace` for workers to come, so that the first one does not get all of
    /// their tasks; without it there are no workers that could run any.
    ///
    /// # Errors
    /// When the metadata cannot be read.
    pub async fn recover(&mut self, grace: Duration) -> Result<(), MetadataError> {
        self.gathering = (!grace.is_zero()).then(|| Instant::now() + grace);
        self.grace = grace;
        let records = look(&*self.metadata, |state| {
            state.jobs.values().cloned().collect::<Vec<JobRecord>>()
        });
        for record in records.await? {
            if record.is_importing() {
                continue;
            }
            if record.forgotten {
                self.in_flight.drop_state(record.id);
                continue;
            }
            self.adopt(&record, None);
            let may_run = record.generation > Generation::default() && !grace.is_zero();
            let begins = if may_run {
                Event::TakenOver
            } else {
                Event::Submitted
            };
            match (&record.outcome, &record.desired) {
                (Some(_), _) if record.has_files => self.in_flight.drop_state(record.id),
                (Some(_), _) => {}
                (None, Desired::Cancel) => self.handle(record.id, Event::CancelRequested),
                (None, _) if record.quarantine.is_some() => {}
                // Its rows were for a reader of the process that had it.
                (None, Desired::Run) if record.spec.select.is_some() => {
                    self.say_abandoned(record.id);
                    self.handle(record.id, Event::CancelRequested);
                }
                (None, Desired::Run) => self.handle(record.id, begins),
                (None, Desired::Stop(stop)) => {
                    self.handle(record.id, begins);
                    self.handle(record.id, Event::StopRequested { drain: stop.drain });
                }
            }
        }
        Ok(())
    }

    /// Tells whoever asks for the rows of a SELECT why there are none.
    fn say_abandoned(&self, job: JobId) {
        if let Some(feed) = self.table.get(job).and_then(|entry| entry.feed.clone()) {
            let why = "the server that had its rows has stopped or leads no more: ask again";
            feed.end(FeedEnd::Broken(why.to_owned()));
        }
    }

    /// Drives jobs until every [`Jobs`] handle is gone.
    pub async fn run(mut self) {
        loop {
            let wake = self.wakes.values().min().copied();
            let wake_at = self.started + Duration::from_micros(wake.unwrap_or_default());
            let gathered = self.gathering;
            let gathered_at = gathered.unwrap_or(self.started);
            tokio::select! {
                request = self.requests.recv() => match request {
                    Some(request) => self.on_request(request),
                    None => return,
                },
                news = self.news.recv() => match news {
                    Some(news) => self.on_news(news),
                    None => return self.on_workers_gone(),
                },
                done = self.in_flight.next() => self.on_done(done),
                () = self.scaling.due() => self.look(),
                () = tokio::time::sleep_until(wake_at), if wake.is_some() => self.tick(),
                () = tokio::time::sleep_until(gathered_at), if gathered.is_some() => {
                    self.gathering = None;
                    self.tell_workers();
                }
            }
        }
    }

    pub(super) fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn on_request(&mut self, request: Request) {
        match request {
            Request::Accept {
                script,
                reply,
                trace,
            } => {
                let placed = script.jobs.iter().try_for_each(|spec| {
                    JobFacts::of_plan(&spec.plan, spec.options.parallelism).map(|_| ())
                });
                match placed {
                    Ok(()) => {
                        let now_ms = (self.wall_ms)();
                        self.in_flight.accept(script, now_ms, reply, trace);
                    }
                    // Nobody waits any more.
                    Err(error) => drop(reply.send(Err(error.into()))),
                }
            }
            Request::Adopt { job, reply } => self.in_flight.read_imported(job, reply),
            Request::Cancel { job, reply } => self.in_flight.cancel(job, reply),
            Request::Ask { job, ask, reply } => {
                let now_ms = (self.wall_ms)();
                self.in_flight.ask(job, ask, now_ms, reply);
            }
            Request::Forget { jobs, reply } => self.in_flight.forget(jobs, reply),
            Request::Scale { job, scale, reply } => self.scale(job, scale, reply),
        }
    }

    fn on_done(&mut self, done: Done) {
        match done {
            Done::Event(job, event) => self.handle(job, event),
            Done::Accepted {
                jobs: Ok(jobs),
                reply,
                trace,
            } => self.in_flight.read_records(jobs, reply, trace),
            Done::Accepted {
                jobs: Err(error),
                reply,
                ..
            } => drop(reply.send(Err(error))),
            Done::Records {
                records,
                reply,
                trace,
            } => self.on_records(records, reply, trace),
            Done::Imported { record, reply } => {
                let adopted = record.map(|record| self.adopt_imported(record));
                // Nobody waits any more.
                drop(reply.send(adopted));
            }
            Done::Cancelled { job, result, reply } => {
                let written = result.is_ok();
                let _ = reply.send(result);
                if written {
                    self.handle(job, Event::CancelRequested);
                }
            }
            Done::Rescaled {
                job,
                parallelism,
                by,
                result,
            } => self.on_rescaled(job, parallelism, by, result),
            Done::Asked {
                job,
                ask,
                result,
                reply,
            } => self.on_asked(job, &ask, result, reply),
            Done::Quarantined(job) => self.on_quarantined(job),
            Done::Forgotten {
                jobs,
                result,
                reply,
            } => {
                if result.is_ok() {
                    jobs.into_iter().for_each(|job| self.forget(job));
                }
                let _ = reply.send(result);
            }
            Done::Autoscale(change) => self.on_autoscale(change),
            Done::Ended(job, state, successor) => self.on_end_noted(job, state, successor),
            Done::Nothing => {}
        }
    }

    /// What a user wants of a job is written down, or was refused.
    fn on_asked(
        &mut self,
        job: JobId,
        ask: &Ask,
        result: Result<Answer, JobsError>,
        reply: oneshot::Sender<Result<Answer, JobsError>>,
    ) {
        let successor = match &result {
            Ok(Answer::Upgraded { successor }) => *successor,
            _ => None,
        };
        if let Some(successor) = successor {
            self.begin_successor(successor);
        }
        let event = match ask {
            // What ends it is written down.
            Ask::Upgrade(_) if successor.is_some() => Some(Event::CancelRequested),
            Ask::Upgrade(_) => Some(Event::StopRequested { drain: false }),
            Ask::Stop(stop) => Some(Event::StopRequested { drain: stop.drain }),
            Ask::Resume(_) => Some(Event::Resumed),
            Ask::Save { .. } | Ask::DropSavepoint { .. } => None,
        };
        if let Ok(Answer::Trimmed { objects } | Answer::Resumed { objects, .. }) = &result {
            self.in_flight.released(job, objects.clone());
        }
        let event = match &result {
            Ok(_) => event,
            // Whoever asks again finds one that has overtaken nothing.
            Err(JobsError::Refused(Refusal::Overtaken { .. })) => Some(Event::AlignedWanted),
            Err(_) => None,
        };
        // Nobody waits any more.
        let _ = reply.send(result);
        if let Some(event) = event {
            self.handle(job, event);
        }
    }

    fn on_end_noted(&mut self, job: JobId, state: JobState, successor: Option<JobId>) {
        if let Some(entry) = self.table.get(job) {
            self.on_ended(&entry, state);
            entry.state.send_replace(state);
        }
        if let Some(successor) = successor {
            self.begin_successor(successor);
        }
    }

    /// A job that takes another one's place is written down: it is to run.
    fn begin_successor(&mut self, job: JobId) {
        // Nobody waits for it: it can be found in the list.
        let (reply, _nobody) = oneshot::channel();
        self.in_flight.read_records(vec![job], reply, None);
    }

    fn on_quarantined(&self, job: JobId) {
        if let Some(entry) = self.table.get(job) {
            entry.state.send_replace(JobState::Quarantined);
        }
    }

    /// A job that was made for what is imported, unless it is known.
    fn adopt_imported(&mut self, record: Option<Box<JobRecord>>) {
        let unknown = record.filter(|record| self.table.get(record.id).is_none());
        if let Some(record) = unknown {
            self.adopt(&record, None);
        }
    }

    fn forget(&mut self, job: JobId) {
        if let Some(entry) = self.table.remove(job) {
            self.wakes.remove(&job);
            // Whoever still reads it holds on to its rows.
            entry.feed.iter().for_each(|feed| feed.discard());
        }
    }

    fn on_records(
        &mut self,
        records: Result<Vec<JobRecord>, SubmitError>,
        reply: ScriptReply,
        trace: Option<String>,
    ) {
        let records = match records {
            Ok(records) => records,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let adopt = |record| self.adopt(record, trace.clone());
        let entries: Vec<Arc<JobEntry>> = records.iter().filter_map(adopt).collect();
        // Nobody waits any more: the jobs run all the same and can be found in the list.
        let _ = reply.send(Ok(entries));
        for record in records {
            self.handle(record.id, Event::Submitted);
        }
    }

    /// Makes a job of the metadata one of this driver's.
    fn adopt(&mut self, record: &JobRecord, trace: Option<String>) -> Option<Arc<JobEntry>> {
        let job = record.id;
        let spec = &record.spec;
        let facts = match JobFacts::of_plan(&spec.plan, spec.options.parallelism) {
            Ok(facts) => facts,
            // It was accepted by a build that knew how.
            Err(error) => {
                tracing::error!(%job, %error, "a job cannot be run");
                return None;
            }
        };
        let seed = self.seed.wrapping_add(job.0);
        let mut core = Job::of_record(facts, record, seed);
        core.handle(Event::Workers(self.workers_known()), self.now_us());
        core.handle(Event::Leaving(self.leaving.clone()), self.now_us());
        let entry = Arc::new(JobEntry::new(record, core, self.now_us()));
        self.table.insert(entry.clone());
        self.traces.submitted(job, trace);
        self.scaling.adopt(&entry);
        Some(entry)
    }

    pub(super) fn on_worker_event(&mut self, worker: WorkerId, event: WorkerEvent) {
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
        let event = Event::Worker {
            worker,
            generation,
            kind,
        };
        self.handle(entry.id, event);
    }

    /// Nothing can run any more, since this process stops; whoever waits for a job must hear so.
    fn on_workers_gone(&mut self) {
        for entry in self.table.list() {
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
            if let Some(entry) = self.table.get(job) {
                self.handle_noting(&entry, Event::Tick);
            }
        }
    }

    pub(super) fn handle(&mut self, job: JobId, event: Event) {
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
        self.release_idle();
    }

    fn on_ended(&mut self, entry: &JobEntry, state: JobState) {
        let job = entry.id;
        tracing::info!(%job, %state, "job has ended");
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

    pub(super) fn keep_figures(&self, entry: &JobEntry) {
        entry.keep_metrics(self.workers.metrics(entry.id));
    }
}
