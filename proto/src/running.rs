//! What a worker runs of a job and how far that is: what it tells whoever leads next, so that the job
//! runs on. Follows what passes between worker and control plane, and knows nothing of the tasks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    control::{Deployment, TaskSpec, WorkerCommand, WorkerEvent, WorkerEventKind},
    log::LogObject,
    types::{Epoch, Generation, JobId, KeyGroupMap, SinkId, TaskId, WorkerId},
};

/// The tasks of a job and where they run, as workers were told.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PlacedTasks {
    /// Number of the routing.
    pub routing: u32,
    /// Every task of the job.
    pub tasks: Vec<TaskSpec>,
    /// Who owns the key groups of each fragment.
    pub groups: BTreeMap<u32, KeyGroupMap>,
    /// The worker of each task.
    pub place: BTreeMap<TaskId, WorkerId>,
}

impl PlacedTasks {
    fn of(deployment: &Deployment) -> PlacedTasks {
        let place = |task: &TaskSpec| (task.task, deployment.exchange.worker_of(task.task));
        PlacedTasks {
            routing: deployment.routing,
            tasks: deployment.tasks.clone(),
            groups: deployment.groups.clone(),
            place: deployment.tasks.iter().map(place).collect(),
        }
    }
}

/// A barrier that a worker has heard of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HeardBarrier {
    /// The epoch that it ends.
    pub epoch: Epoch,
    /// Number of the routing that is in force after it.
    pub routing: u32,
}

/// What a task has staged last.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StagedSection {
    /// The epoch, which is not known to be committed.
    pub epoch: Epoch,
    /// What holds it; nothing: the task had changed nothing.
    pub objects: Vec<LogObject>,
    /// Bytes in it of what the barrier has overtaken.
    #[serde(default)]
    pub overtaken_bytes: u64,
}

/// What a worker has of one generation of a job.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobPart {
    /// Job.
    pub job: JobId,
    /// Generation.
    pub generation: Generation,
    /// Nothing that counts runs: a task has failed, or all were told to stop for the next generation,
    /// for which what they hold is kept.
    pub over: bool,
    /// Whether all tasks that were placed here at first are restored.
    pub running: bool,
    /// The routing as of the last commit that was heard of. Without tasks: this worker was told only
    /// of the next one.
    pub placed: PlacedTasks,
    /// The routing that was made ready, or that the last barrier carried.
    pub next: Option<PlacedTasks>,
    /// The last barrier.
    pub barrier: Option<HeardBarrier>,
    /// The last commit, or the one that tasks were restored from.
    pub committed: Epoch,
    /// What tasks here have staged last.
    pub staged: BTreeMap<TaskId, StagedSection>,
    /// Tasks here that have finished, with the routing in which they have.
    pub finished: BTreeMap<TaskId, u32>,
    /// Up to which epoch publishers here have written output outside.
    pub published: BTreeMap<SinkId, Epoch>,
    /// Sources have waited since the last barrier because sinks owe too much.
    pub output_full: bool,
}

impl JobPart {
    fn deployed(deployment: &Deployment) -> JobPart {
        JobPart {
            job: deployment.job,
            generation: deployment.generation,
            over: false,
            running: false,
            placed: PlacedTasks::of(deployment),
            next: None,
            barrier: None,
            committed: deployment.restored,
            staged: BTreeMap::new(),
            finished: BTreeMap::new(),
            published: BTreeMap::new(),
            output_full: false,
        }
    }

    /// One that gets its first tasks with a change of the routing.
    fn prepared(deployment: &Deployment) -> JobPart {
        JobPart {
            running: true,
            placed: PlacedTasks::default(),
            ..JobPart::deployed(deployment)
        }
    }

    fn end(&mut self) {
        self.over = true;
        self.staged.clear();
    }

    /// The epoch is committed: what its barrier carried counts, and sections of it are needed no more.
    pub fn committed(&mut self, epoch: Epoch) {
        self.committed = self.committed.max(epoch);
        self.staged.retain(|_, staged| staged.epoch > epoch);
        if let Some(barrier) = self.barrier.filter(|barrier| barrier.epoch <= epoch)
            && let Some(next) = self.next.take_if(|next| next.routing == barrier.routing)
        {
            self.placed = next;
        }
    }

