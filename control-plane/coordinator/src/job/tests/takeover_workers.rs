//! The workers of a job whose leaders are lost: what they do of what they were told, and say of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proto::{
    control::{Deployment, TaskSpec, WorkerCommand, WorkerEvent, WorkerEventKind},
    log::{LogHolding, LogObject},
    running::RunningJobs,
    types::{Epoch, Generation, ShardId, SinkId, TaskId, WorkerId},
};

use super::takeover_world::{JOB, ROWS, World};
use crate::{Event, JobState};

/// A task as it runs on a worker.
#[derive(Debug)]
pub(super) struct TaskModel {
    read: u64,
    /// Where the last barrier was.
    cut: u64,
    barrier: Epoch,
    /// Cut, and not staged yet: epoch, and from where to where.
    unstaged: Option<(Epoch, u64, u64)>,
    /// It goes on from this epoch, once that is committed.
    starts_from: Option<Epoch>,
    held: bool,
    drained: bool,
    /// The routing in which it has said that it has finished.
    finished: Option<u32>,
}

#[derive(Default)]
pub(super) struct WorkerModel {
    /// Whether the leader has its stream.
    pub(super) connected: bool,
    pub(super) running: RunningJobs,
    pub(super) commands: VecDeque<WorkerCommand>,
    generation: Generation,
    routing: u32,
    tasks: BTreeMap<TaskId, TaskModel>,
    /// Tasks that go with the commit of an epoch.
    leaving: Vec<(Epoch, TaskId, TaskModel)>,
    next: Option<Box<Deployment>>,
    committed: Epoch,
    published: Epoch,
}

impl WorkerModel {
    /// One without tasks whose stream the leader has.
    pub(super) fn connected() -> WorkerModel {
        WorkerModel {
            connected: true,
            ..WorkerModel::default()
        }
    }
}

impl World {
    fn say(&mut self, id: WorkerId, kind: WorkerEventKind) {
        let worker = self.workers.get_mut(&id).expect("it is there");
        let generation = worker.generation;
        worker.running.said(&WorkerEvent {
            job: JOB,
            generation,
            kind: kind.clone(),
        });
        if worker.connected {
            let worker = id;
            self.inbox.push_back(Event::Worker {
                worker,
                generation,
                kind,
            });
        }
    }

    fn task(&self, spec: &TaskSpec) -> TaskModel {
        let committed = self.committed.get(&spec.task).copied().unwrap_or_default();
        TaskModel {
            read: committed,
            cut: committed,
            barrier: Epoch::ZERO,
            unstaged: None,
            starts_from: None,
            held: false,
            drained: false,
            finished: None,
        }
    }

    /// A worker does what it was told first.
    pub(super) fn obey(&mut self, id: WorkerId) -> bool {
        let worker = self.workers.get_mut(&id).expect("it is there");
        let Some(command) = worker.commands.pop_front() else {
            return false;
        };
        worker.running.heard(&command);
        let generation = worker.generation;
        match command {
            WorkerCommand::Deploy(deployment) => {
                let tasks = deployment.tasks_here();
                let tasks = tasks.iter().map(|spec| (spec.task, self.task(spec)));
                let tasks = tasks.collect();
                let connected = self.workers[&id].connected;
                let running = self.workers[&id].running.clone();
                let commands = self.workers[&id].commands.clone();
                let worker = WorkerModel {
                    connected,
                    running,
                    commands,
                    generation: deployment.generation,
                    routing: deployment.routing,
                    tasks,
                    committed: deployment.restored,
                    ..WorkerModel::default()
                };
                self.workers.insert(id, worker);
                self.say(id, WorkerEventKind::Running);
            }
            WorkerCommand::Prepare(deployment) => {
                if worker.generation < deployment.generation {
                    worker.tasks.clear();
                    worker.leaving.clear();
                    worker.generation = deployment.generation;
                    worker.routing = 0;
                    worker.published = Epoch::ZERO;
                    worker.committed = deployment.restored;
                }
                let routing = deployment.routing;
                worker.next = Some(deployment);
                self.say(id, WorkerEventKind::Prepared { routing });
            }
            WorkerCommand::KeepRouting { routing, .. } => {
                worker.next.take_if(|next| next.routing <= routing);
            }
            WorkerCommand::Barrier {
                generation: of,
                epoch,
                routing,
                aligned,
                ..
            } if of == generation => {
                if !aligned {
                    self.unaligned.insert(epoch);
                }
                self.pass(id, epoch, routing);
            }
            WorkerCommand::StopSources {
                generation: of,
                drain,
                ..
            } if of == generation => {
                for task in worker.tasks.values_mut() {
                    task.held |= !drain;
                    task.drained |= drain;
                }
            }
            WorkerCommand::Committed {
                generation: of,
                epoch,
                ..
            } if of == generation => {
                worker.committed = worker.committed.max(epoch);
                worker.leaving.retain(|(with, ..)| *with > epoch);
            }
            WorkerCommand::Suspend { .. } => {
                worker.tasks.clear();
                worker.leaving.clear();
            }
            WorkerCommand::Stop { .. } => {
                let ends = self.job.state() == JobState::Finishing;
                let counts = ends && generation == self.job.generation();
                for (task, model) in std::mem::take(&mut worker.tasks) {
                    let committed = self.committed.get(&task).copied().unwrap_or_default();
                    assert!(!counts || model.read == committed, "{task} has more");
                }
                worker.leaving.clear();
                self.say(id, WorkerEventKind::Stopped);
            }
            _ => {}
        }
        true
    }

