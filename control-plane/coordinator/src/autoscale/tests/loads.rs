//! Loads that change: steps, ramps, a day, skew, overload. The policy must come near the optimum in
//! few decisions and then leave it alone.

use proto::policy::AutoscalePolicy;

use super::model::{Stage, World};

/// A source, a filter that keeps a third, an aggregation, a cheap sink.
fn pipeline(arrival: fn(f64) -> f64) -> Vec<Stage> {
    vec![
        Stage {
            selectivity: 1.0 / 3.0,
            ..Stage::source(8.0, arrival)
        },
        Stage {
            selectivity: 0.5,
            ..Stage::after(&[0], 60.0)
        },
        Stage::after(&[1], 5.0),
    ]
}

fn policy() -> AutoscalePolicy {
    AutoscalePolicy::between(1, 24)
}

#[test]
fn load_steps_are_followed_within_three_decisions() {
    // Step by step for ten minutes each.
    fn steps(now_s: f64) -> f64 {
        let rates = [30e3, 150e3, 60e3, 600e3, 40e3, 45e3];
        rates[(now_s / 600.0) as usize % rates.len()]
    }
    for seed in 0..8 {
        let mut world = World::new(pipeline(steps), &[1, 1, 1], policy(), seed);
        for step in 0..6 {
            let before = world.last_decision();
            world.run(300);
            let text = format!("seed {seed} step {step}: {:?}", world.counts());
            assert!(world.is_near_optimum(), "{text} {:?}", world.optima());
            let rescales = world.rescales(before);
            assert!(rescales.len() <= 3, "{text}: {rescales:#?}");
            // The rest of the time nothing changes.
            let settled = world.counts();
            let before = world.last_decision();
            world.run(300);
            assert_eq!(world.rescales(before), [], "{text}");
            assert_eq!(world.counts(), settled, "{text}");
            let waiting = world.backlog() / steps(world.now_s() - 1.0);
            assert!(waiting < 1.0, "{text}: {waiting} s wait");
        }
    }
}

#[test]
fn a_steady_load_is_left_alone() {
    for seed in 0..20 {
        let mut world = World::new(pipeline(|_| 200e3), &[2, 5, 1], policy(), seed);
        world.run(120);
        let (before, settled) = (world.last_decision(), world.counts());
        world.run(3600);
        assert_eq!(world.rescales(before), [], "seed {seed}");
        assert_eq!(world.counts(), settled);
    }
}

#[test]
fn a_ramp_is_followed_without_falling_behind() {
    fn ramp(now_s: f64) -> f64 {
        match now_s {
            now_s if now_s < 600.0 => 30e3 + 550e3 * now_s / 600.0,
            now_s if now_s < 900.0 => 580e3,
            now_s if now_s < 1500.0 => 580e3 - 550e3 * (now_s - 900.0) / 600.0,
            _ => 30e3,
        }
    }
    for seed in 0..8 {
        let mut world = World::new(pipeline(ramp), &[1, 1, 1], policy(), seed);
        for _ in 0..600 {
            world.run(1);
            let waiting = world.backlog() / ramp(world.now_s());
            assert!(
                waiting < 5.0,
                "seed {seed}, {} s: {waiting} s wait",
                world.now_s()
            );
        }
        let before = world.last_decision();
        world.run(300);
        assert!(world.is_near_optimum(), "seed {seed}: {:?}", world.counts());
        assert!(world.rescales(before).len() <= 3);
        world.run(600);
        let before = world.last_decision();
        world.run(300);
        assert!(world.is_near_optimum(), "seed {seed}: {:?}", world.counts());
        assert!(world.rescales(before).len() <= 3);
    }
}

#[test]
fn a_day_is_followed_up_and_down_once() {
    // A day of an hour.
    fn day(now_s: f64) -> f64 {
        300e3 - 250e3 * (now_s / 3600.0 * std::f64::consts::TAU).cos()
    }
    for seed in 0..4 {
        let mut world = World::new(pipeline(day), &[1, 2, 1], policy(), seed);
        world.run(120);
        let mut near = 0;
        for _ in 0..7200 {
            world.run(1);
            near += u32::from(world.is_near_optimum());
            let waiting = world.backlog() / day(world.now_s());
            assert!(
                waiting < 5.0,
                "seed {seed}, {} s: {waiting} s wait",
                world.now_s()
            );
        }
        assert!(near >= 7200 * 8 / 10, "seed {seed}: near for {near} s");
        // Every change of a fragment goes the way that the load goes.
        for decision in world.rescales(0) {
            let at_s = decision.at_us as f64 / 1e6;
            let rising = (at_s / 3600.0).fract() < 0.5;
            let near_turn = ((at_s / 1800.0).fract() - 0.5).abs() > 0.45;
            for change in &decision.changes {
                let up = change.to > change.from;
                assert!(
                    near_turn || up == rising || at_s < 120.0,
                    "{at_s}: {change:?}"
                );
            }
        }
    }
}

