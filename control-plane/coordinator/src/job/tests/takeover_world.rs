//! A job with workers that run, a log of metadata, and leaders that are lost: what is on its way to
//! and from a leader goes with it, what workers run stays. Input counts once, or a step fails.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proto::{
    control::{Deployment, ExchangeMap, JobOptions, WorkerCommand},
    log::LogObject,
    plan::Plan,
    types::{Epoch, Generation, JobId, KeyGroupCount, SinkId, TaskId, WorkerId},
};

use super::takeover_workers::WorkerModel;
use crate::{
    Effect, Event, Job, JobFacts, JobState,
    meta::{Answer, Change, Command, Desired, JobRecord, JobSpec, MetaState, Refusal, Stop},
    place::{PlanShape, Routing},
};

pub(super) const JOB: JobId = JobId(1);
/// Rows that each task has to read.
pub(super) const ROWS: u64 = 60;

pub(super) struct World {
    pub(super) meta: MetaState,
    pub(super) job: Job,
    pub(super) now_us: u64,
    /// What the leader has not taken in yet.
    pub(super) inbox: VecDeque<Event>,
    /// What was asked of the metadata.
    pub(super) requests: VecDeque<Effect>,
    pub(super) workers: BTreeMap<WorkerId, WorkerModel>,
    /// What the last worker that came is called.
    last_worker: WorkerId,
    /// Whether jobs wait for more workers before they are told of those that are there.
    pub(super) gathering: bool,
    pub(super) leaving: BTreeSet<WorkerId>,
    /// Up to which row each task's input is committed.
    pub(super) committed: BTreeMap<TaskId, u64>,
    /// Commits in order.
    pub(super) history: Vec<Epoch>,
    /// Epochs whose barriers may overtake.
    pub(super) unaligned: BTreeSet<Epoch>,
    /// Commits whose barriers have, and who saved that.
    overtaken: BTreeMap<Epoch, Routing>,
    pub(super) sections: BTreeMap<String, (TaskId, u64, u64)>,
    pub(super) stopped: bool,
    /// A leader was lost when some worker had nothing to tell: it had not been told to begin, or had
    /// ended.
    pub(super) unfit: bool,
    request: u64,
}

fn facts() -> JobFacts {
    JobFacts {
        shape: PlanShape {
            key_groups: KeyGroupCount::DEFAULT,
            singletons: vec![false],
        },
        publishing: [SinkId(0)].into(),
        has_sources: false,
    }
}

fn spec() -> JobSpec {
    JobSpec {
        name: "job".to_owned(),
        sql: "INSERT".to_owned(),
        plan: Plan {
            key_groups: 128,
            ..Plan::default()
        }
        .into(),
        options: JobOptions {
            parallelism: 2,
            restarts_max: 1000,
            ..JobOptions::default()
        },
        select: None,
        origin: None,
        tables_max: 0,
    }
}

impl World {
    /// A job that was submitted, and workers that are connected.
    pub(super) fn new(workers: u64) -> World {
        let mut world = World {
            meta: MetaState::default(),
            job: Job::new(facts(), spec().options, 1),
            now_us: 0,
            inbox: VecDeque::new(),
            requests: VecDeque::new(),
            workers: BTreeMap::new(),
            last_worker: WorkerId(workers),
            gathering: false,
            leaving: BTreeSet::new(),
            committed: BTreeMap::new(),
            history: Vec::new(),
            unaligned: BTreeSet::new(),
            overtaken: BTreeMap::new(),
            sections: BTreeMap::new(),
            stopped: false,
            unfit: false,
            request: 0,
        };
        let accepted = world.propose(Change::Accept {
            catalog: None,
            statements: None,
            jobs: vec![spec()],
            now_ms: 0,
            seed: 1,
        });
        assert_eq!(accepted, Answer::Accepted { jobs: vec![JOB] });
        world.job = Job::of_record(facts(), world.record(), 1);
        for id in 1..=workers {
            world.workers.insert(WorkerId(id), WorkerModel::connected());
        }
        world.tell_workers();
        world.inbox.push_back(Event::Submitted);
        world
    }

