//! Leaders are lost while a job runs.

use proptest::{collection::vec, prelude::*};
use proto::{
    control::WorkerEventKind,
    running::JobPart,
    types::{Epoch, Generation, TaskId, WorkerId},
};

use super::takeover_world::{ROWS, World};
use crate::{Effect, Event, JobState, caps::ADOPTION_PATIENCE_US};

/// Steps of a job whose leader is not lost, or is lost before one of them; all that is on its way then
/// arrives, or nothing of it.
fn run(lost_before: Option<usize>, arrives: bool) -> (World, usize) {
    let mut world = World::new(2);
    let mut steps = 0;
    world.finish(|world| {
        if Some(steps) == lost_before {
            world.lose_leader(|waiting| if arrives { waiting } else { 0 });
        }
        steps += 1;
    });
    (world, steps)
}

#[test]
fn a_job_whose_leader_is_lost_at_any_step_runs_on_and_gives_the_same() {
    let (undisturbed, steps) = run(None, true);
    assert!(undisturbed.history.len() > 2, "{:?}", undisturbed.history);
    let mut adopted = 0;
    for lost_before in 0..steps {
        for arrives in [true, false] {
            let (world, _) = run(Some(lost_before), arrives);
            assert_eq!(world.committed, undisturbed.committed);
            if !world.unfit {
                let generation = world.job.generation();
                assert_eq!(generation, Generation(1), "lost before {lost_before}");
                adopted += 1;
            }
        }
    }
    assert!(adopted > steps, "{adopted} of {steps}");
}

