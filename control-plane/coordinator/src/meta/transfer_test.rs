//! Exports and imports as they are remembered.

use std::sync::Arc;

use proto::{
    control::JobOptions,
    log::{LogHolding, LogObject},
    plan::Plan,
    state_control::ShardFiles,
    transfer::{Exported, TransferWork},
    types::{Epoch, Generation, JobId, ShardId, TransferId},
};

use super::*;

const JOB: JobId = JobId(1);
const TR: TransferId = TransferId(1);

#[derive(Default)]
struct Cluster {
    state: MetaState,
    requests: u64,
}

impl Cluster {
    fn change(&mut self, change: Change) -> Answer {
        self.requests += 1;
        let request = self.requests;
        let answer = self.state.apply(Command { request, change });
        // What the log and snapshots carry is bytes.
        let text = serde_json::to_string(&self.state).expect("serializable");
        assert_eq!(
            serde_json::from_str::<MetaState>(&text).expect("readable"),
            self.state
        );
        answer
    }

    /// A job of two shards, one of them flushed, with a savepoint.
    fn with_savepoint() -> Cluster {
        let mut cluster = Cluster::default();
        let cluster_id = "home".to_owned();
        cluster.change(Change::Found { cluster_id });
        let spec = JobSpec {
            name: "counts".to_owned(),
            sql: "INSERT INTO t /*+ OPTIONS('password' = 'secret') */ SELECT 1".to_owned(),
            plan: Arc::new(Plan {
                key_groups: 256,
                ..Plan::default()
            }),
            options: JobOptions {
                shards: 2,
                ..JobOptions::default()
            },
            select: None,
            origin: None,
            tables_max: 7,
        };
        cluster.change(Change::Accept {
            catalog: None,
            statements: None,
            jobs: vec![spec],
            now_ms: 5,
            seed: 1,
        });
        let generation = Generation(1);
        cluster.change(Change::Begin {
            job: JOB,
            generation,
        });
        let mut previous = Epoch::ZERO;
        for epoch in [Epoch(17), Epoch(18)] {
            let object = LogObject {
                name: format!("1/{epoch}/a.rows"),
                bytes: 10,
                holds: LogHolding::Rows(vec![ShardId(0), ShardId(1)]),
            };
            cluster.change(Change::Commit {
                job: JOB,
                generation,
                previous,
                epoch,
                objects: vec![object],
                overtaken_bytes: 0,
                published: [].into(),
            });
            previous = epoch;
        }
        let files = ShardFiles {
            line: 0,
            manifest: Epoch(17),
            parents: Vec::new(),
        };
        cluster.change(Change::Durable {
            job: JOB,
            durable: [(ShardId(0), Epoch(17))].into(),
            files: [(ShardId(0), files)].into(),
        });
        let saved = cluster.change(Change::Save {
            job: JOB,
            name: "s".to_owned(),
            at: RestoreAt::Newest,
            now_ms: 9,
        });
        assert_eq!(saved, Answer::Saved { epoch: Epoch(18) });
        cluster
    }

    fn begin(&mut self, spec: TransferSpec) -> Answer {
        self.change(Change::BeginTransfer { spec, now_ms: 10 })
    }

    fn end(&mut self, end: TransferEnd) -> Answer {
        let (transfer, now_ms) = (TR, 12);
        self.change(Change::EndTransfer {
            transfer,
            end,
            now_ms,
        })
    }

    fn work(&self) -> TransferWork {
        let transfer = &self.state.transfers[&TR];
        self.state.transfer_work(transfer).expect("there is some")
    }
}

fn export(savepoint: &str) -> TransferSpec {
    TransferSpec::Export {
        job: JOB,
        savepoint: savepoint.to_owned(),
        to: "s3://other/a".to_owned(),
    }
}

fn import() -> TransferSpec {
    TransferSpec::Import {
        from: "s3://other/a".to_owned(),
        savepoint: None,
    }
}

/// What an export of that savepoint leaves.
fn exported() -> Exported {
    let mut home = Cluster::with_savepoint();
    home.begin(export("s"));
    let TransferWork::Export(work) = home.work() else {
        panic!("it is an export");
    };
    Exported {
        source: work.source,
        shape: work.shape,
        job: work.job,
        bytes: 100,
        checksum: 3,
    }
}

fn found(exported: Exported) -> Change {
    Change::FoundTransfer {
        transfer: TR,
        found: Box::new(exported),
        now_ms: 11,
        seed: 2,
    }
}

