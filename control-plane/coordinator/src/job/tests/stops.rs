//! Ends that keep state: stopping with a last checkpoint, and quarantine.

use expect_test::expect;
use proto::{
    control::JobOptions,
    types::{Epoch, KeyGroupCount},
};

use super::script::{check, check_job, job};
use crate::{
    JobState,
    meta::{JobRecord, JobSpec},
    place::PlanShape,
};

/// A job that has committed epoch 16.
const COMMITTED: &str = "
    0 submit
    1 begun 0
    2 running
    1002 tick
    1003 staged 0 16
    1004 staged 1 16
    1005 committed 16
";

fn script(more: &str) -> String {
    format!("{COMMITTED}{more}")
}

#[test]
fn a_job_that_is_to_stop_ends_with_a_last_checkpoint_and_its_output_outside() {
    check(
        &script(
            "
            1100 stop
            1101 staged 0 17
            1102 staged 1 17
            1103 committed 17
            1104 published 16
            1105 published 17
            1106 stopped
            ",
        ),
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
            1004 staged 1 16
                commit 16 g1
            1005 committed 16
                tell committed 16 g1
            1100 stop
                hold sources g1
                barrier 17 g1
            1101 staged 0 17
            1102 staged 1 17
                commit 17 g1
            1103 committed 17
                tell committed 17 g1
                state FINISHING
            1104 published 16
                record sink_0 published 16
            1105 published 17
                record sink_0 published 17
                stop
            1106 stopped
                drop state
                state FINISHED
        "#]],
    );
}

#[test]
fn an_epoch_that_was_begun_before_is_not_the_last_one() {
    check(
        &script(
            "
            2002 tick
            2003 stop
            2004 staged 0 17
            2005 staged 1 17
            2006 committed 17
            2007 clean 0 18
            2008 clean 1 18
            2009 published 17
            2010 stopped
            ",
        ),
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
            1004 staged 1 16
                commit 16 g1
            1005 committed 16
                tell committed 16 g1
            2002 tick
                barrier 17 g1
            2003 stop
            2004 staged 0 17
            2005 staged 1 17
                commit 17 g1
            2006 committed 17
                tell committed 17 g1
                hold sources g1
                barrier 18 g1
            2007 clean 0 18
            2008 clean 1 18
                state FINISHING
            2009 published 17
                record sink_0 published 17
                stop
            2010 stopped
                drop state
                state FINISHED
        "#]],
    );
}

#[test]
fn a_job_that_drains_ends_as_if_its_input_had() {
    check(
        &script(
            "
            1100 drain
            2002 tick
            2003 staged 0 17
            2004 staged 1 17
            2005 committed 17
            2010 finished 0
            2011 finished 1
            2012 staged 0 18
            2013 staged 1 18
            2014 committed 18
            2015 published 18
            2016 stopped
            ",
        ),
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
            1004 staged 1 16
                commit 16 g1
            1005 committed 16
                tell committed 16 g1
            1100 drain
                end sources g1
            2002 tick
                barrier 17 g1
            2003 staged 0 17
            2004 staged 1 17
                commit 17 g1
            2005 committed 17
                tell committed 17 g1
            2010 finished 0
            2011 finished 1
                barrier 18 g1
            2012 staged 0 18
            2013 staged 1 18
                commit 18 g1
            2014 committed 18
                tell committed 18 g1
                state FINISHING
            2015 published 18
                record sink_0 published 18
                stop
            2016 stopped
                drop state
                state FINISHED
        "#]],
    );
}

#[test]
fn what_fails_while_it_stops_is_stopped_when_it_runs_again() {
    check(
        &script(
            "
            1100 stop
            1101 failed
            1300 tick
            1301 begun 16
            1302 running
            1303 clean 0 32
            1304 clean 1 32
            1305 published 16
            1306 stopped
            ",
        ),
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
            1004 staged 1 16
                commit 16 g1
            1005 committed 16
                tell committed 16 g1
            1100 stop
                hold sources g1
                barrier 17 g1
            1101 failed
                state RESTARTING
                suspend
            1300 tick
                state STARTING
                begin g2
            1301 begun 16
                deploy g2 from 16: 2 tasks
            1302 running
                state RUNNING
                hold sources g2
                barrier 32 g2
            1303 clean 0 32
            1304 clean 1 32
                state FINISHING
            1305 published 16
                record sink_0 published 16
                stop
            1306 stopped
                drop state
                state FINISHED
        "#]],
    );
}

