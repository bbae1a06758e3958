//! Upgrades: one of the two jobs is there, whatever comes between.

use std::{collections::BTreeMap, sync::Arc};

use proto::{
    control::JobOptions,
    log::{LogHolding, LogObject},
    plan::Plan,
    types::{Epoch, Generation, JobId, ShardId, SinkId},
};

use super::*;
use crate::JobState;

const OLD: JobId = JobId(1);
const NEW: JobId = JobId(2);

#[derive(Default)]
struct Cluster {
    state: MetaState,
    requests: u64,
}

fn spec(name: &str) -> JobSpec {
    JobSpec {
        name: name.to_owned(),
        sql: String::new(),
        plan: Arc::new(Plan {
            key_groups: 256,
            ..Plan::default()
        }),
        options: JobOptions::default(),
        select: None,
        origin: None,
        tables_max: 0,
    }
}

impl Cluster {
    /// A job with a committed epoch, whose output is not published yet.
    fn with_job() -> Cluster {
        let mut cluster = Cluster::default();
        cluster.change(Change::Accept {
            catalog: None,
            statements: None,
            jobs: vec![spec("old")],
            now_ms: 1,
            seed: 1,
        });
        let (job, generation) = (OLD, Generation(1));
        cluster.change(Change::Begin { job, generation });
        assert!(matches!(cluster.commit(0, 17), Answer::Trimmed { .. }));
        cluster
    }

    fn change(&mut self, change: Change) -> Answer {
        self.requests += 1;
        let request = self.requests;
        let text = serde_json::to_string(&change).expect("serializable");
        let change = serde_json::from_str(&text).expect("readable");
        self.state.apply(Command { request, change })
    }

    fn commit(&mut self, previous: u64, epoch: u64) -> Answer {
        self.commit_overtaken(previous, epoch, 0)
    }

    fn commit_overtaken(&mut self, previous: u64, epoch: u64, overtaken_bytes: u64) -> Answer {
        let object = |ending: &str, holds| LogObject {
            name: format!("1/{epoch}/a.{ending}"),
            bytes: 1,
            holds,
        };
        let objects = vec![
            object("rows", LogHolding::Rows(vec![ShardId(0)])),
            object("out", LogHolding::Output(vec![SinkId(0)])),
        ];
        self.change(Change::Commit {
            job: OLD,
            generation: Generation(1),
            previous: Epoch(previous),
            epoch: Epoch(epoch),
            objects,
            overtaken_bytes,
            published: BTreeMap::new(),
        })
    }

    fn upgrade(&mut self, mode: UpgradeMode, savepoint: Option<&str>) -> Answer {
        self.change(Change::Upgrade {
            job: OLD,
            catalog: Some(0),
            statements: Some(vec!["CREATE TABLE t".to_owned()]),
            mode,
            savepoint: savepoint.map(str::to_owned),
            spec: Box::new(spec("new")),
            now_ms: 5,
            seed: 2,
        })
    }

    fn end(&mut self, state: JobState) -> Answer {
        let (error, at_ms) = (None, 9);
        let outcome = Outcome {
            state,
            error,
            at_ms,
        };
        self.change(Change::End { job: OLD, outcome })
    }

    fn given_up(&self) -> &str {
        let upgrade = self.state.jobs[&OLD]
            .upgrade
            .as_ref()
            .expect("there was one");
        assert_eq!((&upgrade.waiting, upgrade.successor), (&None, None));
        assert_eq!(self.state.jobs.len(), 1);
        upgrade.given_up.as_deref().expect("why")
    }
}

