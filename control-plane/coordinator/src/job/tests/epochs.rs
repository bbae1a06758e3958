//! When epochs begin, are committed, and end a job.

use expect_test::expect;
use proto::types::Epoch;

use super::script::{check, check_job, job};

#[test]
fn bounded_input_ends_with_one_last_checkpoint_and_its_output_outside() {
    let job = check_job(
        job(1000, 3),
        "0 submit
         1 begun 0
         2 running
         500 tick
         1002 tick
         1003 staged 0 16
         1004 staged 0 16
         1010 staged 1 16
         1012 committed 16
         1013 published 16
         1500 finished 0
         1600 finished 1
         1610 staged 1 17
         1620 staged 0 17
         1625 committed 17
         1630 published 16
         1640 published 17
         1650 stopped
         1700 cancel",
        &expect![[r#"
            0 submit
                state STARTING
                begin g1
            1 begun 0
                deploy g1 from 0: 2 tasks
            2 running
                state RUNNING
            500 tick
            1002 tick
                barrier 16 g1
            1003 staged 0 16
            1004 staged 0 16
            1010 staged 1 16
                commit 16 g1
            1012 committed 16
                tell committed 16 g1
            1013 published 16
                record sink_0 published 16
            1500 finished 0
            1600 finished 1
                barrier 17 g1
            1610 staged 1 17
            1620 staged 0 17
                commit 17 g1
            1625 committed 17
                tell committed 17 g1
                state FINISHING
            1630 published 16
                record sink_0 published 16
            1640 published 17
                record sink_0 published 17
                stop
            1650 stopped
                drop state
                state FINISHED
            1700 cancel
        "#]],
    );
    assert_eq!(job.checkpoint_summary().count, 2);
    assert_eq!(job.checkpoint_summary().max_us, 25_000);
    assert_eq!(job.committed(), Epoch(17));
}

#[test]
fn without_an_interval_only_the_end_is_a_checkpoint() {
    let job = check_job(
        job(0, 3),
        "0 submit
         1 begun 0
         2 running
         9000 tick
         9001 finished 1
         9002 finished 0",
        &expect![[r#"
            0 submit
                state STARTING
                begin g1
            1 begun 0
                deploy g1 from 0: 2 tasks
            2 running
                state RUNNING
            9000 tick
            9001 finished 1
            9002 finished 0
                barrier 16 g1
        "#]],
    );
    assert_eq!(job.wake_at_us(), None);
}

#[test]
fn a_task_that_finishes_after_the_barrier_gets_another_epoch() {
    check(
        "0 submit
         1 begun 0
         2 running
         1002 tick
         1003 finished 0
         1004 finished 1
         1005 staged 0 16
         1006 staged 1 16
         1007 committed 16",
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
            1003 finished 0
            1004 finished 1
            1005 staged 0 16
            1006 staged 1 16
                commit 16 g1
            1007 committed 16
                tell committed 16 g1
                barrier 17 g1
        "#]],
    );
}

#[test]
fn tasks_may_finish_before_others_are_restored() {
    check(
        "0 submit
         1 begun 0
         2 finished 1
         3 finished 0
         4 running",
        expect![[r#"
            0 submit
                state STARTING
                begin g1
            1 begun 0
                deploy g1 from 0: 2 tasks
            2 finished 1
            3 finished 0
            4 running
                state RUNNING
                barrier 16 g1
        "#]],
    );
}

// Scenario 1: the next generation's first epoch must not meet the names of the one before.
#[test]
fn a_staged_epoch_of_a_dead_generation_is_never_met_again() {
    check(
        "0 submit
         1 begun 0
         2 running
         1002 tick
         1003 staged 0 16
         1004 failed
         1100 tick
         1110 tick
         1125 tick
         1126 begun 0
         1127 staged g1 1 16
         1127 running
         2127 tick
         2128 staged g1 1 32
         2129 staged 0 32
         2130 staged 1 32
         2131 committed 32",
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
            1003 staged 0 16
            1004 failed
                state RESTARTING
                suspend
            1100 tick
            1110 tick
            1125 tick
                state STARTING
                begin g2
            1126 begun 0
                deploy g2 from 0: 2 tasks
            1127 staged g1 1 16
            1127 running
                state RUNNING
            2127 tick
                barrier 32 g2
            2128 staged g1 1 32
            2129 staged 0 32
            2130 staged 1 32
                commit 32 g2
            2131 committed 32
                tell committed 32 g2
        "#]],
    );
}

// Scenario 4: the stream breaks while the commit is on its way; whichever wins, the restore epoch
// that the store fixed is what counts.
#[test]
fn a_commit_that_arrives_after_the_generation_change_is_void() {
    let script = |restored: u64| {
        format!(
            "0 submit
             1 begun 0
             2 running
             1002 tick
             1003 staged 0 16
             1003 staged 1 16
             1004 failed
             1130 tick
             1131 committed g1 16
             1132 begun {restored}
             1133 committed g1 16
             1134 running
             1135 committed 16"
        )
    };
    check(
        &script(0),
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
            1003 staged 0 16
            1003 staged 1 16
                commit 16 g1
            1004 failed
                state RESTARTING
                suspend
            1130 tick
                state STARTING
                begin g2
            1131 committed g1 16
            1132 begun 0
                deploy g2 from 0: 2 tasks
            1133 committed g1 16
            1134 running
                state RUNNING
            1135 committed 16
        "#]],
    );
    check(
        &script(16),
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
            1003 staged 0 16
            1003 staged 1 16
                commit 16 g1
            1004 failed
                state RESTARTING
                suspend
            1130 tick
                state STARTING
                begin g2
            1131 committed g1 16
            1132 begun 16
                deploy g2 from 16: 2 tasks
            1133 committed g1 16
            1134 running
                state RUNNING
            1135 committed 16
        "#]],
    );
}

// Scenario 5: no epoch number repeats over generations without a commit between them.
#[test]
fn generations_without_commits_use_fresh_epochs() {
    check(
        "0 submit
         1 begun 0
         2 running
         3 failed
         150 tick
         151 begun 0
         152 running
         1152 tick
         1153 failed
         1500 tick
         1501 begun 900
         1502 running
         2502 tick",
        expect![[r#"
            0 submit
                state STARTING
                begin g1
            1 begun 0
                deploy g1 from 0: 2 tasks
            2 running
                state RUNNING
            3 failed
                state RESTARTING
                suspend
            150 tick
                state STARTING
                begin g2
            151 begun 0
                deploy g2 from 0: 2 tasks
            152 running
                state RUNNING
            1152 tick
                barrier 32 g2
            1153 failed
                state RESTARTING
                suspend
            1500 tick
                state STARTING
                begin g3
            1501 begun 900
                deploy g3 from 900: 2 tasks
            1502 running
                state RUNNING
            2502 tick
                barrier 916 g3
        "#]],
    );
}

// Scenario 6: a slow epoch is waited for; none is skipped and none overtakes it.
#[test]
fn a_slow_epoch_holds_back_the_next_barrier() {
    check(
        "0 submit
         1 begun 0
         2 running
         1002 tick
         2002 tick
         60000 tick
         120000 staged 0 16
         120001 staged 1 17
         120002 committed 16
         120003 staged 1 16
         120004 committed 16
         120004 tick",
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
            2002 tick
            60000 tick
            120000 staged 0 16
            120001 staged 1 17
            120002 committed 16
            120003 staged 1 16
                commit 16 g1
            120004 committed 16
                tell committed 16 g1
            120004 tick
                barrier 17 g1
        "#]],
    );
}

#[test]
fn sources_that_wait_for_sinks_get_a_barrier_at_once() {
    check_job(
        job(0, 3),
        "0 submit
         1 begun 0
         2 full
         3 running
         4 staged 0 16
         5 full
         6 full
         7 staged 1 16
         8 committed 16
         9 staged 0 17
         10 staged 1 17
         11 committed 17
         12 full",
        &expect![[r#"
            0 submit
                state STARTING
                begin g1
            1 begun 0
                deploy g1 from 0: 2 tasks
            2 full
            3 running
                state RUNNING
                barrier 16 g1
            4 staged 0 16
            5 full
            6 full
            7 staged 1 16
                commit 16 g1
            8 committed 16
                tell committed 16 g1
                barrier 17 g1
            9 staged 0 17
            10 staged 1 17
                commit 17 g1
            11 committed 17
                tell committed 17 g1
            12 full
                barrier 18 g1
        "#]],
    );
}

#[test]
fn an_epoch_in_which_nothing_changed_writes_nothing() {
    check(
        "0 submit
         1 begun 0
         2 running
         1002 tick
         1003 clean 0 16
         1004 clean 1 16
         2002 tick
         3002 tick
         3003 clean 0 17
         3004 staged 1 17
         3005 committed 17
         3900 finished 0
         3901 finished 1
         3902 clean 0 18
         3903 clean 1 18
         3904 published 17
         3905 stopped",
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
            1003 clean 0 16
            1004 clean 1 16
            2002 tick
            3002 tick
                barrier 17 g1
            3003 clean 0 17
            3004 staged 1 17
                commit 17 g1 of 1
            3005 committed 17
                tell committed 17 g1
            3900 finished 0
            3901 finished 1
                barrier 18 g1
            3902 clean 0 18
            3903 clean 1 18
                state FINISHING
            3904 published 17
                record sink_0 published 17
                stop
            3905 stopped
                drop state
                state FINISHED
        "#]],
    );
}