    /// Tasks of a worker start that go on from an epoch which is committed by now.
    fn start(&mut self, id: WorkerId) {
        let committed = self.record().committed;
        let worker = self.workers.get_mut(&id).expect("it is there");
        for (task, model) in &mut worker.tasks {
            if let Some(epoch) = model.starts_from.take_if(|epoch| *epoch <= committed) {
                let at = self.committed.get(task).copied().unwrap_or_default();
                (model.read, model.cut) = (at, at);
                assert!(model.barrier >= epoch);
            }
        }
    }

    /// A barrier passes all tasks of a worker that have not had it. One that waits for the commit
    /// which it starts from takes what it is told after that.
    fn pass(&mut self, id: WorkerId, epoch: Epoch, routing: u32) {
        self.start(id);
        let committed = self.record().committed;
        let worker = self.workers.get_mut(&id).expect("it is there");
        for task in worker.tasks.values_mut() {
            if task.barrier < epoch {
                assert_eq!(task.starts_from, None, "{epoch} begins before its task");
                assert!(epoch > committed, "{epoch} is over");
                assert_eq!(
                    task.unstaged, None,
                    "{epoch} begins before the last is staged"
                );
                task.barrier = epoch;
                task.unstaged = Some((epoch, task.cut, task.read));
                task.cut = task.read;
            }
        }
        if routing <= worker.routing {
            return;
        }
        // One that has no tasks yet hears barriers of the routing before its first.
        let next = worker.next.as_deref();
        if worker.tasks.is_empty() && next.is_none_or(|next| next.routing > routing) {
            return;
        }
        let next = worker.next.take().expect("it was prepared");
        assert_eq!(next.routing, routing);
        worker.routing = routing;
        let here = next.tasks_here();
        let stay: BTreeSet<TaskId> = here.iter().map(|spec| spec.task).collect();
        let gone = worker.tasks.keys().filter(|task| !stay.contains(task));
        for task in gone.copied().collect::<Vec<_>>() {
            if let Some(model) = worker.tasks.remove(&task) {
                worker.leaving.push((epoch, task, model));
            }
        }
        for task in worker.tasks.values_mut() {
            task.finished = None;
        }
        for spec in here {
            let new = TaskModel {
                starts_from: Some(epoch),
                barrier: epoch,
                ..self.task(&spec)
            };
            let worker = self.workers.get_mut(&id).expect("it is there");
            worker.tasks.entry(spec.task).or_insert(new);
        }
    }

    /// Tasks of a worker read, and say when they have finished.
    pub(super) fn read(&mut self, id: WorkerId, rows: u64) -> bool {
        self.start(id);
        let worker = self.workers.get_mut(&id).expect("it is there");
        let (mut moved, mut finished, routing) = (false, Vec::new(), worker.routing);
        for (task, model) in &mut worker.tasks {
            if model.starts_from.is_some() {
                continue;
            }
            if !model.held && !model.drained && model.read < ROWS {
                model.read = (model.read + rows).min(ROWS);
                moved = true;
            }
            if (model.read == ROWS || model.drained) && model.finished != Some(routing) {
                model.finished = Some(routing);
                finished.push(*task);
            }
        }
        moved |= !finished.is_empty();
        for task in finished {
            self.say(id, WorkerEventKind::Finished { task, routing });
        }
        moved
    }

    /// One task of a worker stages what it has cut.
    pub(super) fn stage(&mut self, id: WorkerId) -> bool {
        let worker = self.workers.get_mut(&id).expect("it is there");
        let generation = worker.generation;
        let leaving = worker.leaving.iter_mut();
        let leaving = leaving.map(|(_, task, model)| (&*task, model));
        let mut all = worker.tasks.iter_mut().chain(leaving);
        let cut = all.find_map(|(task, model)| Some((*task, model.unstaged.take()?)));
        let Some((task, (epoch, from, to))) = cut else {
            return false;
        };
        let name = format!("{generation}/{epoch}/{task}");
        let mut objects = Vec::new();
        // Some barriers overtake on their way to some tasks.
        let overtakes = self.unaligned.contains(&epoch) && epoch.0 % 3 == u64::from(task.0) % 3;
        let overtaken_bytes = u64::from(overtakes && from < to);
        if from < to {
            let before = self.sections.insert(name.clone(), (task, from, to));
            assert_eq!(before, None, "{name} is written twice");
            objects.push(LogObject {
                name,
                bytes: 1,
                holds: LogHolding::Rows(vec![ShardId(0)]),
            });
        }
        self.say(
            id,
            WorkerEventKind::Staged {
                task,
                epoch,
                objects,
                overtaken_bytes,
            },
        );
        true
    }

    /// Whoever has the first task publishes what is committed.
    pub(super) fn publish(&mut self, id: WorkerId) -> bool {
        let worker = self.workers.get_mut(&id).expect("it is there");
        let epoch = worker.committed;
        if !worker.tasks.contains_key(&TaskId(0)) || worker.published >= epoch {
            return false;
        }
        assert!(
            epoch <= self.meta.jobs[&JOB].committed,
            "{epoch} is not committed"
        );
        worker.published = epoch;
        let sink = SinkId(0);
        self.say(id, WorkerEventKind::Published { sink, epoch });
        true
    }
}