/// What becomes of a job, and what is said of it.
type End = (fn(&mut Cluster), &'static str);

const WAITS: Answer = Answer::Upgraded { successor: None };

#[test]
fn what_was_overtaken_is_no_state_for_a_successor() {
    let mut cluster = Cluster::with_job();
    cluster.commit_overtaken(17, 18, 1);
    let (job, epoch) = (OLD, Epoch(18));
    let refused = Answer::Refused(Refusal::Overtaken { job, epoch });
    assert_eq!(cluster.upgrade(UpgradeMode::LastState, None), refused);
    cluster.commit(18, 19);
    let successor = Some(NEW);
    let upgraded = cluster.upgrade(UpgradeMode::LastState, None);
    assert_eq!(upgraded, Answer::Upgraded { successor });
}

#[test]
fn a_successor_begins_with_the_savepoint_in_the_step_in_which_the_job_ends() {
    let mut cluster = Cluster::with_job();
    assert_eq!(cluster.upgrade(UpgradeMode::Savepoint, Some("u")), WAITS);
    assert_eq!(cluster.state.catalog.version, 1);
    let again = cluster.upgrade(UpgradeMode::Savepoint, Some("v"));
    assert_eq!(again, Answer::Refused(Refusal::Stopping(OLD)));
    cluster.commit(17, 18);
    assert_eq!(
        cluster.end(JobState::Finished),
        Answer::Succeeded { by: NEW }
    );
    let record = &cluster.state.jobs[&NEW];
    let origin = record.origin.as_ref().expect("it has one");
    assert_eq!((origin.job, origin.epoch), (OLD, Epoch(18)));
    assert_eq!(origin.savepoint.as_deref(), Some("u"));
    assert_eq!(record.spec.name, "new");
    let upgrade = cluster.state.jobs[&OLD]
        .upgrade
        .as_ref()
        .expect("it is known");
    assert_eq!(upgrade.successor, Some(NEW));
}

#[test]
fn whatever_else_becomes_of_the_job_nobody_takes_its_place() {
    let ends: [End; 3] = [
        (
            |cluster| {
                let (error, at_ms) = ("poisoned".to_owned(), 7);
                cluster.change(Change::Quarantine {
                    job: OLD,
                    error,
                    at_ms,
                });
                assert_eq!(cluster.state.jobs[&OLD].desired, Desired::Run);
            },
            "is in quarantine",
        ),
        (
            |cluster| drop(cluster.change(Change::Cancel { job: OLD })),
            "was cancelled",
        ),
        (
            |cluster| drop(cluster.end(JobState::Failed)),
            "did not end with a savepoint",
        ),
    ];
    for (end, why) in ends {
        let mut cluster = Cluster::with_job();
        assert_eq!(cluster.upgrade(UpgradeMode::Savepoint, Some("u")), WAITS);
        end(&mut cluster);
        assert!(cluster.given_up().contains(why), "{}", cluster.given_up());
        // Its end comes as it would have come.
        cluster.end(JobState::Canceled);
        assert_eq!(cluster.state.jobs.len(), 1);
    }
}

#[test]
fn the_last_state_goes_over_in_one_step_and_the_job_commits_no_more() {
    let mut cluster = Cluster::with_job();
    let upgraded = Answer::Upgraded {
        successor: Some(NEW),
    };
    assert_eq!(cluster.upgrade(UpgradeMode::LastState, Some("u")), upgraded);
    let kept = &cluster.state.jobs[&OLD].savepoints["u"];
    assert_eq!(
        kept.point.epoch,
        Epoch(17),
        "should the successor come to nothing"
    );
    let record = &cluster.state.jobs[&NEW];
    assert_eq!(
        record.origin.as_ref().map(|origin| origin.epoch),
        Some(Epoch(17))
    );
    let log = record.inherited.values().flat_map(|logged| &logged.objects);
    assert_eq!(log.count(), 1, "the rows are held");
    let outcome = cluster.state.jobs[&OLD]
        .outcome
        .as_ref()
        .expect("it has ended");
    assert_eq!(outcome.state, JobState::Canceled);
    let late = cluster.commit(17, 18);
    assert_eq!(late, Answer::Refused(Refusal::Ended(OLD)));
    let needed = cluster.state.references(OLD).expect("known");
    assert_eq!(needed.objects, ["1/17/a.rows"]);
}

#[test]
fn an_upgrade_that_cannot_be_changes_nothing() {
    let mut cluster = Cluster::with_job();
    let (error, at_ms) = ("poisoned".to_owned(), 7);
    cluster.change(Change::Quarantine {
        job: OLD,
        error,
        at_ms,
    });
    let before = cluster.state.jobs.clone();
    let refused = cluster.upgrade(UpgradeMode::Savepoint, Some("u"));
    assert_eq!(refused, Answer::Refused(Refusal::Quarantined(OLD)));
    let moved = cluster.change(Change::Upgrade {
        job: OLD,
        catalog: Some(7),
        statements: None,
        mode: UpgradeMode::Stateless,
        savepoint: None,
        spec: Box::new(spec("new")),
        now_ms: 5,
        seed: 2,
    });
    assert_eq!(moved, Answer::Refused(Refusal::CatalogMoved(0)));
    let mut other = spec("new");
    other.options.shards = 64;
    let cut = cluster.change(Change::Upgrade {
        job: OLD,
        catalog: None,
        statements: None,
        mode: UpgradeMode::LastState,
        savepoint: None,
        spec: Box::new(other),
        now_ms: 5,
        seed: 2,
    });
    assert!(
        matches!(cut, Answer::Refused(Refusal::OtherCut { .. })),
        "{cut:?}"
    );
    assert_eq!(cluster.state.jobs, before);
    // From its last state it can go on, though it is in quarantine.
    let upgraded = cluster.upgrade(UpgradeMode::LastState, None);
    assert!(matches!(upgraded, Answer::Upgraded { successor: Some(_) }));

    // Or from nothing.
    let mut cluster = Cluster::with_job();
    let upgraded = cluster.upgrade(UpgradeMode::Stateless, None);
    assert!(matches!(
        upgraded,
        Answer::Upgraded {
            successor: Some(NEW)
        }
    ));
    assert_eq!(cluster.state.jobs[&NEW].origin, None);
    assert!(cluster.state.jobs[&OLD].outcome.is_some());
}
