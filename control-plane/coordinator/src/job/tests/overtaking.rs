//! Barriers that overtake: which may, and what a job is restored with after one that did.

use proto::{
    control::WorkerEventKind,
    log::{LogHolding, LogObject},
    types::{Epoch, ShardId, TaskId, WorkerId},
};

use super::script::job;
use crate::{
    Effect, Event, Job,
    place::{Parallelism, Routing},
};

const FIRST: Epoch = Epoch(16);

/// A job whose tasks run.
struct Running {
    job: Job,
    now_us: u64,
}

impl Running {
    fn start() -> Running {
        let mut running = Running {
            job: job(1000, 3),
            now_us: 0,
        };
        running.handle(Event::Submitted);
        running.begin(Epoch::ZERO, FIRST);
        running
    }

    fn handle(&mut self, event: Event) -> Vec<Effect> {
        self.now_us += 1_000_000;
        self.job.handle(event, self.now_us)
    }

    fn worker(&mut self, kind: WorkerEventKind) -> Vec<Effect> {
        let (worker, generation) = (WorkerId(1), self.job.generation());
        self.handle(Event::Worker {
            worker,
            generation,
            kind,
        })
    }

    /// The store begins the generation: the routing that goes out, and whether tasks get what was
    /// overtaken.
    fn begin(&mut self, restored: Epoch, first: Epoch) -> (Routing, bool) {
        let effects = self.handle(Event::StateBegun {
            generation: self.job.generation(),
            restored,
            first,
        });
        let begun = effects.into_iter().find_map(|effect| match effect {
            Effect::Deploy {
                routing,
                has_overtaken,
                ..
            } => Some((routing, has_overtaken)),
            _ => None,
        });
        self.worker(WorkerEventKind::Running);
        begun.expect("tasks go out")
    }

    /// All tasks stage an epoch; what is to be committed.
    fn stage(&mut self, epoch: Epoch, overtaken_bytes: u64) -> Vec<Effect> {
        let tasks: Vec<TaskId> = self.job.tasks().iter().map(|task| task.task).collect();
        let mut effects = Vec::new();
        for task in tasks {
            let object = LogObject {
                name: format!("{epoch}/{task}"),
                bytes: 1,
                holds: LogHolding::Rows(vec![ShardId(0)]),
            };
            effects.extend(self.worker(WorkerEventKind::Staged {
                task,
                epoch,
                objects: vec![object],
                overtaken_bytes,
            }));
        }
        effects
    }

    fn commit(&mut self, epoch: Epoch) -> Vec<Effect> {
        let generation = self.job.generation();
        self.handle(Event::EpochCommitted { generation, epoch })
    }

    /// A worker is lost with the tasks.
    fn lose(&mut self) {
        self.handle(Event::Workers([].into()));
        self.handle(Event::Workers([WorkerId(1)].into()));
        let retried = (0..100).any(|_| {
            let effects = self.handle(Event::Tick);
            let begins = |effect: &Effect| matches!(effect, Effect::BeginGeneration { .. });
            effects.iter().any(begins)
        });
        assert!(retried);
    }
}

fn barriers(effects: &[Effect]) -> Vec<(Epoch, bool)> {
    let barrier = |effect: &Effect| match effect {
        Effect::SendBarrier { epoch, aligned, .. } => Some((*epoch, *aligned)),
        _ => None,
    };
    effects.iter().filter_map(barrier).collect()
}

#[test]
fn what_was_overtaken_is_told_with_the_commit_and_kept_in_mind() {
    let mut running = Running::start();
    assert_eq!(barriers(&running.handle(Event::Tick)), [(FIRST, false)]);
    let effects = running.stage(FIRST, 40);
    let told = effects.iter().find_map(|effect| match effect {
        Effect::Commit {
            overtaken_bytes, ..
        } => Some(*overtaken_bytes),
        _ => None,
    });
    assert_eq!(told, Some(80));
    running.commit(FIRST);
    let bytes = |job: &Job| {
        job.checkpoints()
            .map(|record| record.overtaken_bytes)
            .sum::<u64>()
    };
    assert_eq!(bytes(&running.job), 80);
    running.lose();
    assert!(running.begin(FIRST, Epoch(32)).1);
    // The next one did not overtake.
    assert_eq!(barriers(&running.handle(Event::Tick)), [(Epoch(32), false)]);
    running.stage(Epoch(32), 0);
    running.commit(Epoch(32));
    running.lose();
    assert!(!running.begin(Epoch(32), Epoch(48)).1);
}

#[test]
fn the_same_tasks_go_on_with_what_was_overtaken_and_others_come_after_that() {
    let mut running = Running::start();
    running.handle(Event::Tick);
    running.stage(FIRST, 1);
    // Whether it was committed is not known.
    running.lose();
    running.handle(Event::RescaleRequested(Parallelism::uniform(4)));
    let (routing, has_overtaken) = running.begin(FIRST, Epoch(32));
    assert_eq!((routing.tasks.len(), has_overtaken), (2, true));
    assert!(running.job.rescale_stage().is_some(), "as soon as it runs");

    let mut running = Running::start();
    running.handle(Event::Tick);
    running.stage(FIRST, 1);
    running.lose();
    running.handle(Event::RescaleRequested(Parallelism::uniform(4)));
    // It was not.
    let (routing, has_overtaken) = running.begin(Epoch::ZERO, Epoch(32));
    assert_eq!((routing.tasks.len(), has_overtaken), (4, false));
    // Nobody would know these tasks: nothing is overtaken on the way to them.
    assert_eq!(barriers(&running.handle(Event::Tick)), [(Epoch(32), true)]);
}

#[test]
fn a_barrier_for_others_overtakes_nothing() {
    let mut running = Running::start();
    let effects = running.handle(Event::AlignedWanted);
    assert_eq!(barriers(&effects), [(FIRST, true)]);
    running.stage(FIRST, 0);
    running.commit(FIRST);
    assert_eq!(barriers(&running.handle(Event::Tick)), [(Epoch(17), false)]);
    // Two that were asked for meanwhile are one.
    running.handle(Event::AlignedWanted);
    running.handle(Event::AlignedWanted);
    running.stage(Epoch(17), 3);
    assert_eq!(barriers(&running.commit(Epoch(17))), [(Epoch(18), true)]);
    running.stage(Epoch(18), 0);
    running.handle(Event::StopRequested { drain: false });
    assert_eq!(barriers(&running.commit(Epoch(18))), [(Epoch(19), true)]);
}

#[test]
fn a_barrier_that_changes_the_routing_overtakes_nothing() {
    let mut running = Running::start();
    running.handle(Event::RescaleRequested(Parallelism::uniform(4)));
    running.worker(WorkerEventKind::Prepared { routing: 2 });
    let generation = running.job.generation();
    let effects = running.handle(Event::RoutingRecorded {
        generation,
        epoch: FIRST,
    });
    assert_eq!(barriers(&effects), [(FIRST, true)]);
    running.stage(FIRST, 0);
    running.commit(FIRST);
    // It is noted with the commit.
    assert_eq!(running.job.tasks().len(), 4);
    assert_eq!(barriers(&running.handle(Event::Tick)), [(Epoch(17), false)]);
    running.stage(Epoch(17), 2);
    running.commit(Epoch(17));
    running.lose();
    let (routing, has_overtaken) = running.begin(Epoch(17), Epoch(48));
    assert_eq!((routing.tasks.len(), has_overtaken), (4, true));
}
