//! Changes of the routing while a job runs.

use expect_test::expect;

use super::script::check;

#[test]
fn a_rescale_is_prepared_recorded_and_then_carried_by_a_barrier() {
    check(
        "0 submit
         1 begun 0
         2 running
         500 rescale 4
         510 prepared 1
         520 prepared 2
         530 recorded 16
         535 staged 0 16
         540 staged 1 16
         550 committed 16
         1540 tick
         1550 staged 0 17
         1551 staged 1 17
         1552 staged 2 17
         1553 staged 3 17",
        expect![[r#"
            0 submit
                state STARTING
                begin g1
            1 begun 0
                deploy g1 from 0: 2 tasks
            2 running
                state RUNNING
            500 rescale 4
                prepare 4 tasks with workers [1]
            510 prepared 1
            520 prepared 2
                record 4 tasks from 16
            530 recorded 16
                barrier 16 g1
            535 staged 0 16
            540 staged 1 16
                commit 16 g1
            550 committed 16
                tell committed 16 g1
            1540 tick
                barrier 17 g1
            1550 staged 0 17
            1551 staged 1 17
            1552 staged 2 17
            1553 staged 3 17
                commit 17 g1 of 4
        "#]],
    );
}

#[test]
fn an_epoch_that_carries_a_routing_is_committed_although_nothing_changed() {
    check(
        "0 submit
         1 begun 0
         2 running
         500 rescale 1
         520 prepared 2
         530 recorded 16
         535 clean 0 16
         540 clean 1 16
         550 committed 16",
        expect![[r#"
            0 submit
                state STARTING
                begin g1
            1 begun 0
                deploy g1 from 0: 2 tasks
            2 running
                state RUNNING
            500 rescale 1
                prepare 1 tasks with workers [1]
            520 prepared 2
                record 1 tasks from 16
            530 recorded 16
                barrier 16 g1
            535 clean 0 16
            540 clean 1 16
                commit 16 g1 of 0
            550 committed 16
                tell committed 16 g1
        "#]],
    );
}

#[test]
fn a_rescale_that_cannot_be_prepared_leaves_the_job_as_it_is() {
    check(
        "0 submit
         1 begun 0
         2 running
         500 rescale 4
         510 unprepared 2
         520 prepared 2
         1002 tick
         1003 staged 0 16
         1004 staged 1 16
         1005 committed 16
         2000 rescale 3
         40000 tick",
        expect![[r#"
            0 submit
                state STARTING
                begin g1
            1 begun 0
                deploy g1 from 0: 2 tasks
            2 running
                state RUNNING
            500 rescale 4
                prepare 4 tasks with workers [1]
            510 unprepared 2
                keep routing
                stay at 2: no room
            520 prepared 2
            1002 tick
                barrier 16 g1
            1003 staged 0 16
            1004 staged 1 16
                commit 16 g1
            1005 committed 16
                tell committed 16 g1
            2000 rescale 3
                prepare 3 tasks with workers [1]
            40000 tick
                keep routing
                stay at 2: workers were not ready within 30 s
                barrier 17 g1
        "#]],
    );
}

#[test]
fn a_worker_that_comes_or_leaves_moves_tasks_and_no_more_than_it_must() {
    check(
        "0 submit
         1 begun 0
         2 running
         500 workers 1 2
         510 prepared 2
         511 prepared w2 2
         530 recorded 16
         535 staged 0 16
         540 staged 1 16
         550 committed 16
         600 leaving 2
         610 prepared 3
         611 prepared w2 3
         620 recorded 17
         630 clean 0 17
         631 clean 1 17
         640 committed 17
         700 workers 1",
        expect![[r#"
            0 submit
                state STARTING
                begin g1
            1 begun 0
                deploy g1 from 0: 2 tasks
            2 running
                state RUNNING
            500 workers 1 2
                prepare 2 tasks with workers [1, 2]
            510 prepared 2
            511 prepared w2 2
                record 2 tasks from 16
            530 recorded 16
                barrier 16 g1
            535 staged 0 16
            540 staged 1 16
                commit 16 g1
            550 committed 16
                tell committed 16 g1
            600 leaving 2
                prepare 2 tasks with workers [1, 2]
            610 prepared 3
            611 prepared w2 3
                record 2 tasks from 17
            620 recorded 17
                barrier 17 g1
            630 clean 0 17
            631 clean 1 17
                commit 17 g1 of 0
            640 committed 17
                tell committed 17 g1
                stop at workers [2]
            700 workers 1
        "#]],
    );
}

#[test]
fn a_worker_that_is_lost_before_it_has_tasks_restarts_nothing() {
    check(
        "0 submit
         1 begun 0
         2 running
         500 workers 1 2
         510 prepared 2
         520 workers 1",
        expect![[r#"
            0 submit
                state STARTING
                begin g1
            1 begun 0
                deploy g1 from 0: 2 tasks
            2 running
                state RUNNING
            500 workers 1 2
                prepare 2 tasks with workers [1, 2]
            510 prepared 2
            520 workers 1
                keep routing
        "#]],
    );
}

#[test]
fn after_a_failure_the_routing_is_the_one_that_was_committed() {
    // The barrier has carried the routing, and nobody knows whether its epoch was committed.
    let until_failure = "0 submit
         1 begun 0
         2 running
         500 rescale 4
         520 prepared 2
         530 recorded 16
         535 staged 0 16
         540 staged 1 16
         550 crashed
         900 tick";
    check(
        &format!("{until_failure}\n 910 begun 16"),
        expect![[r#"
            0 submit
                state STARTING
                begin g1
            1 begun 0
                deploy g1 from 0: 2 tasks
            2 running
                state RUNNING
            500 rescale 4
                prepare 4 tasks with workers [1]
            520 prepared 2
                record 4 tasks from 16
            530 recorded 16
                barrier 16 g1
            535 staged 0 16
            540 staged 1 16
                commit 16 g1
            550 crashed
                state RESTARTING
                suspend
            900 tick
                state STARTING
                begin g2
            910 begun 16
                deploy g2 from 16: 4 tasks
        "#]],
    );
    check(
        &format!("{until_failure}\n 910 begun 0"),
        expect![[r#"
            0 submit
                state STARTING
                begin g1
            1 begun 0
                deploy g1 from 0: 2 tasks
            2 running
                state RUNNING
            500 rescale 4
                prepare 4 tasks with workers [1]
            520 prepared 2
                record 4 tasks from 16
            530 recorded 16
                barrier 16 g1
            535 staged 0 16
            540 staged 1 16
                commit 16 g1
            550 crashed
                state RESTARTING
                suspend
            900 tick
                state STARTING
                begin g2
            910 begun 0
                stay at 2: crashed on purpose
                deploy g2 from 0: 2 tasks
        "#]],
    );
}

#[test]
fn a_task_has_finished_only_in_the_routing_that_it_has() {
    check(
        "0 submit
         1 begun 0
         2 running
         500 rescale 1
         520 prepared 2
         525 finished 0
         530 recorded 16
         531 finished 0
         532 finished 1
         535 staged 0 16
         540 staged 1 16
         550 committed 16
         600 finished 0 2
         610 staged 0 17",
        expect![[r#"
            0 submit
                state STARTING
                begin g1
            1 begun 0
                deploy g1 from 0: 2 tasks
            2 running
                state RUNNING
            500 rescale 1
                prepare 1 tasks with workers [1]
            520 prepared 2
                record 1 tasks from 16
            525 finished 0
            530 recorded 16
                barrier 16 g1
            531 finished 0
            532 finished 1
            535 staged 0 16
            540 staged 1 16
                commit 16 g1
            550 committed 16
                tell committed 16 g1
            600 finished 0 2
                barrier 17 g1
            610 staged 0 17
                commit 17 g1 of 1
        "#]],
    );
}