#[test]
fn a_savepoint_that_is_being_copied_stays() {
    let mut cluster = Cluster::with_savepoint();
    let answer = cluster.begin(export("t"));
    assert!(matches!(
        answer,
        Answer::Refused(Refusal::UnknownSavepoint { .. })
    ));
    assert_eq!(cluster.begin(export("s")), Answer::Transfer { id: TR });
    // Asked for again, it is the same.
    assert_eq!(cluster.begin(export("s")), Answer::Transfer { id: TR });
    let TransferWork::Export(work) = cluster.work() else {
        panic!("it is an export");
    };
    assert_eq!(work.manifests[&ShardId(0)].epoch, Epoch(17));
    let log: Vec<u64> = work
        .log
        .iter()
        .map(|entry| entry.committed.epoch.0)
        .collect();
    assert_eq!(log, [17, 18], "one shard lacks the rows of both");
    assert!(!work.job.contains("secret"), "{}", work.job);
    let drop = || Change::DropSavepoint {
        job: JOB,
        name: "s".to_owned(),
    };
    let refused = cluster.change(drop());
    let Answer::Refused(refusal @ Refusal::Exporting { .. }) = refused else {
        panic!("{refused:?}");
    };
    assert!(refusal.to_string().contains("is being exported by tr_1"));
    cluster.end(TransferEnd::Canceled);
    assert!(matches!(cluster.change(drop()), Answer::Trimmed { .. }));
    assert!(matches!(
        cluster.end(TransferEnd::Canceled),
        Answer::Refused(Refusal::TransferEnded(TR))
    ));
}

#[test]
fn what_is_imported_is_held_while_it_comes_and_then_a_savepoint() {
    let mut cluster = Cluster::default();
    cluster.begin(import());
    assert!(matches!(cluster.work(), TransferWork::Inspect { .. }));
    let importing = Answer::Importing { job: JOB };
    assert_eq!(cluster.change(found(exported())), importing);
    assert_eq!(cluster.change(found(exported())), importing, "once");
    assert!(matches!(cluster.work(), TransferWork::Import(_)));
    let record = &cluster.state.jobs[&JOB];
    assert!(record.is_importing() && record.savepoints.is_empty());
    let references = cluster.state.references(JOB).expect("known");
    assert_eq!(references.databases.len(), 2, "{references:?}");
    assert!(cluster.state.is_held(JOB));

    cluster.end(TransferEnd::Done { bytes: 100 });
    let record = &cluster.state.jobs[&JOB];
    assert_eq!(record.savepoints["s"].point.epoch, Epoch(18));
    assert_eq!(record.sources_since_ms(), 5, "those of the job at home");
    let spec = JobSpec {
        origin: Some(OriginSpec {
            job: JOB,
            at: RestoreAt::Savepoint("s".to_owned()),
        }),
        ..record.spec.clone()
    };
    let accepted = cluster.change(Change::Accept {
        catalog: None,
        statements: None,
        jobs: vec![spec],
        now_ms: 20,
        seed: 1,
    });
    let jobs = vec![JobId(2)];
    assert_eq!(accepted, Answer::Accepted { jobs });
    let open = cluster.state.jobs[&JobId(2)].open_shard(ShardId(1));
    let base = open.base.expect("it is cloned from what was imported");
    assert_eq!((base.of.job, base.epoch), (JOB, Epoch(18)));
}

#[test]
fn an_import_that_comes_to_nothing_leaves_nothing() {
    for end in [
        TransferEnd::Canceled,
        TransferEnd::Failed {
            error: "damaged".to_owned(),
        },
    ] {
        let mut cluster = Cluster::default();
        cluster.begin(import());
        cluster.change(found(exported()));
        let early = cluster.change(Change::Dropped { job: JOB });
        assert_eq!(early, Answer::Refused(Refusal::Held(JOB)));
        cluster.end(end);
        assert!(!cluster.state.is_held(JOB));
        assert_eq!(cluster.change(Change::Dropped { job: JOB }), Answer::Done);
        assert_eq!(cluster.state.jobs.len(), 0);
    }
}

#[test]
fn what_does_not_fit_is_not_imported() {
    let mut cluster = Cluster::default();
    cluster.begin(import());
    let newer = exported()
        .job
        .replace("\"plan\":{", "\"plan\":{\"version\":99,");
    for (exported, why) in [
        (
            Exported {
                job: "{}".to_owned(),
                ..exported()
            },
            "missing field",
        ),
        (
            Exported {
                job: newer,
                ..exported()
            },
            "version 99 is newer",
        ),
        (
            {
                let mut exported = exported();
                exported.shape.shards = 3;
                exported
            },
            "3 shards",
        ),
    ] {
        let answer = cluster.change(found(exported));
        let Answer::Refused(refusal @ Refusal::NotImportable { .. }) = answer else {
            panic!("{answer:?}");
        };
        assert!(refusal.to_string().contains(why), "{refusal}");
    }
    assert_eq!(cluster.state.jobs.len(), 0);
}

#[test]
fn transfers_are_few_and_the_last_ones_are_remembered() {
    let mut cluster = Cluster::with_savepoint();
    for number in 0..crate::caps::TRANSFERS_MAX {
        let from = format!("s3://other/{number}");
        let savepoint = None;
        let begun = cluster.begin(TransferSpec::Import { from, savepoint });
        assert!(matches!(begun, Answer::Transfer { .. }), "{begun:?}");
    }
    let refused = cluster.begin(export("s"));
    assert_eq!(refused, Answer::Refused(Refusal::TooManyTransfers));
    assert_eq!(cluster.end(TransferEnd::Canceled), Answer::Done);
    assert!(matches!(
        cluster.begin(export("s")),
        Answer::Transfer { .. }
    ));
}