    /// The worker has said something of this generation.
    pub fn said(&mut self, kind: &WorkerEventKind) {
        match kind {
            WorkerEventKind::Running => self.running = true,
            WorkerEventKind::Staged {
                task,
                epoch,
                objects,
                overtaken_bytes,
            } => {
                let section = StagedSection {
                    epoch: *epoch,
                    objects: objects.clone(),
                    overtaken_bytes: *overtaken_bytes,
                };
                self.staged(*task, section);
            }
            WorkerEventKind::Finished { task, routing } => {
                let known = self.finished.entry(*task).or_default();
                *known = (*known).max(*routing);
            }
            WorkerEventKind::Failed { .. } => self.end(),
            WorkerEventKind::OutputFull => self.output_full = true,
            WorkerEventKind::Published { sink, epoch } => {
                let known = self.published.entry(*sink).or_default();
                *known = (*known).max(*epoch);
            }
            WorkerEventKind::SplitsListed(_)
            | WorkerEventKind::Prepared { .. }
            | WorkerEventKind::NotPrepared { .. }
            | WorkerEventKind::Settled { .. }
            | WorkerEventKind::DeadLetters(_)
            | WorkerEventKind::SinkTroubled { .. }
            | WorkerEventKind::Stopped => {}
        }
    }

    fn staged(&mut self, task: TaskId, section: StagedSection) {
        let known = self.staged.get(&task);
        // What was staged first is as good as what was staged again.
        if section.epoch > self.committed && known.is_none_or(|known| known.epoch < section.epoch) {
            self.staged.insert(task, section);
        }
    }
}

/// What a worker runs, by job.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RunningJobs(BTreeMap<JobId, JobPart>);

impl RunningJobs {
    /// All of it.
    pub fn parts(&self) -> impl Iterator<Item = &JobPart> {
        self.0.values()
    }

    /// The worker is told to do something.
    pub fn heard(&mut self, command: &WorkerCommand) {
        match command {
            WorkerCommand::ListSplits(_) | WorkerCommand::StopSources { .. } => {}
            WorkerCommand::Deploy(deployment) => {
                let part = JobPart::deployed(deployment);
                self.0.insert(deployment.job, part);
            }
            WorkerCommand::Prepare(deployment) => self.prepare(deployment),
            WorkerCommand::KeepRouting {
                job,
                generation,
                routing,
            } => {
                if let Some(part) = self.of(*job, *generation) {
                    // One that a barrier has carried is not given up.
                    let carried = part.barrier.map_or(0, |barrier| barrier.routing);
                    let given_up =
                        |next: &mut PlacedTasks| next.routing <= *routing && next.routing > carried;
                    part.next.take_if(given_up);
                }
            }
            WorkerCommand::Barrier {
                job,
                generation,
                epoch,
                routing,
                ..
            } => {
                let (epoch, routing) = (*epoch, *routing);
                if let Some(part) = self.of(*job, *generation)
                    && part.barrier.is_none_or(|known| known.epoch < epoch)
                {
                    part.barrier = Some(HeardBarrier { epoch, routing });
                    part.output_full = false;
                }
            }
            WorkerCommand::Committed {
                job,
                generation,
                epoch,
            } => {
                if let Some(part) = self.of(*job, *generation) {
                    part.committed(*epoch);
                }
            }
            WorkerCommand::Suspend { job } => {
                if let Some(part) = self.0.get_mut(job) {
                    part.end();
                }
            }
            WorkerCommand::Stop { job } => _ = self.0.remove(job),
        }
    }

    /// The worker has said something.
    pub fn said(&mut self, event: &WorkerEvent) {
        if let Some(part) = self.of(event.job, event.generation) {
            part.said(&event.kind);
        }
    }

    fn of(&mut self, job: JobId, generation: Generation) -> Option<&mut JobPart> {
        let part = self.0.get_mut(&job)?;
        (part.generation == generation).then_some(part)
    }

