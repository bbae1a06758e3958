//! The rules, one by one: each test fails if its rule is taken out.

use proto::{policy::AutoscalePolicy, types::Generation};

use super::model::{Stage, World};
use crate::{
    autoscale::{AutoscalerState, Decision, DecisionKind, Outcome, Slots},
    caps::AUTOSCALE_DECISIONS_MAX,
};

fn policy() -> AutoscalePolicy {
    AutoscalePolicy::between(1, 24)
}

/// A source that costs next to nothing and one fragment behind it.
fn one(arrival: fn(f64) -> f64, stage: Stage) -> Vec<Stage> {
    vec![Stage::source(2.0, arrival), stage]
}

fn world(arrival: fn(f64) -> f64, cost_us: f64, tasks: u32) -> World {
    let stages = one(arrival, Stage::after(&[0], cost_us));
    World::new(stages, &[1, tasks], policy(), 1).quiet()
}

fn notes(world: &World) -> String {
    let notes: Vec<&str> = world.scaler.notes().collect();
    notes.join("\n")
}

fn changed(decisions: &[Decision]) -> Vec<(DecisionKind, u32, u32)> {
    let changes = decisions.iter().flat_map(|decision| {
        let kind = decision.kind;
        let changes = decision.changes.iter();
        changes.map(move |change| (kind, change.from, change.to))
    });
    changes.collect()
}

#[test]
fn a_decision_says_why_and_from_what() {
    let mut world = world(|_| 120e3, 30.0, 4);
    world.run(30);
    let decisions = world.rescales(0);
    let [decision] = &decisions[..] else {
        panic!("one decision: {decisions:#?}");
    };
    assert_eq!(
        decision.reason,
        "source `t0` brings 120k rows/s, fragment 1 (Stage1) takes 120k rows/s of that and does 33k \
         rows/s per task, at 80 % of its time 27k rows/s: 4 -> 5"
    );
    assert_eq!(decision.figures.fragments[1].tasks, 4);
    assert_eq!(decision.figures.sources[0].table, "t0");
    assert_eq!(decision.outcome, Outcome::Kept);
    assert_eq!(world.counts(), [1, 5]);
}

#[test]
fn work_counts_and_waiting_for_input_does_not() {
    // A fifth of the time at work: rows per second of life would say five times as many tasks.
    let mut world = world(|_| 20e3, 10.0, 1);
    world.run(120);
    assert_eq!(world.rescales(0), []);
}

#[test]
fn a_fragment_that_waits_for_state_gets_no_tasks_and_is_said_to_need_memory() {
    let stage = Stage {
        wait_us: 60.0,
        ..Stage::after(&[0], 20.0)
    };
    let mut world = World::new(one(|_| 60e3, stage), &[1, 2], policy(), 3);
    world.run(600);
    assert_eq!(world.counts(), [1, 2]);
    assert_eq!(world.rescales(0), []);
    assert!(
        notes(&world).contains("needs more memory for its state"),
        "{}",
        notes(&world)
    );
    let advice: Vec<&Decision> = world.scaler.decisions().collect();
    assert_eq!(advice.len(), 1, "said once: {advice:#?}");
    assert_eq!(advice[0].outcome, Outcome::Said);
    // With memory it is an ordinary fragment, and nothing is left to say.
    world.stage(1).wait_us = 0.0;
    world.run(300);
    assert!(world.counts()[1] > 1);
    assert_eq!(notes(&world), "");
}

#[test]
fn waits_for_state_count_where_no_time_is_left() {
    // Work alone would need two tasks, which cannot do it for their waits.
    let stage = Stage {
        wait_us: 18.0,
        ..Stage::after(&[0], 20.0)
    };
    let mut world = World::new(one(|_| 70e3, stage), &[1, 2], policy(), 1).quiet();
    world.run(30);
    assert!(world.counts()[1] >= 3, "{:?}", world.counts());
    world.run(370);
    assert!(world.backlog() < 70e3, "{}", world.backlog());
    // And fewer tasks must have the time to wait, too.
    let (before, settled) = (world.last_decision(), world.counts());
    world.run(900);
    assert_eq!(world.rescales(before), []);
    assert_eq!(world.counts(), settled);
}

#[test]
fn fewer_tasks_must_have_time_for_waits_too() {
    // Work alone would need two tasks; with their waits two would have no time left.
    let stage = Stage {
        wait_us: 18.0,
        ..Stage::after(&[0], 20.0)
    };
    let mut world = World::new(one(|_| 50e3, stage), &[1, 3], policy(), 1).quiet();
    world.run(300);
    assert_eq!(world.rescales(0), []);
}