    pub(super) fn record(&self) -> &JobRecord {
        self.meta.job(JOB).expect("it was accepted")
    }

    fn propose(&mut self, change: Change) -> Answer {
        self.request += 1;
        let request = self.request;
        self.meta.apply(Command { request, change })
    }

    /// Whether it is over and nothing happens any more.
    pub(super) fn is_over(&self) -> bool {
        self.job.state().is_terminal()
    }

    pub(super) fn is_connected(&self) -> bool {
        self.workers.values().all(|worker| worker.connected)
    }

    pub(super) fn tell_workers(&mut self) {
        let there = self.workers.iter().filter(|(_, worker)| worker.connected);
        let mut there: BTreeSet<WorkerId> = there.map(|(id, _)| *id).collect();
        if self.gathering {
            there.retain(|id| self.job.deployed().contains(id));
        }
        self.handle(Event::Workers(there));
    }

    pub(super) fn handle(&mut self, event: Event) {
        let effects = self.job.handle(event, self.now_us);
        for effect in effects {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        let job = JOB;
        match effect {
            Effect::BeginGeneration { .. }
            | Effect::RecordRouting { .. }
            | Effect::Commit { .. }
            | Effect::RecordPublished { .. } => self.requests.push_back(effect),
            Effect::Deploy {
                generation,
                restored,
                has_overtaken,
                routing,
                ..
            } => {
                let saved = self.overtaken.get(&restored);
                assert_eq!(has_overtaken, saved.is_some(), "as of {restored}");
                assert!(saved.is_none_or(|saved| routing.has_tasks_of(saved)));
                let workers = routing.workers();
                let make = |deployment| WorkerCommand::Deploy(deployment);
                self.deploy((generation, restored), &routing, &workers, make);
            }
            Effect::Prepare {
                generation,
                restored,
                routing,
                workers,
            } => {
                let make = |deployment| WorkerCommand::Prepare(deployment);
                self.deploy((generation, restored), &routing, &workers, make);
            }
            Effect::KeepRouting {
                generation,
                routing,
            } => self.send_all(&WorkerCommand::KeepRouting {
                job,
                generation,
                routing,
            }),
            Effect::SendBarrier {
                generation,
                epoch,
                routing,
                aligned,
            } => self.send_all(&WorkerCommand::Barrier {
                job,
                generation,
                epoch,
                routing,
                aligned,
                traceparent: None,
            }),
            Effect::SendCommitted { generation, epoch } => {
                self.send_all(&WorkerCommand::Committed {
                    job,
                    generation,
                    epoch,
                });
            }
            Effect::StopSources { generation, drain } => {
                self.send_all(&WorkerCommand::StopSources {
                    job,
                    generation,
                    drain,
                });
            }
            Effect::Stop => self.send_all(&WorkerCommand::Stop { job }),
            Effect::Suspend => self.send_all(&WorkerCommand::Suspend { job }),
            Effect::StopAt { workers } => {
                for worker in workers {
                    self.send(worker, WorkerCommand::Stop { job });
                }
            }
            Effect::ListSplits { .. } => panic!("it has no sources to be listed"),
            Effect::DropState | Effect::ReportState(_) | Effect::RescaleFailed { .. } => {}
        }
    }

    fn deploy(
        &mut self,
        (generation, restored): (Generation, Epoch),
        routing: &Routing,
        workers: &BTreeSet<WorkerId>,
        command: impl Fn(Box<Deployment>) -> WorkerCommand,
    ) {
        for worker in workers {
            let deployment = Deployment {
                job: JOB,
                generation,
                restored,
                has_overtaken: false,
                plan: Plan::default().into(),
                routing: routing.version,
                tasks: routing.tasks.clone(),
                groups: routing.groups.clone(),
                options: JobOptions::default(),
                created_ms: 0,
                run: 0,
                exchange: ExchangeMap {
                    here: *worker,
                    workers: BTreeMap::new(),
                    place: routing.place.clone(),
                },
                splits: None,
                new_sources: Vec::new(),
                traceparent: None,
            };
            self.send(*worker, command(Box::new(deployment)));
        }
    }

    fn send_all(&mut self, command: &WorkerCommand) {
        for worker in self.job.deployed().clone() {
            self.send(worker, command.clone());
        }
    }

    fn send(&mut self, worker: WorkerId, command: WorkerCommand) {
        if let Some(worker) = self.workers.get_mut(&worker)
            && worker.connected
        {
            worker.commands.push_back(command);
        }
    }

    /// The leader takes in what came first.
    pub(super) fn hear(&mut self) -> bool {
        let Some(event) = self.inbox.pop_front() else {
            return false;
        };
        self.handle(event);
        true
    }

    /// The metadata see to what was asked first.
    pub(super) fn decide(&mut self) -> bool {
        let Some(effect) = self.requests.pop_front() else {
            return false;
        };
        if let Some(event) = self.answer(effect) {
            self.inbox.push_back(event);
        }
        true
    }

    fn answer(&mut self, effect: Effect) -> Option<Event> {
        let failed = |generation, answer: Answer| {
            Some(Event::StateFailed {
                generation,
                error: format!("{answer:?}"),
                retryable: true,
            })
        };
        match effect {
            Effect::BeginGeneration { generation } => {
                let change = Change::Begin {
                    job: JOB,
                    generation,
                };
                match self.propose(change) {
                    Answer::Begun { restored, first } => Some(Event::StateBegun {
                        generation,
                        restored,
                        first,
                    }),
                    other => failed(generation, other),
                }
            }
            Effect::RecordRouting {
                generation,
                epoch,
                routing,
            } => {
                let change = Change::Reroute {
                    job: JOB,
                    generation,
                    epoch,
                    routing,
                };
                match self.propose(change) {
                    Answer::Done => Some(Event::RoutingRecorded { generation, epoch }),
                    other => failed(generation, other),
                }
            }
            Effect::Commit {
                generation,
                epoch,
                objects,
                overtaken_bytes,
            } => {
                let change = Change::Commit {
                    job: JOB,
                    generation,
                    previous: self.record().committed,
                    epoch,
                    objects: objects.clone(),
                    overtaken_bytes,
                    published: BTreeMap::new(),
                };
                match self.propose(change) {
                    Answer::Trimmed { .. } => {
                        if overtaken_bytes > 0 {
                            let routing = self.job.routing().clone();
                            self.overtaken.insert(epoch, routing);
                        }
                        self.count(epoch, &objects);
                    }
                    // It was committed under the leader before.
                    Answer::Refused(Refusal::OutOfOrder { committed, .. })
                        if committed == epoch => {}
                    other => return failed(generation, other),
                }
                Some(Event::EpochCommitted { generation, epoch })
            }
            _ => None,
        }
    }

    /// Every row counts once, in order.
    fn count(&mut self, epoch: Epoch, objects: &[LogObject]) {
        assert!(self.history.last() < Some(&epoch), "{epoch} comes again");
        self.history.push(epoch);
        for object in objects {
            let (task, from, to) = self.sections[&object.name];
            let committed = self.committed.entry(task).or_default();
            assert_eq!(
                *committed, from,
                "{task} in {epoch}: rows are lost or count twice"
            );
            *committed = to;
        }
    }

    /// The leader is lost, with what is on its way: of each queue a part has arrived. The next one is
    /// there at once.
    pub(super) fn lose_leader(&mut self, mut arrived: impl FnMut(usize) -> usize) {
        let ids: Vec<WorkerId> = self.workers.keys().copied().collect();
        for id in ids {
            let count = arrived(self.workers[&id].commands.len());
            (0..count).for_each(|_| _ = self.obey(id));
            let worker = self.workers.get_mut(&id).expect("it is there");
            worker.commands.clear();
            worker.connected = false;
        }
        for _ in 0..arrived(self.requests.len()) {
            self.decide();
        }
        let has_part = |worker: &WorkerModel| worker.running.parts().next().is_some();
        self.unfit |= !self.workers.values().all(has_part);
        self.requests.clear();
        self.inbox.clear();
        self.gathering = true;
        self.leaving.clear();
        self.job = Job::of_record(facts(), self.record(), 1);
        let begins = match self.record().generation > Generation::default() {
            true => Event::TakenOver,
            false => Event::Submitted,
        };
        self.handle(begins);
        if let Desired::Stop(stop) = self.record().desired.clone() {
            self.handle(Event::StopRequested { drain: stop.drain });
        }
    }

    /// A worker finds the leader, and tells what it runs.
    pub(super) fn connect(&mut self, id: WorkerId) -> bool {
        let worker = self.workers.get_mut(&id).expect("it is there");
        if worker.connected {
            return false;
        }
        worker.connected = true;
        let part = worker.running.parts().next().cloned().map(Box::new);
        self.handle(Event::Told { worker: id, part });
        self.tell_workers();
        true
    }

    /// A worker dies; another one comes in its place.
    pub(super) fn lose_worker(&mut self, id: WorkerId) {
        self.workers.remove(&id);
        self.tell_workers();
        self.start_worker();
    }

    /// A worker comes. It has a name of its own: who is gone never comes back under the same one.
    pub(super) fn start_worker(&mut self) {
        self.last_worker = WorkerId(self.last_worker.0 + 1);
        let id = self.last_worker;
        self.workers.insert(id, WorkerModel::default());
        self.connect(id);
    }

    pub(super) fn stop(&mut self, drain: bool) {
        let stop = Stop {
            savepoint: None,
            drain,
        };
        let stopped = self.propose(Change::Stop { job: JOB, stop });
        if stopped == Answer::Done {
            self.stopped = true;
            self.inbox.push_back(Event::StopRequested { drain });
        }
    }

    pub(super) fn tick(&mut self, us: u64) {
        self.now_us += us;
        if self.job.wake_at_us().is_some_and(|at| at <= self.now_us) {
            self.handle(Event::Tick);
        }
    }

    /// One round in which everybody does what there is to do; whether anything was.
    pub(super) fn round(&mut self, mut before_each: impl FnMut(&mut World)) -> bool {
        let mut moved = false;
        let mut step = |world: &mut World, act: &mut dyn FnMut(&mut World) -> bool| {
            if !world.is_over() {
                before_each(world);
                moved |= act(world);
            }
        };
        step(self, &mut World::hear);
        step(self, &mut World::decide);
        for id in self.workers.keys().copied().collect::<Vec<_>>() {
            step(self, &mut |world: &mut World| world.connect(id));
            step(self, &mut |world: &mut World| world.obey(id));
            step(self, &mut |world: &mut World| world.read(id, 3));
            step(self, &mut |world: &mut World| world.stage(id));
            step(self, &mut |world: &mut World| world.publish(id));
        }
        if self.gathering && self.is_connected() {
            self.gathering = false;
            self.tell_workers();
            moved = true;
        }
        moved
    }

    /// Goes on until the job is over.
    pub(super) fn finish(&mut self, mut before_each: impl FnMut(&mut World)) {
        for _ in 0..4000 {
            if self.is_over() {
                return self.check_end();
            }
            let moved = self.round(&mut before_each);
            self.tick(if moved { 200_000 } else { 500_000 });
        }
        let why = self.job.last_error();
        panic!(
            "{} for ever, last {why:?}, at {:?}",
            self.job.state(),
            self.committed
        );
    }

    fn check_end(&self) {
        assert_eq!(
            self.job.state(),
            JobState::Finished,
            "{:?}",
            self.job.last_error()
        );
        let all: Vec<u64> = self.committed.values().copied().collect();
        assert!(self.stopped || all == [ROWS, ROWS], "{all:?}");
    }
}
