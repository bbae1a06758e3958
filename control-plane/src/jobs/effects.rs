//! Carrying out what the core of a job wants done.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use coordinator::{
    Effect, JobState,
    meta::Outcome,
    place::{Parallelism, Routing},
};
use proto::{
    control::{Deployment, ExchangeMap, WorkerCommand},
    types::WorkerId,
};
use rpc::trace_context;

use super::{Driver, ExceptionRecord, JobEntry, deployment::deployment};

impl Driver {
    pub(super) fn carry_out(&mut self, entry: &Arc<JobEntry>, effect: Effect) {
        let job = entry.id;
        let span = self.traces.on_effect(entry, &effect);
        let _entered = span.enter();
        match effect {
            Effect::BeginGeneration { .. }
            | Effect::RecordRouting { .. }
            | Effect::Commit { .. }
            | Effect::RecordPublished { .. } => self.in_flight.start(job, effect),
            Effect::ListSplits { .. } | Effect::Deploy { .. } | Effect::Prepare { .. } => {
                self.send_tasks(entry, effect);
            }
            Effect::RescaleFailed { error, parallelism } => {
                self.keep_parallelism(entry, error, parallelism);
            }
            Effect::StopAt { workers } => {
                for worker in workers {
                    self.send(worker, WorkerCommand::Stop { job });
                }
            }
            Effect::KeepRouting { .. }
            | Effect::SendBarrier { .. }
            | Effect::StopSources { .. }
            | Effect::SendCommitted { .. } => self.tell(entry, &effect),
            Effect::Suspend => {
                self.keep_figures(entry);
                self.send_all(entry, || WorkerCommand::Suspend { job });
            }
            Effect::Stop => {
                // Workers forget figures with the tasks.
                self.keep_figures(entry);
                self.send_all(entry, || WorkerCommand::Stop { job });
            }
            // With the end, once that is written down.
            Effect::DropState => {}
            Effect::ReportState(state) if state.is_terminal() => self.end(entry, state),
            // Users are told once it is written down.
            Effect::ReportState(JobState::Quarantined) => self.quarantine(entry),
            Effect::ReportState(state) => {
                tracing::info!(%job, %state, "job is now in this state");
                entry.state.send_replace(state);
            }
        }
    }

    /// Sends tasks out.
    fn send_tasks(&self, entry: &JobEntry, effect: Effect) {
        let job = entry.id;
        match effect {
            Effect::ListSplits {
                generation,
                restored,
                worker,
                tasks,
            } => {
                let deployment = Deployment {
                    restored,
                    new_sources: entry.new_sources(restored),
                    tasks,
                    exchange: ExchangeMap {
                        here: worker,
                        ..ExchangeMap::default()
                    },
                    ..deployment(entry, generation)
                };
                let command = WorkerCommand::ListSplits(Box::new(deployment));
                self.send(worker, command);
            }
            Effect::Deploy {
                generation,
                restored,
                has_overtaken,
                routing,
                splits,
            } => {
                let deployment = Deployment {
                    restored,
                    has_overtaken,
                    new_sources: entry.new_sources(restored),
                    splits,
                    ..deployment(entry, generation)
                };
                let workers = routing.workers();
                self.deploy(&deployment, routing, &workers, WorkerCommand::Deploy);
            }
            Effect::Prepare {
                generation,
                restored,
                routing,
                workers,
            } => {
                tracing::info!(%job, routing = routing.version, "job is to get another routing");
                let deployment = Deployment {
                    restored,
                    ..deployment(entry, generation)
                };
                self.deploy(&deployment, routing, &workers, WorkerCommand::Prepare);
            }
            _ => {}
        }
    }

    /// Tells all workers of the generation.
    fn tell(&self, entry: &JobEntry, effect: &Effect) {
        let job = entry.id;
        match *effect {
            Effect::KeepRouting {
                generation,
                routing,
            } => {
                self.send_all(entry, || WorkerCommand::KeepRouting {
                    job,
                    generation,
                    routing,
                });
            }
            Effect::SendBarrier {
                generation,
                epoch,
                routing,
                aligned,
            } => {
                self.send_all(entry, || WorkerCommand::Barrier {
                    job,
                    generation,
                    epoch,
                    routing,
                    aligned,
                    traceparent: trace_context::current(),
                });
            }
            Effect::SendCommitted { generation, epoch } => {
                self.send_all(entry, || WorkerCommand::Committed {
                    job,
                    generation,
                    epoch,
                });
            }
            Effect::StopSources { generation, drain } => {
                self.send_all(entry, || WorkerCommand::StopSources {
                    job,
                    generation,
                    drain,
                });
            }
            _ => {}
        }
    }

    /// A change of the parallelism was given up.
    fn keep_parallelism(&mut self, entry: &JobEntry, error: String, parallelism: Parallelism) {
        let job = entry.id;
        tracing::warn!(%job, error, "job keeps its parallelism");
        entry.push_exception(ExceptionRecord {
            at_us: self.now_us(),
            generation: entry.generation(),
            task: None,
            error: format!("the change of the parallelism was given up: {error}"),
        });
        entry.refuse_rescale(error, self.now_us());
        self.in_flight.note_parallelism(job, parallelism);
    }

    fn quarantine(&mut self, entry: &JobEntry) {
        self.keep_figures(entry);
        let error = entry.last_error().unwrap_or_default();
        tracing::warn!(job = %entry.id, error, "job is in quarantine");
        self.in_flight.quarantine(entry.id, error, (self.wall_ms)());
    }

    /// Writes down how the job has ended; users are told after that.
    fn end(&mut self, entry: &JobEntry, state: JobState) {
        let error = entry.last_error().filter(|_| state == JobState::Failed);
        let at_ms = (self.wall_ms)();
        let outcome = Outcome {
            state,
            error,
            at_ms,
        };
        self.in_flight.end(entry.id, outcome);
    }

    /// Sends each of `workers` the whole deployment and its own place in it.
    fn deploy(
        &self,
        deployment: &Deployment,
        routing: Routing,
        workers: &BTreeSet<WorkerId>,
        command: impl Fn(Box<Deployment>) -> WorkerCommand,
    ) {
        let known = self.workers.list();
        let used = known.iter().filter(|worker| workers.contains(&worker.id));
        let addresses: BTreeMap<WorkerId, String> = used
            .map(|worker| (worker.id, worker.address.clone()))
            .collect();
        let deployment = Deployment {
            routing: routing.version,
            tasks: routing.tasks,
            groups: routing.groups,
            ..deployment.clone()
        };
        for worker in addresses.keys() {
            let exchange = ExchangeMap {
                here: *worker,
                workers: addresses.clone(),
                place: routing.place.clone(),
            };
            let deployment = Deployment {
                exchange,
                ..deployment.clone()
            };
            self.send(*worker, command(Box::new(deployment)));
        }
    }

    fn send(&self, worker: WorkerId, command: WorkerCommand) {
        if let Some(worker) = self.workers.get(worker) {
            worker.link.send(command);
        }
    }

    /// To all workers that the job's current generation was sent to.
    fn send_all(&self, entry: &JobEntry, command: impl Fn() -> WorkerCommand) {
        let deployed = entry.core().deployed().clone();
        for worker in deployed {
            self.send(worker, command());
        }
    }
}
