//! Histories of changes, and what is refused.

use std::{collections::BTreeMap, sync::Arc};

use proto::{
    control::JobOptions,
    log::{LogHolding, LogObject},
    plan::Plan,
    policy::AutoscalePolicy,
    state_control::ShardFiles,
    types::{Epoch, Generation, JobId, ShardId, SinkId, StateNodeId},
};

use super::*;
use crate::{
    JobState,
    place::{Parallelism, Routing},
};

const JOB: JobId = JobId(1);

struct Cluster {
    state: MetaState,
    requests: u64,
}

impl Cluster {
    fn new() -> Cluster {
        Cluster {
            state: MetaState::default(),
            requests: 0,
        }
    }

    fn with_job() -> Cluster {
        let mut cluster = Cluster::new();
        assert_eq!(cluster.accept(1), Answer::Accepted { jobs: vec![JOB] });
        cluster
    }

    fn change(&mut self, change: Change) -> Answer {
        self.requests += 1;
        let command = Command {
            request: self.requests,
            change,
        };
        // What the log carries is bytes.
        let text = serde_json::to_string(&command).expect("serializable");
        let read: Command = serde_json::from_str(&text).expect("readable");
        assert_eq!(read, command);
        self.state.apply(read)
    }

    fn accept(&mut self, jobs: usize) -> Answer {
        let spec = JobSpec {
            name: "job".into(),
            sql: "SELECT 1".into(),
            plan: Arc::new(Plan {
                key_groups: 256,
                ..Plan::default()
            }),
            options: JobOptions {
                retained_checkpoints: 1,
                ..JobOptions::default()
            },
            select: None,
            origin: None,
            tables_max: 0,
        };
        self.change(Change::Accept {
            catalog: None,
            statements: None,
            jobs: vec![spec; jobs],
            now_ms: 7,
            seed: 9,
        })
    }

    fn begin(&mut self, generation: u64) -> Answer {
        self.change(Change::Begin {
            job: JOB,
            generation: Generation(generation),
        })
    }

    fn commit(&mut self, generation: u64, previous: u64, epoch: u64) -> Answer {
        let objects = vec![
            object(
                &format!("{epoch}.rows"),
                LogHolding::Rows(vec![ShardId(0), ShardId(2)]),
            ),
            object(&format!("{epoch}.out"), LogHolding::Output(vec![SinkId(0)])),
        ];
        self.change(Change::Commit {
            job: JOB,
            generation: Generation(generation),
            previous: Epoch(previous),
            epoch: Epoch(epoch),
            objects,
            overtaken_bytes: 0,
            published: BTreeMap::new(),
        })
    }

    fn own(&mut self, shard: u32, node: u64) {
        let owned = self.change(Change::Own {
            job: JOB,
            owners: BTreeMap::from([(ShardId(shard), StateNodeId(node))]),
        });
        assert_eq!(owned, Answer::Done);
    }

    fn durable(&mut self, shard: u32, epoch: u64) -> Answer {
        let files = ShardFiles {
            manifest: Epoch(epoch),
            ..ShardFiles::default()
        };
        self.change(Change::Durable {
            job: JOB,
            durable: [(ShardId(shard), Epoch(epoch))].into(),
            files: [(ShardId(shard), files)].into(),
        })
    }

    fn published(&mut self, epoch: u64) -> Answer {
        self.change(Change::Published {
            job: JOB,
            published: [(SinkId(0), Epoch(epoch))].into(),
        })
    }

    fn record(&self) -> &JobRecord {
        self.state.job(JOB).expect("there")
    }
}

fn object(name: &str, holds: LogHolding) -> LogObject {
    LogObject {
        name: name.to_owned(),
        bytes: 1,
        holds,
    }
}

fn begun(restored: u64, first: u64) -> Answer {
    Answer::Begun {
        restored: Epoch(restored),
        first: Epoch(first),
    }
}

fn trimmed(names: &[&str]) -> Answer {
    Answer::Trimmed {
        objects: names.iter().map(ToString::to_string).collect(),
    }
}