#[test]
fn what_a_bottleneck_lets_by_is_all_that_the_others_are_given_tasks_for() {
    let waits = Stage {
        wait_us: 80.0,
        ..Stage::after(&[0], 20.0)
    };
    let stages = vec![
        Stage::source(20.0, |_| 100e3),
        waits,
        Stage::after(&[1], 40.0),
    ];
    let mut world = World::new(stages, &[3, 2, 1], policy(), 1).quiet();
    world.run(900);
    // 20k rows/s come by. The source waits, and its backlog grows without end.
    assert_eq!(world.counts(), [3, 2, 1]);
    assert!(world.backlog() > 30e6);
}

#[test]
fn a_step_that_did_not_help_is_taken_back_and_not_tried_again_at_the_same_load() {
    // Four tasks are as fast as two: something that they share is the bottleneck.
    let arrival = |now_s: f64| match now_s {
        now_s if now_s < 1800.0 => 80e3,
        _ => 20e3,
    };
    let stage = Stage {
        shared: Some(50e3),
        ..Stage::after(&[0], 40.0)
    };
    let mut world = World::new(one(arrival, stage), &[1, 2], policy(), 5);
    world.run(1800);
    let decisions = world.rescales(0);
    let [up, back] = &decisions[..] else {
        panic!("a step and its way back: {decisions:#?}");
    };
    assert_eq!(
        (up.kind, &up.outcome),
        (DecisionKind::Rescale, &Outcome::DidNotHelp)
    );
    assert_eq!(
        (back.kind, &back.outcome),
        (DecisionKind::Revert, &Outcome::Kept)
    );
    assert_eq!(back.changes[0].to, 2);
    assert!(
        back.reason.contains("until another load comes"),
        "{}",
        back.reason
    );
    assert_eq!(world.counts(), [1, 2]);
    assert!(
        notes(&world).contains("did not help at this load"),
        "{}",
        notes(&world)
    );
    // At another load everything is open again.
    let before = world.last_decision();
    world.run(2400);
    assert!(!world.rescales(before).is_empty());
}

#[test]
fn a_step_that_helped_stays_though_it_was_not_enough() {
    let mut world = world(|_| 400e3, 30.0, 1);
    world.run(600);
    let wrong = |decision: &Decision| decision.outcome == Outcome::DidNotHelp;
    assert!(!world.rescales(0).iter().any(wrong));
    assert!(world.is_near_optimum(), "{:?}", world.counts());
}

#[test]
fn a_step_down_that_was_not_enough_is_not_repeated() {
    let mut world = world(|_| 70e3, 30.0, 4);
    let mut longest = 0;
    for _ in 0..3600 {
        // With fewer than four tasks their caches are too small, and rows take twice as long.
        world.stage(1).cost_us = if world.counts()[1] < 4 { 60.0 } else { 30.0 };
        world.run(1);
        longest = longest.max(world.rescales(0).len());
    }
    let changes = changed(&world.rescales(0));
    assert_eq!(world.counts(), [1, 4], "{changes:?}");
    let downs = changes
        .iter()
        .filter(|(_, from, to)| (*from, *to) == (4, 3));
    assert_eq!(downs.count(), 1, "{changes:?}");
    assert!(longest <= 3, "{changes:?}");
}

#[test]
fn small_differences_change_nothing() {
    // 4.1 tasks at 80 %: four work 82 % of their time.
    let mut world = world(|_| 109e3, 30.0, 4);
    world.run(300);
    assert_eq!(world.rescales(0), []);
    // 3.9 tasks at 80 %: one fewer would be just enough, for now.
    let mut world = self::world(|_| 79.5e3, 30.0, 4);
    world.run(300);
    assert_eq!(world.rescales(0), []);
}

#[test]
fn one_window_is_no_reason() {
    // Windows end at 104 s, 109 s, 114 s.
    let spike = |now_s: f64| {
        if (100.0..102.0).contains(&now_s) {
            200e3
        } else {
            60e3
        }
    };
    let mut up = world(spike, 30.0, 3);
    up.policy.catch_up_ms = 600_000;
    up.scaler.set_policy(up.policy);
    up.run(200);
    assert_eq!(up.rescales(0), []);
    let lull = |now_s: f64| {
        if (104.0..114.0).contains(&now_s) {
            10e3
        } else {
            60e3
        }
    };
    let mut down = world(lull, 30.0, 3);
    down.run(200);
    assert_eq!(down.rescales(0), []);
}

#[test]
fn what_is_measured_right_after_a_change_is_thrown_away() {
    let mut world = world(|_| 60e3, 30.0, 3);
    world.run(60);
    for restart in 2..20 {
        // A restart: for a while everything is three times as slow.
        world.generation = Generation(restart);
        world.stage(1).cost_us = 90.0;
        world.run(2);
        world.stage(1).cost_us = 30.0;
        world.run(12);
    }
    assert_eq!(world.rescales(0), []);
}