#[test]
fn a_job_that_has_committed_something_is_not_given_up_but_kept() {
    let kept = check_job(
        job(1000, 3),
        &script(
            "
            1100 poisoned
            1101 stopped
            1102 stop
            1103 workers 1 2
            5000 tick
            5001 resume
            5002 begun 16
            5003 running
            5004 resume
            5005 poisoned
            5006 cancel
            ",
        ),
        &expect![[r#"
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
            1004 staged 1 16
                commit 16 g1
            1005 committed 16
                tell committed 16 g1
            1100 poisoned
                stop
                state QUARANTINED
            1101 stopped
            1102 stop
            1103 workers 1 2
            5000 tick
            5001 resume
                state STARTING
                begin g2
            5002 begun 16
                deploy g2 from 16: 2 tasks on workers [1, 2]
            5003 running
            5004 resume
            5005 poisoned
                stop
                state QUARANTINED
            5006 cancel
                drop state
                state CANCELED
        "#]],
    );
    assert_eq!(kept.state(), JobState::Canceled);
}

#[test]
fn restarts_begin_anew_after_quarantine() {
    let mut text = COMMITTED.to_owned();
    let restored = 16;
    for (at, round) in [(2000, 0), (8000, 1)] {
        if round > 0 {
            text.push_str(&format!("{at} resume\n"));
            text.push_str(&format!("{at} begun {restored}\n{at} running\n"));
        }
        for time in 0..3 {
            let at = at + time * 1500;
            text.push_str(&format!(
                "{at} failed\n{} tick\n{} begun {restored}\n",
                at + 1000,
                at + 1001
            ));
            text.push_str(&format!("{} running\n", at + 1002));
        }
        text.push_str(&format!("{} failed\n", at + 5000));
    }
    let mut log = Vec::new();
    let mut job = job(1000, 3);
    let mut first = Epoch::ZERO;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        let now_us = super::script::number(&mut words) * 1000;
        let event = super::script::event(
            &mut words,
            (job.generation(), job.routing().version),
            &mut first,
        );
        job.handle(event, now_us);
        if job.state() == JobState::Quarantined && log.last() != Some(&now_us) {
            log.push(now_us);
        }
    }
    assert_eq!(
        log,
        [7_000_000, 13_000_000],
        "after as many restarts each time"
    );
}

fn shape() -> PlanShape {
    PlanShape {
        key_groups: KeyGroupCount::DEFAULT,
        singletons: vec![false],
    }
}

fn record(select: bool, born: u64, committed: u64) -> JobRecord {
    use std::sync::Arc;

    use proto::types::JobId;

    use crate::meta::{Answer, Change, Command, MetaState, SelectColumns};

    let mut state = MetaState::default();
    let spec = JobSpec {
        name: "job".into(),
        sql: "SELECT 1".into(),
        plan: Arc::default(),
        options: JobOptions::default(),
        select: select.then(|| SelectColumns {
            columns: proto::plan::RowType::default(),
            upsert_key: None,
        }),
        origin: None,
        tables_max: 0,
    };
    let change = Change::Accept {
        catalog: None,
        statements: None,
        jobs: vec![spec],
        now_ms: 0,
        seed: 0,
    };
    let answer = state.apply(Command { request: 1, change });
    assert_eq!(
        answer,
        Answer::Accepted {
            jobs: vec![JobId(1)]
        }
    );
    let mut record = state.jobs.remove(&JobId(1)).expect("accepted");
    record.committed = Epoch(committed);
    record.first = Epoch(committed);
    record.origin = (born > 0).then_some(crate::meta::Origin {
        job: JobId(9),
        savepoint: None,
        epoch: Epoch(born),
        created_ms: 0,
    });
    record
}

#[test]
fn who_has_no_state_of_its_own_fails() {
    use std::collections::BTreeSet;

    use proto::types::WorkerId;

    use crate::{Event, Job, JobFacts};

    for (select, born, committed, wanted) in [
        (false, 0, 16, JobState::Quarantined),
        (false, 0, 0, JobState::Failed),
        // What it began with is kept where it was.
        (false, 16, 16, JobState::Failed),
        (false, 16, 32, JobState::Quarantined),
        (true, 0, 16, JobState::Failed),
    ] {
        let facts = JobFacts {
            shape: shape(),
            publishing: BTreeSet::new(),
            has_sources: false,
        };
        let mut job = Job::of_record(facts, &record(select, born, committed), 1);
        job.handle(Event::Workers([WorkerId(1)].into()), 0);
        job.handle(Event::Submitted, 0);
        let generation = job.generation();
        job.handle(
            Event::StateFailed {
                generation,
                error: "damaged".into(),
                retryable: false,
            },
            1,
        );
        assert_eq!(job.state(), wanted, "{select} {born} {committed}");
    }
}

#[test]
fn a_job_that_was_in_quarantine_stays_there_under_another_leader() {
    use crate::{Event, Job, JobFacts, meta::Quarantine};

    let mut record = record(false, 0, 16);
    record.quarantine = Some(Quarantine {
        error: "division by zero".into(),
        at_ms: 1,
    });
    let facts = JobFacts {
        shape: shape(),
        publishing: std::collections::BTreeSet::new(),
        has_sources: false,
    };
    let mut job = Job::of_record(facts, &record, 1);
    assert_eq!(job.handle(Event::Submitted, 0), []);
    assert_eq!(job.state(), JobState::Quarantined);
    assert_eq!(job.last_error(), Some("division by zero"));
    assert_eq!(job.handle(Event::Resumed, 1).len(), 2);
    assert_eq!(job.state(), JobState::Starting);
}
