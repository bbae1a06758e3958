//! Scripts of events with the effects that must follow. A line is `<ms> <event> [args]`; `g1`
//! names a generation where it is not the current one, `w2` a worker where it is not the first.

use std::collections::BTreeSet;

use expect_test::{Expect, expect};
use proto::{
    control::{JobOptions, Retry, TaskSpec, WorkerEventKind},
    log::{LogHolding, LogObject},
    types::{Epoch, Generation, ShardId, SinkId, TaskId, WorkerId},
};

use crate::{Effect, Event, Job, JobFacts, JobState};

fn job(interval_ms: u64, restarts_max: u32) -> Job {
    let task = |task| TaskSpec {
        task: TaskId(task),
        fragment: 0,
        index: task,
    };
    let facts = JobFacts {
        tasks: vec![task(0), task(1)],
        publishing: [SinkId(0)].into(),
        has_sources: true,
    };
    let options = JobOptions {
        checkpoint_interval_ms: interval_ms,
        restarts_max,
        ..JobOptions::default()
    };
    let mut job = Job::new(facts, options, 1);
    assert_eq!(job.handle(Event::Workers([WorkerId(1)].into()), 0), []);
    job
}

fn number(words: &mut Vec<&str>) -> u64 {
    words.remove(0).parse().expect("a number in the script")
}

fn event(words: &mut Vec<&str>, current: Generation, first: &mut Epoch) -> Event {
    let name = words.remove(0);
    let mut generation = current;
    if let Some(other) = words.first().and_then(|word| word.strip_prefix('g')) {
        generation = Generation(other.parse().expect("a generation"));
        words.remove(0);
    }
    let mut who = WorkerId(1);
    if let Some(other) = words.first().and_then(|word| word.strip_prefix('w')) {
        who = WorkerId(other.parse().expect("a worker"));
        words.remove(0);
    }
    let task = |words: &mut Vec<&str>| TaskId(number(words) as u32);
    let worker = |kind| Event::Worker {
        worker: who,
        generation,
        kind,
    };
    match name {
        "workers" => {
            let ids = words
                .drain(..)
                .map(|id| WorkerId(id.parse().expect("a worker")));
            Event::Workers(ids.collect())
        }
        "listed" => worker(WorkerEventKind::SplitsListed(Vec::new())),
        "submit" => Event::Submitted,
        "cancel" => Event::CancelRequested,
        "tick" => Event::Tick,
        "begun" => {
            let restored = Epoch(number(words));
            *first = Epoch::first_of_generation(restored, *first, restored);
            Event::StateBegun {
                generation,
                restored,
                first: *first,
            }
        }
        "committed" => Event::EpochCommitted {
            generation,
            epoch: Epoch(number(words)),
        },
        "state-failed" => Event::StateFailed {
            generation,
            error: "store away".into(),
            retryable: true,
        },
        "running" => worker(WorkerEventKind::Running),
        "full" => worker(WorkerEventKind::OutputFull),
        "stopped" => worker(WorkerEventKind::Stopped),
        // A clean task has changed nothing.
        "staged" | "clean" => {
            let (task, epoch) = (task(words), Epoch(number(words)));
            let object = LogObject {
                name: format!("{generation}/{epoch}/{task}"),
                bytes: 1,
                holds: LogHolding::Rows(vec![ShardId(0)]),
            };
            worker(WorkerEventKind::Staged {
                task,
                epoch,
                objects: if name == "staged" {
                    vec![object]
                } else {
                    Vec::new()
                },
            })
        }
        "finished" => worker(WorkerEventKind::Finished { task: task(words) }),
        "published" => worker(WorkerEventKind::Published {
            sink: SinkId(0),
            epoch: Epoch(number(words)),
        }),
        "failed" | "poisoned" | "crashed" => worker(WorkerEventKind::Failed {
            task: TaskId(0),
            error: format!("{name} on purpose"),
            retry: match name {
                "failed" => Retry::IfItRan,
                "crashed" => Retry::Always,
                _ => Retry::Never,
            },
        }),
        other => panic!("unknown event {other}"),
    }
}

fn show(effect: &Effect) -> String {
    match effect {
        Effect::BeginGeneration { generation } => format!("begin {generation}"),
        Effect::ListSplits {
            generation, worker, ..
        } => format!("list splits {generation} at {worker}"),
        Effect::Deploy {
            generation,
            restored,
            tasks,
            place,
            ..
        } => {
            let workers: BTreeSet<u64> = place.values().map(|worker| worker.0).collect();
            let on = match workers.len() {
                1 => String::new(),
                _ => format!(" on workers {workers:?}"),
            };
            format!(
                "deploy {generation} from {restored}: {} tasks{on}",
                tasks.len()
            )
        }
        Effect::SendBarrier { generation, epoch } => format!("barrier {epoch} {generation}"),
        Effect::Commit {
            generation,
            epoch,
            objects,
        } => match objects.len() {
            2 => format!("commit {epoch} {generation}"),
            objects => format!("commit {epoch} {generation} of {objects}"),
        },
        Effect::SendCommitted { generation, epoch } => {
            format!("tell committed {epoch} {generation}")
        }
        Effect::RecordPublished { sink, epoch, .. } => format!("record {sink} published {epoch}"),
        Effect::Stop => "stop".into(),
        Effect::DropState => "drop state".into(),
        Effect::ReportState(state) => format!("state {state}"),
    }
}

fn check_job(mut job: Job, script: &str, expected: &Expect) -> Job {
    let mut log = String::new();
    // First epoch of the newest generation, as the store would know it.
    let mut first = Epoch::ZERO;
    for line in script
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        let now_us = number(&mut words) * 1000;
        let event = event(&mut words, job.generation(), &mut first);
        let effects = job.handle(event, now_us);
        log.push_str(&format!("{line}\n"));
        for effect in &effects {
            log.push_str(&format!("    {}\n", show(effect)));
        }
    }
    expected.assert_eq(&log);
    job
}

#[allow(clippy::needless_pass_by_value)]
fn check(script: &str, expected: Expect) {
    check_job(job(1000, 3), script, &expected);
}

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
                stop
                state RESTARTING
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
                stop
                state RESTARTING
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
                stop
                state RESTARTING
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
                stop
                state RESTARTING
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
                stop
                state RESTARTING
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
                stop
                state RESTARTING
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
                stop
            1136 stopped
            1137 cancel
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
                stop
                state RESTARTING
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
                deploy g1 from 0: 2 tasks on workers {1, 2}
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
                deploy g1 from 0: 2 tasks on workers {1, 2}
            5 running w1
            6 running w2
                state RUNNING
            1006 tick
                barrier 16 g1
            1007 workers 1 2
            1008 staged w1 0 16
            1009 workers 2
                stop
                state RESTARTING
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
        job.handle(event(&mut words, job.generation(), &mut first), now_us);
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
                deploy g1 from 0: 2 tasks on workers {1, 2}
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
                deploy g1 from 0: 2 tasks on workers {2, 3}
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