#[test]
fn nothing_is_taken_away_while_a_source_that_cannot_tell_is_held_up() {
    // The source is held up by fragment 2, which costs much; fragment 1 has time.
    let source = Stage {
        tells: false,
        ..Stage::source(10.0, |_| 90e3)
    };
    let slow = Stage {
        singleton: true,
        ..Stage::after(&[1], 20.0)
    };
    let stages = vec![source, Stage::after(&[0], 10.0), slow];
    let mut world = World::new(stages, &[1, 3, 1], policy(), 1).quiet();
    world.run(300);
    assert_eq!(world.counts(), [1, 3, 1]);
    assert!(
        notes(&world).contains("can only run as one"),
        "{}",
        notes(&world)
    );
}

#[test]
fn a_source_that_cannot_tell_is_left_as_it_is_and_those_behind_it_follow_it() {
    // As fast as it can: 100k rows/s.
    let source = Stage {
        tells: false,
        ..Stage::source(10.0, |_| 1e6)
    };
    let stages = vec![source, Stage::after(&[0], 30.0)];
    let mut world = World::new(stages, &[1, 1], policy(), 1).quiet();
    world.run(300);
    // 3.75 tasks keep up with it, which shows while it waits for one.
    let first = changed(&world.rescales(0))[0];
    assert_eq!(first, (DecisionKind::Rescale, 1, 4));
    assert_eq!(world.counts()[0], 1);
}

#[test]
fn what_waits_is_to_be_worked_off_in_time() {
    let most = |catch_up_ms: u64| {
        let mut world = world(|_| 60e3, 30.0, 3);
        world.policy.catch_up_ms = catch_up_ms;
        world.scaler.set_policy(world.policy);
        world.run(30);
        world.add_backlog(60e3 * 120.0);
        let mut most = 0;
        for _ in 0..120 {
            world.run(1);
            most = most.max(world.counts()[1]);
        }
        most
    };
    // Two minutes of rows in an hour are next to nothing, in a minute twice as much as comes in.
    assert_eq!(most(3_600_000), 3);
    assert!((6..=8).contains(&most(60_000)), "{}", most(60_000));
    assert!(most(20_000) > 11);
}

#[test]
fn one_decision_is_under_way_and_one_that_is_not_carried_out_fails() {
    let mut world = world(|_| 120e3, 30.0, 2);
    world.obeys = false;
    world.run(70);
    let only = |world: &World| {
        let decisions = world.rescales(0);
        assert_eq!(decisions.len(), 1, "{decisions:#?}");
        decisions[0].outcome.clone()
    };
    assert_eq!(only(&world), Outcome::Moving);
    assert_eq!(world.scaler.state(), AutoscalerState::Moving);
    world.run(10);
    let why = "it was not carried out within 60 s".to_owned();
    assert_eq!(only(&world), Outcome::Failed { why });
    assert_eq!(world.scaler.state(), AutoscalerState::Watching);
    // It is not asked for again at once.
    world.run(20);
    assert_eq!(world.rescales(0).len(), 1);
    world.run(30);
    assert_eq!(world.rescales(0).len(), 2);
    world.scaler.refuse("no".to_owned(), world.step * 100_000);
    let last = world.rescales(1);
    assert_eq!(
        last[0].outcome,
        Outcome::Failed {
            why: "no".to_owned()
        }
    );
}

#[test]
fn a_decision_waits_for_room_and_says_how_much_it_wants() {
    let mut world = world(|_| 120e3, 30.0, 2);
    world.slots = Slots {
        now: Some(2),
        most: Some(4),
    };
    assert_eq!(world.scaler.slots_wanted(), 1);
    world.run(30);
    assert_eq!(world.scaler.state(), AutoscalerState::WaitingForCapacity);
    // Five would be needed, and there will never be room for them.
    assert_eq!(world.scaler.slots_wanted(), 4);
    assert!(
        notes(&world).contains("there may be at most 4"),
        "{}",
        notes(&world)
    );
    assert_eq!(world.counts(), [1, 2]);
    world.slots.now = Some(4);
    world.run(5);
    assert_eq!(world.counts(), [1, 4]);
}

#[test]
fn a_decision_without_room_fails_or_is_not_needed_any_more() {
    let mut full = world(|_| 120e3, 30.0, 2);
    full.slots.now = Some(2);
    full.run(90);
    let why = "there is room for 2 tasks of a fragment, not for 5".to_owned();
    let outcomes = |world: &World| {
        let decisions = world.rescales(0).into_iter();
        decisions
            .map(|decision| decision.outcome)
            .collect::<Vec<_>>()
    };
    assert_eq!(outcomes(&full), [Outcome::Failed { why }]);
    let falls = |now_s: f64| if now_s < 20.0 { 70e3 } else { 30e3 };
    let mut falling = world(falls, 30.0, 2);
    falling.slots.now = Some(2);
    falling.run(60);
    let why = "it was not needed any more".to_owned();
    assert_eq!(outcomes(&falling), [Outcome::Failed { why }]);
}