#[test]
fn skew_is_met_with_as_many_tasks_as_help() {
    // Rows of one key: none, some, as many as one task can do, more than it can do.
    for hot in [0.05, 0.2, 0.3, 0.6, 0.95] {
        for seed in 0..4 {
            let stages = vec![
                Stage::source(5.0, |_| 60e3),
                Stage {
                    hot,
                    ..Stage::after(&[0], 40.0)
                },
            ];
            let mut world = World::new(stages, &[1, 1], policy(), seed);
            world.run(600);
            let best = world.optimum(1, 60e3);
            let is = world.counts()[1];
            let text = format!("hot {hot} seed {seed}: {is} tasks, best {best}");
            assert!(is.abs_diff(best) <= 1, "{text}: {:#?}", world.rescales(0));
            assert!(world.rescales(0).len() <= 3, "{text}");
            let said: Vec<String> = world.scaler.notes().map(str::to_owned).collect();
            let hot_said = said.iter().any(|note| note.contains("by a hot key"));
            // 0.4 of 60k rows/s at 40 us are all that one task can do.
            assert_eq!(hot_said, hot > 0.4 && is > 1, "{text}: {said:?}");
            let before = world.last_decision();
            world.run(900);
            assert_eq!(world.rescales(before), [], "{text}");
        }
    }
}

#[test]
fn overload_is_caught_up_with_before_tasks_are_taken_away() {
    for seed in 0..8 {
        let mut world = World::new(pipeline(|_| 150e3), &[2, 4, 1], policy(), seed);
        world.run(60);
        // Ten minutes of input wait at once.
        world.add_backlog(150e3 * 600.0);
        let most = |world: &World| world.counts()[1];
        let mut peak = most(&world);
        while world.backlog() > 150e3 {
            world.run(1);
            assert!(
                most(&world) >= peak,
                "seed {seed}: fewer tasks with a backlog"
            );
            peak = peak.max(most(&world));
            assert!(world.now_s() < 3600.0, "seed {seed}: never caught up");
        }
        assert!(peak >= 12, "seed {seed}: {peak}");
        world.run(180);
        assert!(world.is_near_optimum(), "seed {seed}: {:?}", world.counts());
    }
}

#[test]
fn a_file_that_is_there_as_a_whole_gets_tasks_until_its_end() {
    for seed in 0..8 {
        let mut stages = pipeline(|_| 0.0);
        // How many rows are in the bytes that are left is a guess.
        stages[0].guess = 0.01;
        let mut world = World::new(stages, &[1, 1, 1], policy(), seed);
        world.add_backlog(40e6);
        let (mut peak, mut before) = (0, 0);
        while world.backlog() > 1.0 {
            world.run(1);
            let is: u32 = world.counts().iter().sum();
            assert!(is >= before, "seed {seed}: fewer tasks with rows left");
            (peak, before) = (peak.max(world.counts()[1]), is);
            assert!(world.now_s() < 300.0, "seed {seed}: never read");
        }
        // 40 M rows in a minute are 667k rows/s; of a third of them a task does 13k/s at 80 %.
        assert!((15..=20).contains(&peak), "seed {seed}: {peak}");
        let took = world.now_s();
        assert!(took < 120.0, "seed {seed}: {took} s");
    }
}

#[test]
fn two_sources_are_joined_with_tasks_for_both() {
    for seed in 0..4 {
        let stages = vec![
            Stage::source(5.0, |_| 100e3),
            Stage::source(10.0, |_| 50e3),
            Stage::after(&[0, 1], 30.0),
        ];
        let mut world = World::new(stages, &[1, 1, 1], policy(), seed);
        world.run(300);
        assert!(world.is_near_optimum(), "seed {seed}: {:?}", world.counts());
        assert!(world.rescales(0).len() <= 3);
    }
}