    fn prepare(&mut self, deployment: &Deployment) {
        let new = || JobPart::prepared(deployment);
        let part = self.0.entry(deployment.job).or_insert_with(new);
        if part.generation < deployment.generation {
            *part = JobPart::prepared(deployment);
        }
        if part.generation == deployment.generation {
            part.next = Some(PlacedTasks::of(deployment));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        control::{ExchangeMap, JobOptions},
        plan::Plan,
    };

    const JOB: JobId = JobId(1);
    const G: Generation = Generation(3);

    fn deployment(routing: u32, tasks: u32) -> Box<Deployment> {
        let tasks = (0..tasks).map(|index| TaskSpec {
            task: TaskId(index),
            fragment: 0,
            index,
        });
        Box::new(Deployment {
            job: JOB,
            generation: G,
            restored: Epoch(15),
            has_overtaken: false,
            plan: Arc::new(Plan::default()),
            routing,
            tasks: tasks.collect(),
            groups: BTreeMap::new(),
            options: JobOptions::default(),
            created_ms: 0,
            run: 0,
            exchange: ExchangeMap {
                here: WorkerId(7),
                ..ExchangeMap::default()
            },
            splits: None,
            new_sources: Vec::new(),
            traceparent: None,
        })
    }

    fn barrier(epoch: u64, routing: u32) -> WorkerCommand {
        WorkerCommand::Barrier {
            job: JOB,
            generation: G,
            epoch: Epoch(epoch),
            routing,
            aligned: false,
            traceparent: None,
        }
    }

    fn committed(epoch: u64) -> WorkerCommand {
        WorkerCommand::Committed {
            job: JOB,
            generation: G,
            epoch: Epoch(epoch),
        }
    }

    fn said(running: &mut RunningJobs, generation: Generation, kind: WorkerEventKind) {
        running.said(&WorkerEvent {
            job: JOB,
            generation,
            kind,
        });
    }

    fn staged(epoch: u64) -> WorkerEventKind {
        WorkerEventKind::Staged {
            task: TaskId(0),
            epoch: Epoch(epoch),
            objects: Vec::new(),
            overtaken_bytes: epoch,
        }
    }

    fn only(running: &RunningJobs) -> JobPart {
        let parts: Vec<&JobPart> = running.parts().collect();
        assert_eq!(parts.len(), 1);
        let text = serde_json::to_string(parts[0]).expect("plain data");
        serde_json::from_str(&text).expect("the same")
    }

    #[test]
    fn a_part_says_how_far_its_tasks_are() {
        let mut running = RunningJobs::default();
        running.heard(&WorkerCommand::Deploy(deployment(1, 2)));
        assert!(!only(&running).running);
        said(&mut running, G, WorkerEventKind::Running);
        running.heard(&barrier(16, 1));
        said(&mut running, Generation(2), staged(16));
        assert!(only(&running).staged.is_empty(), "of another generation");
        said(&mut running, G, staged(16));
        let finished = WorkerEventKind::Finished {
            task: TaskId(0),
            routing: 1,
        };
        said(&mut running, G, finished);
        let part = only(&running);
        let section = &part.staged[&TaskId(0)];
        assert_eq!((section.epoch, section.overtaken_bytes), (Epoch(16), 16));
        assert_eq!(part.finished[&TaskId(0)], 1);
        assert_eq!(part.placed.place[&TaskId(1)], WorkerId(7));
        running.heard(&committed(16));
        // Told late: it is committed.
        said(&mut running, G, staged(16));
        let part = only(&running);
        assert_eq!((part.committed, part.staged.len()), (Epoch(16), 0));
        running.heard(&WorkerCommand::Suspend { job: JOB });
        assert!(only(&running).over);
        running.heard(&WorkerCommand::Stop { job: JOB });
        assert_eq!(running.parts().count(), 0);
    }

    #[test]
    fn a_routing_counts_once_the_epoch_is_committed_that_carried_it() {
        let mut running = RunningJobs::default();
        running.heard(&WorkerCommand::Deploy(deployment(1, 2)));
        running.heard(&WorkerCommand::Prepare(deployment(2, 3)));
        running.heard(&barrier(16, 1));
        running.heard(&committed(16));
        assert_eq!(only(&running).placed.routing, 1, "16 has not carried it");
        running.heard(&barrier(17, 2));
        let given_up = |routing| WorkerCommand::KeepRouting {
            job: JOB,
            generation: G,
            routing,
        };
        running.heard(&given_up(2));
        let part = only(&running);
        assert_eq!(part.placed.routing, 1);
        assert_eq!(part.next.expect("it is on its way").routing, 2);
        running.heard(&committed(17));
        let part = only(&running);
        assert_eq!((part.placed.routing, part.placed.tasks.len()), (2, 3));
        assert_eq!(part.next, None);
        running.heard(&WorkerCommand::Prepare(deployment(3, 1)));
        running.heard(&given_up(3));
        assert_eq!(only(&running).next, None);
    }

    #[test]
    fn a_worker_that_is_only_prepared_has_no_tasks() {
        let mut running = RunningJobs::default();
        running.heard(&WorkerCommand::Prepare(deployment(2, 3)));
        let part = only(&running);
        assert!(part.placed.tasks.is_empty() && part.running);
        running.heard(&barrier(16, 2));
        running.heard(&committed(16));
        assert_eq!(only(&running).placed.tasks.len(), 3);
    }
}