/// What happens next in a disturbed history.
fn step(world: &mut World, (what, who, how): (u8, usize, usize), rough: bool) {
    let ids: Vec<WorkerId> = world.workers.keys().copied().collect();
    let id = ids[who % ids.len()];
    match what {
        0..4 => _ = world.hear(),
        4..7 => _ = world.decide(),
        7..11 => _ = world.obey(id),
        11..13 => _ = world.read(id, how as u64 % 5),
        13..16 => _ = world.stage(id),
        16 => _ = world.publish(id),
        17..20 => world.tick(400_000),
        20..23 => _ = world.connect(id),
        23 => {
            let mut how = how;
            world.lose_leader(|waiting| {
                how = how * 7 + 3;
                how % (waiting + 1)
            });
        }
        24 if world.is_connected() || rough => {
            world.gathering = false;
            world.tell_workers();
        }
        // A worker comes, or wants to leave: tasks move.
        25 if rough && world.workers.len() < 4 => {
            world.start_worker();
        }
        26 if rough => {
            world.leaving = [id].into();
            world.handle(Event::Leaving([id].into()));
        }
        27 if rough && how % 4 == 0 => world.lose_worker(id),
        28 if how % 8 == 0 => world.stop(how % 16 == 0),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn however_often_leaders_are_lost_a_job_runs_on_in_its_generation(
        steps in vec((0..29_u8, 0..8_usize, 0..64_usize), 1..160),
    ) {
        let mut world = World::new(2);
        // Until all tasks run there is nothing to go on with.
        while world.job.state() != JobState::Running {
            prop_assert!(!world.is_over());
            world.round(|_| {});
        }
        for (what, who, how) in steps {
            if !world.is_over() {
                // Nobody is away for longer than is waited for.
                let adopting = world.job.is_adopting();
                let what = if adopting && (17..20).contains(&what) { 20 } else { what };
                step(&mut world, (what, who, how), false);
            }
        }
        world.finish(|_| {});
        prop_assert!(world.unfit || world.job.generation() == Generation(1));
    }

    #[test]
    fn whatever_else_happens_when_leaders_are_lost_rows_count_once(
        steps in vec((0..29_u8, 0..8_usize, 0..64_usize), 1..200),
    ) {
        let mut world = World::new(2);
        for action in steps {
            if !world.is_over() {
                step(&mut world, action, true);
            }
        }
        world.finish(|_| {});
    }
}

/// A job to which this happens goes on to its end.
fn after(steps: &[(u8, usize, usize)]) {
    let mut world = World::new(2);
    for action in steps {
        step(&mut world, *action, true);
    }
    world.finish(|_| {});
}

#[test]
fn a_worker_that_comes_for_a_dead_one_has_a_name_that_nobody_had() {
    // Two come, a leader is lost, the job begins at the last of them, and one that has none of it dies.
    after(&[
        (25, 0, 0),
        (27, 3, 4),
        (25, 0, 0),
        (23, 0, 0),
        (20, 3, 0),
        (0, 0, 0),
        (4, 0, 0),
        (0, 0, 0),
        (24, 0, 0),
        (0, 0, 0),
        (27, 4, 4),
    ]);
}

#[test]
fn a_task_hears_the_barrier_that_comes_right_after_the_commit_it_starts_from() {
    // The job begins at one worker, gives another one a task, and begins the next epoch at once.
    after(&[
        (25, 0, 0),
        (25, 0, 0),
        (23, 0, 0),
        (24, 0, 0),
        (4, 0, 0),
        (20, 5, 0),
        (0, 0, 0),
        (7, 5, 0),
        (20, 2, 0),
        (0, 0, 0),
        (7, 5, 0),
        (7, 6, 0),
        (0, 0, 0),
        (0, 0, 0),
        (4, 0, 0),
        (0, 0, 0),
        (7, 5, 0),
        (13, 1, 0),
        (17, 0, 0),
        (13, 5, 0),
        (7, 6, 0),
        (0, 0, 0),
        (0, 0, 0),
        (17, 0, 0),
        (4, 0, 0),
        (0, 0, 0),
        (17, 0, 0),
        (7, 2, 0),
    ]);
}

/// A job that runs, whose leader was lost with nothing on its way, and what its workers tell.
fn taken_over() -> (World, [JobPart; 2]) {
    let mut world = World::new(2);
    while world.history.len() < 2 {
        assert!(!world.is_over());
        world.round(|_| {});
        world.tick(200_000);
    }
    world.lose_leader(|_| 0);
    let mut parts = world.workers.values().map(|worker| {
        let part = worker.running.parts().next();
        part.cloned().expect("it runs")
    });
    let parts = [parts.next(), parts.next()].map(|part| part.expect("two workers"));
    (world, parts)
}

/// What follows when both workers tell these parts.
fn told(world: &mut World, parts: [Option<JobPart>; 2]) -> Vec<Effect> {
    let mut effects = Vec::new();
    for (worker, part) in (1..).map(WorkerId).zip(parts) {
        let part = part.map(Box::new);
        let now_us = world.now_us;
        effects.extend(world.job.handle(Event::Told { worker, part }, now_us));
    }
    effects
}

/// The job is started anew, and what is told of it is suspended.
fn is_restarted(effects: &[Effect]) -> bool {
    effects.contains(&Effect::Suspend)
        && effects.contains(&Effect::ReportState(JobState::Restarting))
}

#[test]
fn what_does_not_fit_together_is_not_run_on() {
    let (mut world, [one, two]) = taken_over();
    let effects = told(&mut world, [Some(one), Some(two)]);
    assert!(
        effects.contains(&Effect::ReportState(JobState::Running)),
        "{effects:?}"
    );

    type Spoil = fn(&mut JobPart);
    let spoil: [(&str, Spoil); 7] = [
        ("had stopped", |part| part.over = true),
        ("not written down", |part| part.committed = Epoch(900)),
        ("another routing", |part| {
            part.placed.place.insert(TaskId(0), WorkerId(2));
        }),
        ("none of the job's plan", |part| {
            part.placed.routing += 1;
            part.placed.tasks.pop();
        }),
        ("being changed", |part| {
            let barrier = part.barrier.as_mut().expect("one had begun");
            barrier.routing += 1;
            barrier.epoch = Epoch(barrier.epoch.0 + 1);
        }),
        ("before all tasks were restored", |part| {
            part.running = false
        }),
        ("is the newest", |part| part.generation = Generation(9)),
    ];
    for (why, spoil) in spoil {
        let (mut world, [mut one, two]) = taken_over();
        spoil(&mut one);
        let effects = told(&mut world, [Some(one), Some(two)]);
        assert!(is_restarted(&effects), "{why}: {effects:?}");
        let error = world.job.last_error().expect("why");
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn who_is_missing_is_waited_for_and_not_for_ever() {
    let (mut world, [one, two]) = taken_over();
    let effects = told(&mut world, [Some(one.clone()), None]);
    assert!(is_restarted(&effects), "the other has nothing: {effects:?}");

    let (mut world, _) = taken_over();
    let worker = WorkerId(1);
    let part = Some(Box::new(one));
    assert_eq!(
        world.job.handle(Event::Told { worker, part }, world.now_us),
        []
    );
    let until = world.job.wake_at_us().expect("it waits");
    assert!(until <= world.now_us + ADOPTION_PATIENCE_US);
    assert_eq!(world.job.handle(Event::Tick, until - 1), []);
    let effects = world.job.handle(Event::Tick, until);
    assert!(is_restarted(&effects), "{effects:?}");
    // Too late, it is told to stop.
    let worker = WorkerId(2);
    let part = Some(Box::new(two));
    let effects = world.job.handle(Event::Told { worker, part }, until);
    let workers = [worker].into();
    assert_eq!(effects, [Effect::StopAt { workers }]);
    assert!(matches!(
        world.job.handle(Event::Tick, until)[..],
        [
            Effect::ReportState(JobState::Starting),
            Effect::BeginGeneration { .. }
        ]
    ));
}

#[test]
fn a_task_that_fails_before_all_are_heard_is_not_waited_for() {
    let (mut world, [one, _]) = taken_over();
    let worker = WorkerId(1);
    let generation = one.generation;
    let part = Some(Box::new(one));
    assert_eq!(
        world.job.handle(Event::Told { worker, part }, world.now_us),
        []
    );
    let failed = Event::Worker {
        worker,
        generation,
        kind: WorkerEventKind::Failed {
            task: TaskId(0),
            error: "out of luck".to_owned(),
            retry: proto::control::Retry::Always,
        },
    };
    let effects = world.job.handle(failed, world.now_us);
    assert!(is_restarted(&effects), "{effects:?}");
}

#[test]
fn a_job_that_is_cancelled_meanwhile_ends() {
    let (mut world, [one, _]) = taken_over();
    let worker = WorkerId(1);
    let part = Some(Box::new(one));
    world.job.handle(Event::Told { worker, part }, world.now_us);
    let effects = world.job.handle(Event::CancelRequested, world.now_us);
    assert!(effects.contains(&Effect::Stop), "{effects:?}");
    assert_eq!(world.job.state(), JobState::Canceling);
    assert!(world.committed.values().all(|rows| *rows < ROWS));
}