fn refused(answer: Answer) -> String {
    match answer {
        Answer::Refused(refusal) => refusal.to_string(),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_commit_and_the_next_generation_exclude_each_other() {
    // The generation change comes first: the epoch never was.
    let mut first = Cluster::with_job();
    assert_eq!(first.begin(1), begun(0, 16));
    assert_eq!(first.begin(2), begun(0, 32));
    assert_eq!(
        refused(first.commit(1, 0, 16)),
        "generation g1 of job_1 was replaced by g2"
    );
    assert_eq!(first.record().committed, Epoch::ZERO);
    // The commit comes first: the next generation starts from it.
    let mut second = Cluster::with_job();
    second.begin(1);
    assert_eq!(second.commit(1, 0, 16), trimmed(&[]));
    assert_eq!(second.begin(2), begun(16, 32));
}

#[test]
fn epochs_of_generations_without_commits_are_not_used_again() {
    let mut cluster = Cluster::with_job();
    assert_eq!(cluster.begin(1), begun(0, 16));
    assert_eq!(cluster.begin(2), begun(0, 32));
    assert_eq!(cluster.begin(3), begun(0, 48));
    assert_eq!(
        refused(cluster.commit(3, 0, 47)),
        "epoch 47 of job_1 does not follow 0"
    );
    cluster.commit(3, 0, 60);
    assert_eq!(cluster.begin(4), begun(60, 76));
}

#[test]
fn an_epoch_is_committed_only_after_the_last_committed_one() {
    let mut cluster = Cluster::with_job();
    cluster.begin(1);
    cluster.commit(1, 0, 16);
    assert_eq!(
        refused(cluster.commit(1, 0, 17)),
        "epoch 17 of job_1 does not follow 16"
    );
    assert_eq!(
        refused(cluster.commit(1, 16, 16)),
        "epoch 16 of job_1 does not follow 16"
    );
    // Numbers of epochs in which nothing changed are left out.
    assert_eq!(cluster.commit(1, 16, 19), trimmed(&[]));
}

fn routing(version: u32) -> Routing {
    Routing {
        version,
        parallelism: Parallelism::uniform(4),
        tasks: Vec::new(),
        groups: BTreeMap::new(),
        place: BTreeMap::new(),
    }
}

#[test]
fn a_routing_counts_with_the_commit_of_its_epoch_and_with_nothing_else() {
    let mut cluster = Cluster::with_job();
    let reroute = |cluster: &mut Cluster, generation, epoch, version| {
        cluster.change(Change::Reroute {
            job: JOB,
            generation: Generation(generation),
            epoch: Epoch(epoch),
            routing: routing(version),
        })
    };
    let in_force = |cluster: &Cluster| {
        let job = &cluster.state.jobs[&JOB];
        job.routing.as_ref().map(|routing| routing.version)
    };
    cluster.begin(1);
    cluster.commit(1, 0, 16);
    // Noted with 17; the leader dies when some sources have that barrier. The next one begins anew,
    // and whatever was on its way does not count.
    assert_eq!(reroute(&mut cluster, 1, 17, 1), Answer::Done);
    cluster.begin(2);
    let first = cluster.state.jobs[&JOB].first.0;
    assert!(matches!(cluster.commit(1, 16, 17), Answer::Refused(_)));
    cluster.commit(2, 16, first);
    assert_eq!(in_force(&cluster), None);
    assert!(matches!(
        reroute(&mut cluster, 1, first + 1, 1),
        Answer::Refused(_)
    ));
    assert!(matches!(
        reroute(&mut cluster, 2, first, 2),
        Answer::Refused(_)
    ));
    // A commit of an epoch before says nothing yet; that of its own makes it count for whoever leads.
    assert_eq!(reroute(&mut cluster, 2, first + 2, 2), Answer::Done);
    cluster.commit(2, first, first + 1);
    assert_eq!(in_force(&cluster), None);
    cluster.commit(2, first + 1, first + 2);
    assert_eq!(in_force(&cluster), Some(2));
    cluster.begin(3);
    assert_eq!(in_force(&cluster), Some(2));
}

#[test]
fn a_request_is_applied_once() {
    let mut cluster = Cluster::with_job();
    cluster.begin(1);
    let commit = Command {
        request: 99,
        change: Change::Commit {
            job: JOB,
            generation: Generation(1),
            previous: Epoch(0),
            epoch: Epoch(16),
            objects: vec![object("a", LogHolding::Rows(vec![ShardId(1)]))],
            overtaken_bytes: 0,
            published: BTreeMap::new(),
        },
    };
    let first = cluster.state.apply(commit.clone());
    assert_eq!(cluster.state.apply(commit), first);
    assert_eq!(cluster.record().log.values().flatten().count(), 1);
}

#[test]
fn the_log_shrinks_as_shards_and_sinks_are_done_with_it() {
    let mut cluster = Cluster::with_job();
    cluster.begin(1);
    cluster.commit(1, 0, 16);
    cluster.commit(1, 16, 17);
    assert_eq!(cluster.durable(0, 17), trimmed(&[]));
    assert_eq!(cluster.durable(2, 16), trimmed(&["16.rows"]));
    assert_eq!(cluster.published(16), trimmed(&["16.out"]));
    assert_eq!(cluster.durable(2, 17), trimmed(&["17.rows"]));
    // Nobody is further than what is committed.
    assert_eq!(cluster.published(99), trimmed(&["17.out"]));
    assert_eq!(cluster.commit(1, 17, 18), trimmed(&[]));
    assert_eq!(
        cluster.state.references(JOB).expect("there").objects,
        ["18.out", "18.rows"]
    );
}

#[test]
fn the_owner_of_a_shard_is_told_what_it_lacks() {
    let mut cluster = Cluster::with_job();
    cluster.begin(1);
    cluster.commit(1, 0, 16);
    cluster.commit(1, 16, 17);
    cluster.durable(2, 16);
    let epochs = |shard| -> Vec<u64> {
        let open = cluster.record().open_shard(ShardId(shard));
        open.log.iter().map(|committed| committed.epoch.0).collect()
    };
    assert_eq!(epochs(0), [16, 17]);
    assert_eq!(epochs(1), [0; 0]);
    assert_eq!(epochs(2), [17]);
    let output = |shard| cluster.record().open_shard(ShardId(shard)).output.len();
    assert_eq!([output(0), output(1)], [2, 0]);
}

#[test]
fn an_owner_is_told_how_often_the_shard_was_given_away() {
    let mut cluster = Cluster::with_job();
    let numbers = |cluster: &Cluster| {
        let number = |shard| cluster.record().open_shard(ShardId(shard)).ownership;
        [number(0), number(1)]
    };
    assert_eq!(numbers(&cluster), [0, 0]);
    for (shard, node, numbers_then) in [(0, 1, [1, 0]), (0, 2, [2, 0]), (1, 2, [2, 1])] {
        cluster.own(shard, node);
        assert_eq!(numbers(&cluster), numbers_then);
    }
    // Back where it was before.
    cluster.own(0, 1);
    assert_eq!(numbers(&cluster), [3, 1]);
    cluster.begin(1);
    assert_eq!(numbers(&cluster), [3, 1]);
}

#[test]
fn a_job_that_has_ended_stays_as_it_is() {
    let mut cluster = Cluster::with_job();
    cluster.begin(1);
    let outcome = Outcome {
        state: JobState::Failed,
        error: Some("division by zero".into()),
        at_ms: 8,
    };
    let end = Change::End { job: JOB, outcome };
    assert_eq!(cluster.change(end.clone()), Answer::Done);
    assert_eq!(refused(cluster.change(end)), "job_1 has ended");
    assert_eq!(refused(cluster.begin(2)), "job_1 has ended");
    assert_eq!(refused(cluster.commit(1, 0, 16)), "job_1 has ended");
    cluster.change(Change::Dropped { job: JOB });
    assert_eq!(cluster.change(Change::Forget { job: JOB }), Answer::Done);
    assert_eq!(refused(cluster.begin(2)), "job_1 does not exist");
    // Numbers of jobs are not used again either.
    assert_eq!(
        cluster.accept(1),
        Answer::Accepted {
            jobs: vec![JobId(2)]
        }
    );
}

#[test]
fn a_script_that_was_planned_against_an_older_catalog_is_refused() {
    let mut cluster = Cluster::new();
    let accept = |catalog| Change::Accept {
        catalog: Some(catalog),
        statements: Some(vec!["CREATE TABLE t".into()]),
        jobs: Vec::new(),
        now_ms: 0,
        seed: 0,
    };
    assert_eq!(cluster.change(accept(0)), Answer::Accepted { jobs: vec![] });
    assert_eq!(
        refused(cluster.change(accept(0))),
        "the catalog has changed meanwhile (version 1)"
    );
}

#[test]
fn a_job_that_the_user_wants_forgotten_stays_until_its_files_are_gone() {
    let mut cluster = Cluster::with_job();
    let forget = || Change::Forget { job: JOB };
    assert_eq!(refused(cluster.change(forget())), "job_1 has not ended");
    let outcome = Outcome {
        state: JobState::Canceled,
        error: None,
        at_ms: 8,
    };
    cluster.change(Change::End { job: JOB, outcome });
    assert_eq!(cluster.change(forget()), Answer::Done);
    assert!(cluster.record().forgotten);
    assert_eq!(refused(cluster.change(forget())), "job_1 does not exist");
    assert_eq!(cluster.change(Change::Dropped { job: JOB }), Answer::Done);
    assert!(!cluster.state.jobs.contains_key(&JOB));
}

#[test]
fn jobs_of_a_script_are_forgotten_together_or_not_at_all() {
    let mut cluster = Cluster::new();
    cluster.accept(3);
    let outcome = || Outcome {
        state: JobState::Finished,
        error: None,
        at_ms: 0,
    };
    let forget = |jobs: &[u64]| Change::ForgetAll {
        jobs: jobs.iter().copied().map(JobId).collect(),
    };
    for job in [JobId(1), JobId(2)] {
        cluster.change(Change::End {
            job,
            outcome: outcome(),
        });
    }
    cluster.change(Change::Dropped { job: JobId(2) });
    let before = cluster.state.jobs.clone();
    for (jobs, why) in [
        ([1, 2, 3], "job_3 has not ended"),
        ([2, 1, 4], "job_4 does not exist"),
    ] {
        assert_eq!(refused(cluster.change(forget(&jobs))), why);
        assert_eq!(cluster.state.jobs, before);
    }
    assert_eq!(cluster.change(forget(&[1, 2])), Answer::Done);
    assert!(cluster.state.jobs[&JobId(1)].forgotten);
    assert!(!cluster.state.jobs.contains_key(&JobId(2)));
}

#[test]
fn ended_jobs_are_forgotten_only_when_their_files_are_gone() {
    let mut cluster = Cluster::new();
    let mut ended = Vec::new();
    for _ in 0..crate::caps::JOBS_ENDED_MAX + 3 {
        let Answer::Accepted { jobs } = cluster.accept(1) else {
            panic!("refused");
        };
        let outcome = Outcome {
            state: JobState::Finished,
            error: None,
            at_ms: 0,
        };
        cluster.change(Change::End {
            job: jobs[0],
            outcome,
        });
        ended.push(jobs[0]);
    }
    assert_eq!(cluster.state.jobs.len(), ended.len());
    for job in &ended[..5] {
        cluster.change(Change::Dropped { job: *job });
    }
    let gone: Vec<JobId> = ended
        .into_iter()
        .filter(|job| !cluster.state.jobs.contains_key(job))
        .collect();
    assert_eq!(gone, [JobId(1), JobId(2), JobId(3)]);
}

#[test]
fn runs_differ_by_cluster_job_and_time() {
    let mut cluster = Cluster::new();
    cluster.accept(2);
    let runs: Vec<u64> = cluster.state.jobs.values().map(|job| job.run).collect();
    assert_ne!(runs[0], runs[1]);
}

#[test]
fn what_a_job_follows_can_be_changed_until_it_has_ended() {
    let mut cluster = Cluster::with_job();
    let policy = AutoscalePolicy::between(1, 8);
    let mut follow = |job, policy| cluster.change(Change::Autoscale { job, policy });
    assert_eq!(follow(JOB, Some(policy)), Answer::Done);
    let unknown = Refusal::UnknownJob(JobId(9));
    assert_eq!(follow(JobId(9), None), Answer::Refused(unknown));
    let options = |cluster: &Cluster| cluster.state.jobs[&JOB].spec.options.clone();
    assert_eq!(options(&cluster).autoscale, Some(policy));
    let outcome = Outcome {
        state: JobState::Canceled,
        error: None,
        at_ms: 1,
    };
    cluster.change(Change::End { job: JOB, outcome });
    let policy = None;
    let change = Change::Autoscale { job: JOB, policy };
    assert_eq!(cluster.change(change), Answer::Refused(Refusal::Ended(JOB)));
    assert_ne!(options(&cluster).autoscale, None);
}

#[test]
fn options_that_an_older_version_wrote_are_read() {
    let text = r#"{"parallelism":2,"batch_rows":1,"checkpoint_interval_ms":5,"restarts_max":3,
        "shards":4,"sink_patience_ms":null}"#;
    let options: JobOptions = serde_json::from_str(text).expect("readable");
    let expected = JobOptions {
        parallelism: 2,
        batch_rows: 1,
        checkpoint_interval_ms: 5,
        restarts_max: 3,
        ..JobOptions::default()
    };
    assert_eq!(options, expected);
}
