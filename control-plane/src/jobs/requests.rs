//! Requests to the metadata and to the state service on behalf of jobs, in flight beside the event
//! loop. Each ends in a [`Done`], whatever happens to it.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use coordinator::{
    Effect, Event, JobState,
    meta::{Answer, Change, JobRecord, Outcome, Refusal},
    place::{Parallelism, Routing},
};
use futures::{FutureExt as _, future::BoxFuture};
use proto::{
    policy::AutoscalePolicy,
    types::{Epoch, Generation, JobId},
};
use rand::{RngCore as _, SeedableRng as _, rngs::SmallRng};
use state_client::{Begun, Dropped, Incarnation, StateControl, StateError};
use tokio::{sync::oneshot, task::JoinSet};
use tracing::Instrument as _;

use super::{JobEntry, JobsError, Script, SubmitError, handle::Ask};
use crate::{
    caps::{END_PATIENCE, PROPOSAL_PATIENCE},
    metadata::{Metadata, MetadataError, look, propose},
};

/// Where the answer to a script goes.
pub(super) type ScriptReply = oneshot::Sender<Result<Vec<Arc<JobEntry>>, SubmitError>>;

/// What became of a request.
pub(super) enum Done {
    /// Something for a job's core.
    Event(JobId, Event),
    /// A script was written down, or not.
    Accepted {
        jobs: Result<Vec<JobId>, SubmitError>,
        reply: ScriptReply,
        trace: Option<String>,
    },
    /// The jobs of a script, as they were written down.
    Records {
        records: Result<Vec<JobRecord>, SubmitError>,
        reply: ScriptReply,
        trace: Option<String>,
    },
    /// What was written down of a job that was made for what is imported.
    Imported {
        record: Result<Option<Box<JobRecord>>, JobsError>,
        reply: oneshot::Sender<Result<(), JobsError>>,
    },
    /// The wish to end a job was written down, or not.
    Cancelled {
        job: JobId,
        result: Result<(), JobsError>,
        reply: oneshot::Sender<Result<(), JobsError>>,
    },
    /// How many tasks a job is to have was written down, or not.
    Rescaled {
        job: JobId,
        parallelism: Parallelism,
        by: Wisher,
        result: Result<(), JobsError>,
    },
    /// What a user wants of a job was written down, or not.
    Asked {
        job: JobId,
        ask: Ask,
        result: Result<Answer, JobsError>,
        reply: oneshot::Sender<Result<Answer, JobsError>>,
    },
    /// That a job is not run any more for now was written down.
    Quarantined(JobId),
    /// That jobs are to be forgotten was written down, or not.
    Forgotten {
        jobs: Vec<JobId>,
        result: Result<(), JobsError>,
        reply: oneshot::Sender<Result<(), JobsError>>,
    },
    /// Whether a job follows its load was written down, or not.
    Autoscale(AutoscaleDone),
    /// The end of a job was written down; its state is no longer needed. This one takes its place.
    Ended(JobId, JobState, Option<JobId>),
    /// Nothing that anybody waits for.
    Nothing,
}

/// Who wants another number of tasks.
pub(super) enum Wisher {
    /// One who waits for the answer, and wants it whatever the load.
    User(oneshot::Sender<Result<(), JobsError>>),
    /// The job's autoscaler, by a decision with this trace context.
    Autoscaler(Option<String>),
}

/// Within what a job follows its load from now on, as it was written down.
pub(super) struct AutoscaleDone {
    pub(super) job: JobId,
    pub(super) policy: Option<AutoscalePolicy>,
    pub(super) result: Result<(), JobsError>,
    pub(super) reply: oneshot::Sender<Result<(), JobsError>>,
}

/// Requests in flight.
pub(super) struct Requests {
    metadata: Arc<dyn Metadata>,
    state: Arc<dyn StateControl>,
    random: SmallRng,
    in_flight: JoinSet<Done>,
}

impl Requests {
    pub(super) fn new(
        metadata: Arc<dyn Metadata>,
        state: Arc<dyn StateControl>,
        seed: u64,
    ) -> Self {
        Requests {
            metadata,
            state,
            random: SmallRng::seed_from_u64(seed),
            in_flight: JoinSet::new(),
        }
    }

