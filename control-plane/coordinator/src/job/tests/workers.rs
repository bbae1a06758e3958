//! Workers that come, go, and share a job.

use std::collections::BTreeSet;

use expect_test::expect;
use proto::{
    control::WorkerEventKind,
    types::{Epoch, WorkerId},
};

use super::script::{check, event, job, number};
use crate::{Event, JobState};

#[test]
fn a_job_waits_for_a_worker() {
    check(
        "0 workers
         1 submit
         2 begun 0
         3 workers 5
         4 running w5",
        expect![[r#"
            0 workers
            1 submit
                state STARTING
                begin g1
            2 begun 0
            3 workers 5
                deploy g1 from 0: 2 tasks
            4 running w5
                state RUNNING
        "#]],
    );
}

#[test]
fn several_workers_run_it_once_one_has_listed_what_there_is() {
    check(
        "0 workers 1 2 3
         1 submit
         2 begun 0
         3 listed w2
         4 listed w1
         5 running w1
         6 running w1
         7 running w2
         1007 tick
         1008 staged w1 0 16
         1009 staged w2 1 16
         1010 committed 16
         1011 cancel
         1012 stopped w2
         1013 stopped w1",
        expect![[r#"
            0 workers 1 2 3
            1 submit
                state STARTING
                begin g1
            2 begun 0
                list splits g1 at wk_1
            3 listed w2
            4 listed w1
                deploy g1 from 0: 2 tasks on workers [1, 2]
            5 running w1
            6 running w1
            7 running w2
                state RUNNING
            1007 tick
                barrier 16 g1
            1008 staged w1 0 16
            1009 staged w2 1 16
                commit 16 g1
            1010 committed 16
                tell committed 16 g1
            1011 cancel
                state CANCELING
                stop
            1012 stopped w2
            1013 stopped w1
                drop state
                state CANCELED
        "#]],
    );
}

#[test]
fn the_loss_of_a_worker_starts_its_jobs_again_on_those_that_are_left() {
    check(
        "0 workers 1 2 3
         1 submit
         2 begun 0
         3 listed w1
         5 running w1
         6 running w2
         1006 tick
         1007 workers 1 2
         1008 staged w1 0 16
         1009 workers 2
         1010 failed w2
         1150 tick
         1151 begun 0
         1152 running g1 w2
         1153 running w2",
        expect![[r#"
            0 workers 1 2 3
            1 submit
                state STARTING
                begin g1
            2 begun 0
                list splits g1 at wk_1
            3 listed w1
                deploy g1 from 0: 2 tasks on workers [1, 2]
            5 running w1
            6 running w2
                state RUNNING
            1006 tick
                barrier 16 g1
            1007 workers 1 2
            1008 staged w1 0 16
            1009 workers 2
                state RESTARTING
                suspend
            1010 failed w2
            1150 tick
                state STARTING
                begin g2
            1151 begun 0
                deploy g2 from 0: 2 tasks
            1152 running g1 w2
            1153 running w2
                state RUNNING
        "#]],
    );
}

#[test]
fn tasks_are_counted_where_they_may_run() {
    let mut job = job(1000, 3);
    let mut first = Epoch::ZERO;
    let mut after = |line: &str| -> Vec<(u64, usize)> {
        let mut words = line.split_whitespace().collect();
        let now_us = number(&mut words) * 1000;
        job.handle(
            event(
                &mut words,
                (job.generation(), job.routing().version),
                &mut first,
            ),
            now_us,
        );
        let tasks = job.tasks_by_worker().into_iter();
        tasks.map(|(worker, tasks)| (worker.0, tasks)).collect()
    };
    assert_eq!(after("0 workers 1 2"), []);
    assert_eq!(after("1 submit"), []);
    assert_eq!(after("2 begun 0"), []);
    assert_eq!(after("3 listed w1"), [(1, 1), (2, 1)]);
    assert_eq!(after("4 running w1"), [(1, 1), (2, 1)]);
    assert_eq!(after("5 running w2"), [(1, 1), (2, 1)]);
    // The job waits until it starts again.
    assert_eq!(after("6 workers 2"), []);
    assert_eq!(after("200 tick"), []);
    assert_eq!(after("201 begun 0"), [(2, 2)]);
    assert_eq!(after("202 running w2"), [(2, 2)]);
    assert_eq!(after("203 cancel"), [(2, 2)]);
    assert_eq!(after("204 stopped w2"), []);
}

#[test]
fn the_loss_of_the_last_worker_never_gives_a_job_up() {
    let mut job = job(1000, 0);
    job.handle(Event::Workers(BTreeSet::new()), 0);
    job.handle(Event::Submitted, 0);
    for round in 0..20_u64 {
        let generation = job.generation();
        let begun = Event::StateBegun {
            generation,
            restored: Epoch::ZERO,
            first: Epoch(16 * (round + 1)),
        };
        let now_us = round * 100_000_000;
        job.handle(begun, now_us);
        job.handle(Event::Workers([WorkerId(round + 2)].into()), now_us);
        let kind = WorkerEventKind::Running;
        let worker = WorkerId(round + 2);
        job.handle(
            Event::Worker {
                worker,
                generation,
                kind,
            },
            now_us,
        );
        assert_eq!(job.state(), JobState::Running, "{round}");
        job.handle(Event::Workers(BTreeSet::new()), now_us);
        assert_eq!(job.state(), JobState::Restarting, "{round}");
        job.handle(Event::Tick, job.wake_at_us().expect("it waits"));
    }
}

#[test]
fn a_worker_that_is_lost_while_it_stops_is_not_waited_for() {
    check(
        "0 workers 1 2
         1 submit
         2 begun 0
         3 listed w1
         4 running w1
         5 running w2
         6 cancel
         7 workers 1
         8 stopped w1",
        expect![[r#"
            0 workers 1 2
            1 submit
                state STARTING
                begin g1
            2 begun 0
                list splits g1 at wk_1
            3 listed w1
                deploy g1 from 0: 2 tasks on workers [1, 2]
            4 running w1
            5 running w2
                state RUNNING
            6 cancel
                state CANCELING
                stop
            7 workers 1
            8 stopped w1
                drop state
                state CANCELED
        "#]],
    );
}

#[test]
fn what_is_listed_by_a_worker_that_is_lost_is_listed_by_another() {
    check(
        "0 workers 1 2 3
         1 submit
         2 begun 0
         3 workers 2 3
         4 listed w1
         5 listed w2",
        expect![[r#"
            0 workers 1 2 3
            1 submit
                state STARTING
                begin g1
            2 begun 0
                list splits g1 at wk_1
            3 workers 2 3
                list splits g1 at wk_2
            4 listed w1
            5 listed w2
                deploy g1 from 0: 2 tasks on workers [2, 3]
        "#]],
    );
}

#[test]
fn a_job_can_be_cancelled_while_no_worker_is_there() {
    check(
        "0 workers
         1 submit
         2 begun 0
         3 cancel",
        expect![[r#"
            0 workers
            1 submit
                state STARTING
                begin g1
            2 begun 0
            3 cancel
                drop state
                state CANCELED
        "#]],
    );
}
