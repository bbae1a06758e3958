//! What fails, is tried again, given up, or cancelled.

use expect_test::expect;
use proto::{
    control::{Retry, WorkerEventKind},
    types::{Epoch, TaskId, WorkerId},
};

use super::script::{check, check_job, job};
use crate::{Event, Job, JobState};

#[test]
fn failures_back_off_until_the_job_is_given_up() {
    let job = check_job(
        job(1000, 1),
        "0 submit
         1 begun 0
         2 running
         10 failed
         11 failed
         140 tick
         141 begun 0
         142 running
         143 failed
         144 tick
         145 stopped",
        &expect![[r#"
            0 submit
                state STARTING
                begin g1
            1 begun 0
                deploy g1 from 0: 2 tasks
            2 running
                state RUNNING
            10 failed
                state RESTARTING
                suspend
            11 failed
            140 tick
                state STARTING
                begin g2
            141 begun 0
                deploy g2 from 0: 2 tasks
            142 running
                state RUNNING
            143 failed
                stop
                drop state
                state FAILED
            144 tick
            145 stopped
        "#]],
    );
    assert_eq!(job.last_error(), Some("failed on purpose"));
    assert_eq!(job.restarts(), 1);
}

#[test]
fn a_job_that_cannot_start_fails_at_once() {
    check(
        "0 submit
         1 begun 0
         2 failed",
        expect![[r#"
            0 submit
                state STARTING
                begin g1
            1 begun 0
                deploy g1 from 0: 2 tasks
            2 failed
                stop
                drop state
                state FAILED
        "#]],
    );
}

#[test]
fn an_error_that_repeats_itself_fails_at_once() {
    check(
        "0 submit
         1 begun 0
         2 running
         3 poisoned",
        expect![[r#"
            0 submit
                state STARTING
                begin g1
            1 begun 0
                deploy g1 from 0: 2 tasks
            2 running
                state RUNNING
            3 poisoned
                stop
                drop state
                state FAILED
        "#]],
    );
}

#[test]
fn a_lost_store_is_tried_again_with_the_tasks_stopped() {
    check(
        "0 submit
         1 state-failed
         130 tick
         131 begun 0
         132 running
         1132 tick
         1133 staged 0 16
         1134 staged 1 16
         1135 state-failed
         1136 stopped
         1137 cancel",
        expect![[r#"
            0 submit
                state STARTING
                begin g1
            1 state-failed
                state RESTARTING
            130 tick
                state STARTING
                begin g2
            131 begun 0
                deploy g2 from 0: 2 tasks
            132 running
                state RUNNING
            1132 tick
                barrier 16 g2
            1133 staged 0 16
            1134 staged 1 16
                commit 16 g2
            1135 state-failed
                state RESTARTING
                suspend
            1136 stopped
            1137 cancel
                stop at workers [1]
                drop state
                state CANCELED
        "#]],
    );
}

#[test]
fn cancel_stops_what_runs_and_nothing_else_follows() {
    check(
        "0 submit
         1 begun 0
         2 running
         1002 tick
         1003 cancel
         1004 staged 0 16
         1005 staged 1 16
         1006 stopped
         1007 begun 16
         1008 running",
        expect![[r#"
            0 submit
                state STARTING
                begin g1
            1 begun 0
                deploy g1 from 0: 2 tasks
            2 running
                state RUNNING
            1002 tick
                barrier 16 g1
            1003 cancel
                state CANCELING
                stop
            1004 staged 0 16
            1005 staged 1 16
            1006 stopped
                drop state
                state CANCELED
            1007 begun 16
            1008 running
        "#]],
    );
    check(
        "0 submit\n1 cancel\n2 begun 0",
        expect![[r#"
            0 submit
                state STARTING
                begin g1
            1 cancel
                state CANCELING
            2 begun 0
                drop state
                state CANCELED
        "#]],
    );
    check(
        "0 cancel\n1 submit",
        expect![[r#"
        0 cancel
            drop state
            state CANCELED
        1 submit
    "#]],
    );
    check(
        "0 submit
         1 begun 0
         2 running
         3 cancel
         4 failed",
        expect![[r#"
            0 submit
                state STARTING
                begin g1
            1 begun 0
                deploy g1 from 0: 2 tasks
            2 running
                state RUNNING
            3 cancel
                state CANCELING
                stop
            4 failed
                drop state
                state CANCELED
        "#]],
    );
}

#[test]
fn a_failure_while_publishing_starts_again() {
    check(
        "0 submit
         1 begun 0
         2 running
         3 finished 0
         4 finished 1
         5 staged 0 16
         6 staged 1 16
         7 committed 16
         8 failed
         150 tick
         151 begun 16
         152 running
         153 finished 0
         154 finished 1
         155 staged 0 32
         156 staged 1 32
         157 committed 32
         158 published 32
         159 stopped",
        expect![[r#"
            0 submit
                state STARTING
                begin g1
            1 begun 0
                deploy g1 from 0: 2 tasks
            2 running
                state RUNNING
            3 finished 0
            4 finished 1
                barrier 16 g1
            5 staged 0 16
            6 staged 1 16
                commit 16 g1
            7 committed 16
                tell committed 16 g1
                state FINISHING
            8 failed
                state RESTARTING
                suspend
            150 tick
                state STARTING
                begin g2
            151 begun 16
                deploy g2 from 16: 2 tasks
            152 running
                state RUNNING
            153 finished 0
            154 finished 1
                barrier 32 g2
            155 staged 0 32
            156 staged 1 32
                commit 32 g2
            157 committed 32
                tell committed 32 g2
                state FINISHING
            158 published 32
                record sink_0 published 32
                stop
            159 stopped
                drop state
                state FINISHED
        "#]],
    );
}

#[test]
fn an_outage_of_the_state_service_never_gives_a_job_up() {
    let mut job = job(1000, 0);
    job.handle(Event::Submitted, 0);
    let worker = WorkerId(1);
    let running = |job: &mut Job, now_us: u64| {
        let generation = job.generation();
        let begun = Event::StateBegun {
            generation,
            restored: Epoch::ZERO,
            first: Epoch(16 * generation.0),
        };
        job.handle(begun, now_us);
        let kind = WorkerEventKind::Running;
        let event = Event::Worker {
            worker,
            generation,
            kind,
        };
        job.handle(event, now_us);
        assert_eq!(job.state(), JobState::Running, "{generation}");
    };
    job.handle(Event::Workers([worker].into()), 0);
    for round in 0..20_u64 {
        let now_us = round * 100_000_000;
        // Tasks cannot read, no state node takes the next generation, commits are not answered.
        running(&mut job, now_us);
        let failed = Event::Worker {
            worker,
            generation: job.generation(),
            kind: WorkerEventKind::Failed {
                task: TaskId(0),
                error: "no answer".to_owned(),
                retry: Retry::Platform,
            },
        };
        job.handle(failed, now_us);
        assert_eq!(job.state(), JobState::Restarting, "{round}");
        job.handle(Event::Tick, job.wake_at_us().expect("it waits"));
        let unavailable = |job: &Job| Event::StateFailed {
            generation: job.generation(),
            error: "no state node".to_owned(),
            retryable: true,
        };
        let failed = unavailable(&job);
        job.handle(failed, now_us + 50_000_000);
        assert!(!job.state().is_terminal(), "{round}");
        job.handle(Event::Tick, job.wake_at_us().expect("it waits"));
        running(&mut job, now_us + 80_000_000);
        let failed = unavailable(&job);
        job.handle(failed, now_us + 90_000_000);
        assert!(!job.state().is_terminal(), "{round}");
        job.handle(Event::Tick, job.wake_at_us().expect("it waits"));
    }
}