    /// Writes a script down.
    pub(super) fn accept(
        &mut self,
        script: Script,
        now_ms: u64,
        reply: ScriptReply,
        trace: Option<String>,
    ) {
        let (catalog, statements) = match script.catalog {
            Some((version, statements)) => (Some(version), statements),
            None => (None, None),
        };
        let change = Change::Accept {
            catalog,
            statements,
            jobs: script.jobs,
            now_ms,
            seed: self.random.next_u64(),
        };
        let answer = self.propose(change, PROPOSAL_PATIENCE);
        self.spawn(async move {
            let jobs = match answer.await {
                Ok(Answer::Accepted { jobs }) => Ok(jobs),
                Ok(Answer::Refused(refusal)) => Err(refusal.into()),
                Ok(other) => Err(odd(&other).into()),
                Err(error) => Err(error.into()),
            };
            Done::Accepted { jobs, reply, trace }
        });
    }

    /// Reads what was written down of new jobs.
    pub(super) fn read_records(
        &mut self,
        jobs: Vec<JobId>,
        reply: ScriptReply,
        trace: Option<String>,
    ) {
        let metadata = Arc::clone(&self.metadata);
        self.spawn(async move {
            let read = look(&*metadata, move |state| {
                let record = |job| state.jobs.get(job).cloned();
                jobs.iter().filter_map(record).collect()
            });
            Done::Records {
                records: read.await.map_err(SubmitError::from),
                reply,
                trace,
            }
        });
    }

    /// Reads what was written down of a job that was made for what is imported.
    pub(super) fn read_imported(
        &mut self,
        job: JobId,
        reply: oneshot::Sender<Result<(), JobsError>>,
    ) {
        let metadata = Arc::clone(&self.metadata);
        self.spawn(async move {
            let whole = |record: &&JobRecord| record.outcome.is_some() && !record.is_importing();
            let read = look(&*metadata, move |state| {
                let record = state.jobs.get(&job).filter(whole);
                record.map(|record| Box::new(record.clone()))
            });
            Done::Imported {
                record: read.await.map_err(JobsError::from),
                reply,
            }
        });
    }

    /// Writes down that a job is to end.
    pub(super) fn cancel(&mut self, job: JobId, reply: oneshot::Sender<Result<(), JobsError>>) {
        let answer = self.propose(Change::Cancel { job }, PROPOSAL_PATIENCE);
        self.spawn(async move {
            // One that has ended already is as good.
            let result = answer.await.map(|_| ()).map_err(JobsError::from);
            Done::Cancelled { job, result, reply }
        });
    }

    /// Writes down how many tasks a job is to have; then it changes at one of its next barriers.
    pub(super) fn rescale(&mut self, job: JobId, parallelism: Parallelism, by: Wisher) {
        let change = Change::Rescale {
            job,
            parallelism: parallelism.clone(),
            fixed: matches!(by, Wisher::User(_)),
        };
        let answer = self.propose(change, PROPOSAL_PATIENCE);
        self.spawn(async move {
            let result = match answer.await {
                Ok(Answer::Refused(Refusal::Ended(job))) => Err(JobsError::Ended(job)),
                Ok(Answer::Refused(Refusal::UnknownJob(job))) => Err(JobsError::Unknown(job)),
                Ok(_) => Ok(()),
                Err(error) => Err(error.into()),
            };
            Done::Rescaled {
                job,
                parallelism,
                by,
                result,
            }
        });
    }

    /// Writes down that a job keeps the numbers of tasks that it has.
    pub(super) fn note_parallelism(&mut self, job: JobId, parallelism: Parallelism) {
        let change = Change::Rescale {
            job,
            parallelism,
            fixed: false,
        };
        let answer = self.propose(change, PROPOSAL_PATIENCE);
        self.spawn(async move {
            if let Err(error) = answer.await {
                // Whoever leads next tries once more what could not be done.
                tracing::warn!(%job, %error, "failed to write down the parallelism of a job");
            }
            Done::Nothing
        });
    }

    /// Has the metadata note a routing with the epoch that is to carry it.
    fn record_routing(
        &mut self,
        job: JobId,
        generation: Generation,
        epoch: Epoch,
        routing: Routing,
    ) {
        let change = Change::Reroute {
            job,
            generation,
            epoch,
            routing,
        };
        let answer = self.propose(change, PROPOSAL_PATIENCE);
        self.spawn(async move {
            let error = match answer.await {
                Ok(Answer::Done) => {
                    return Done::Event(job, Event::RoutingRecorded { generation, epoch });
                }
                Ok(Answer::Refused(refusal)) => refusal.to_string(),
                Ok(other) => odd(&other).to_string(),
                Err(error) => error.to_string(),
            };
            // Whether it is noted is not known: a new generation finds out.
            let event = Event::StateFailed {
                generation,
                error,
                retryable: true,
            };
            Done::Event(job, event)
        });
    }