#[test]
fn fewer_tasks_need_no_room() {
    let mut world = world(|_| 50e3, 30.0, 5);
    world.slots.now = Some(1);
    world.run(60);
    assert_eq!(world.counts(), [1, 2]);
}

#[test]
fn a_fragment_of_which_not_all_is_known_is_left_alone() {
    let stages = one(|_| 70e3, Stage::after(&[0], 30.0));
    let policy = AutoscalePolicy::between(2, 24);
    let mut world = World::new(stages, &[2, 3], policy, 1).quiet();
    world.run(30);
    // What one of two tasks of the source brings could be done by fewer than three.
    world.hidden = Some(0);
    world.run(60);
    assert_eq!(world.rescales(0), []);
}

#[test]
fn how_fast_other_tasks_are_is_learned_anew() {
    let mut world = world(|_| 60e3, 20.0, 1);
    for _ in 0..27 {
        // They share something: with another one each takes twice as long.
        world.stage(1).cost_us = if world.counts()[1] > 1 { 40.0 } else { 20.0 };
        world.run(1);
    }
    assert!(world.counts()[1] > 1);
    let figures = world.scaler.figures().expect("windows have passed");
    let rate = figures.fragments[1].per_task_per_s.expect("it had rows");
    assert!((24e3..26e3).contains(&rate), "{rate}");
}

#[test]
fn bounds_hold_and_new_ones_count_at_once() {
    let mut world = world(|_| 300e3, 30.0, 2);
    world.policy.max = 6;
    world.scaler.set_policy(world.policy);
    world.run(120);
    assert_eq!(world.counts(), [1, 6]);
    assert!(
        notes(&world).contains("there may be at most 6"),
        "{}",
        notes(&world)
    );
    world.policy.max = 4;
    world.scaler.set_policy(world.policy);
    world.run(15);
    assert_eq!(world.counts(), [1, 4]);
    (world.policy.min, world.policy.max) = (8, 16);
    world.scaler.set_policy(world.policy);
    world.run(15);
    let decision = world.rescales(0).pop().expect("a decision");
    assert!(
        decision.reason.contains("the policy's bounds"),
        "{}",
        decision.reason
    );
    assert_eq!(world.counts(), [8, 8]);
}

#[test]
fn one_that_runs_once_is_not_scaled_and_said_to_be_too_slow() {
    let stage = Stage {
        singleton: true,
        ..Stage::after(&[0], 30.0)
    };
    let mut world = World::new(one(|_| 60e3, stage), &[1, 1], policy(), 1).quiet();
    world.run(300);
    assert_eq!(world.counts(), [1, 1]);
    let said = "fragment 1 (Stage1) would need";
    assert!(notes(&world).contains(said), "{}", notes(&world));
}

#[test]
fn whoever_else_changes_the_parallelism_is_not_in_the_way() {
    let mut world = world(|_| 120e3, 30.0, 5);
    world.run(60);
    world.resize(1, 9);
    world.run(60);
    // It is brought back to where it should be.
    assert_eq!(world.counts(), [1, 5]);
}

#[test]
fn decisions_are_remembered_up_to_a_bound() {
    // Up and down every two minutes.
    let swings = |now_s: f64| {
        if ((now_s / 120.0) as u64).is_multiple_of(2) {
            30e3
        } else {
            160e3
        }
    };
    let mut world = world(swings, 30.0, 2);
    world.run(2 * 120 * 60);
    assert_eq!(world.scaler.decisions().count(), AUTOSCALE_DECISIONS_MAX);
    assert!(world.last_decision() > AUTOSCALE_DECISIONS_MAX as u64);
}

#[test]
fn a_step_after_which_it_keeps_up_stays_however_little_it_brought() {
    // Nine of ten rows are of one key: two tasks do hardly more than one, but just enough.
    let stage = Stage {
        hot: 0.9,
        ..Stage::after(&[0], 40.0)
    };
    let mut world = World::new(one(|_| 25.5e3, stage), &[1, 1], policy(), 1).quiet();
    world.run(600);
    let outcomes: Vec<Outcome> = world.rescales(0).into_iter().map(|d| d.outcome).collect();
    assert!(!outcomes.contains(&Outcome::DidNotHelp), "{outcomes:?}");
    assert!(world.counts()[1] > 1);
    assert!(world.backlog() < 26e3, "{}", world.backlog());
}