    /// Writes down within what a job follows its load.
    pub(super) fn autoscale(
        &mut self,
        job: JobId,
        policy: Option<AutoscalePolicy>,
        reply: oneshot::Sender<Result<(), JobsError>>,
    ) {
        let answer = self.propose(Change::Autoscale { job, policy }, PROPOSAL_PATIENCE);
        self.spawn(async move {
            let result = match answer.await {
                Ok(Answer::Refused(Refusal::Ended(job))) => Err(JobsError::Ended(job)),
                Ok(Answer::Refused(_)) => Err(JobsError::Unknown(job)),
                Ok(_) => Ok(()),
                Err(error) => Err(error.into()),
            };
            Done::Autoscale(AutoscaleDone {
                job,
                policy,
                result,
                reply,
            })
        });
    }

    /// Writes down what a user wants of a job.
    pub(super) fn ask(
        &mut self,
        job: JobId,
        ask: Ask,
        now_ms: u64,
        reply: oneshot::Sender<Result<Answer, JobsError>>,
    ) {
        let change = match ask.clone() {
            Ask::Stop(stop) => Change::Stop { job, stop },
            Ask::Save { name, at } => Change::Save {
                job,
                name,
                at,
                now_ms,
            },
            Ask::DropSavepoint { name } => Change::DropSavepoint { job, name },
            Ask::Resume(at) => Change::Resume { job, at },
            Ask::Upgrade(replacement) => {
                let (catalog, statements) = replacement.catalog;
                Change::Upgrade {
                    job,
                    catalog: Some(catalog),
                    statements,
                    mode: replacement.mode,
                    savepoint: replacement.savepoint,
                    spec: Box::new(replacement.spec),
                    now_ms,
                    seed: self.random.next_u64(),
                }
            }
        };
        let answer = self.propose(change, PROPOSAL_PATIENCE);
        self.spawn(async move {
            let result = match answer.await {
                Ok(Answer::Refused(refusal)) => Err(refusal.into()),
                Ok(answer) => Ok(answer),
                Err(error) => Err(error.into()),
            };
            Done::Asked {
                job,
                ask,
                result,
                reply,
            }
        });
    }

    /// Writes down that a job is not run any more until its user says so.
    pub(super) fn quarantine(&mut self, job: JobId, error: String, at_ms: u64) {
        let change = Change::Quarantine { job, error, at_ms };
        let answer = self.propose(change, END_PATIENCE);
        self.spawn(async move {
            // Whoever leads next starts the job again and comes to the same end.
            if let Err(error) = answer.await {
                tracing::error!(%job, %error, "failed to write down that a job is in quarantine");
            }
            Done::Quarantined(job)
        });
    }

    /// Tells the state service of what was let go.
    pub(super) fn released(&mut self, job: JobId, objects: Vec<String>) {
        let told = self.state.released(job, objects);
        self.spawn(async move {
            told.await;
            Done::Nothing
        });
    }

    /// Writes down that jobs are to be forgotten: all or none.
    pub(super) fn forget(
        &mut self,
        jobs: Vec<JobId>,
        reply: oneshot::Sender<Result<(), JobsError>>,
    ) {
        let change = match *jobs {
            [job] => Change::Forget { job },
            _ => Change::ForgetAll { jobs: jobs.clone() },
        };
        let answer = self.propose(change, PROPOSAL_PATIENCE);
        self.spawn(async move {
            let result = match answer.await {
                Ok(Answer::Refused(Refusal::NotEnded(job))) => Err(JobsError::NotEnded(job)),
                Ok(Answer::Refused(refusal @ Refusal::HasSavepoints(_))) => Err(refusal.into()),
                // One that has been forgotten already is as good.
                Ok(_) => Ok(()),
                Err(error) => Err(error.into()),
            };
            Done::Forgotten {
                jobs,
                result,
                reply,
            }
        });
    }

    /// Writes down how a job ended, then has its state dropped.
    pub(super) fn end(&mut self, job: JobId, outcome: Outcome) {
        let state = outcome.state;
        let answer = self.propose(Change::End { job, outcome }, END_PATIENCE);
        let dropped = self.dropped(job);
        self.spawn(async move {
            let mut successor = None;
            match answer.await {
                Ok(answer) => {
                    if let Answer::Succeeded { by } = answer {
                        successor = Some(by);
                    }
                    dropped.await;
                }
                // Whoever leads next starts the job again and comes to the same end.
                Err(error) => {
                    tracing::error!(%job, %error, "failed to write down the end of a job");
                }
            }
            Done::Ended(job, state, successor)
        });
    }

    /// Has the state of a job dropped that had ended before.
    pub(super) fn drop_state(&mut self, job: JobId) {
        let dropped = self.dropped(job);
        self.spawn(async move {
            dropped.await;
            Done::Nothing
        });
    }

    /// Drops the state of a job that has ended. Where nothing is left of it at once, nobody else
    /// would say so, and its record would stay for ever.
    fn dropped(&mut self, job: JobId) -> BoxFuture<'static, ()> {
        let store = Arc::clone(&self.state);
        let told = self.propose(Change::Dropped { job }, PROPOSAL_PATIENCE);
        async move {
            match store.drop_job(job).await {
                Ok(Dropped::Gone) => {
                    if let Err(error) = told.await {
                        tracing::warn!(%job, %error, "failed to write down that no state is left");
                    }
                }
                // Whoever deletes them says when they are gone.
                Ok(Dropped::Files) => {}
                Err(error) => tracing::warn!(%job, %error, "failed to tidy up state"),
            }
        }
        .boxed()
    }

    /// Starts the request of an effect; other effects are not for the state service.
    pub(super) fn start(&mut self, job: JobId, effect: Effect) {
        let who = |generation: Generation| Incarnation { job, generation };
        let request: (Generation, BoxFuture<'static, Result<Event, StateError>>) = match effect {
            Effect::BeginGeneration { generation } => {
                let reply = self.state.begin(who(generation));
                let event = move |begun: Begun| Event::StateBegun {
                    generation,
                    restored: begun.restored,
                    first: begun.first,
                };
                (generation, reply.map(move |reply| reply.map(event)).boxed())
            }
            Effect::Commit {
                generation,
                epoch,
                objects,
                overtaken_bytes,
            } => {
                let who = who(generation);
                let reply = self.state.commit(who, epoch, objects, overtaken_bytes);
                let event = Event::EpochCommitted { generation, epoch };
                let reply = reply.map(move |reply| reply.map(|()| event));
                (generation, reply.boxed())
            }
            Effect::RecordRouting {
                generation,
                epoch,
                routing,
            } => return self.record_routing(job, generation, epoch, routing),
            Effect::RecordPublished {
                generation,
                sink,
                epoch,
            } => {
                let reply = self.state.published(who(generation), sink, epoch);
                self.spawn(async move {
                    if let Err(error) = reply.await {
                        // What is left over is published again, which changes nothing.
                        tracing::debug!(%job, %error, "failed to write down what is published");
                    }
                    Done::Nothing
                });
                return;
            }
            _ => return,
        };
        let (generation, reply) = request;
        let reply = AssertUnwindSafe(reply).catch_unwind();
        self.spawn(async move {
            let (error, retryable) = match reply.await {
                Ok(Ok(event)) => return Done::Event(job, event),
                Ok(Err(error)) => (error.to_string(), error.is_retryable()),
                Err(_) => ("the state store panicked".to_owned(), false),
            };
            let event = Event::StateFailed {
                generation,
                error,
                retryable,
            };
            Done::Event(job, event)
        });
    }

    fn propose(
        &mut self,
        change: Change,
        patience: Duration,
    ) -> BoxFuture<'static, Result<Answer, MetadataError>> {
        let metadata = Arc::clone(&self.metadata);
        let request = self.random.next_u64();
        async move { propose(&metadata, request, change, patience).await }.boxed()
    }

    fn spawn(&mut self, request: impl Future<Output = Done> + Send + 'static) {
        self.in_flight.spawn(request.in_current_span());
    }

    /// The next request that is done; pending while none is in flight.
    pub(super) async fn next(&mut self) -> Done {
        match self.in_flight.join_next().await {
            Some(done) => done.unwrap_or(Done::Nothing),
            None => std::future::pending().await,
        }
    }
}

pub(super) fn odd(answer: &Answer) -> MetadataError {
    MetadataError::Closed {
        why: format!("it answered {answer:?}"),
    }
}
