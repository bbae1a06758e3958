//! Savepoints on their way to another place and from there: they come whole or not at all, wherever
//! they were cut off.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use proto::{
    state_control::{StateOrder, StateReport},
    transfer::{
        ExportSource, ExportWork, Exported, ImportWork, StateShape, TransferNews, TransferOrder,
        TransferWork,
    },
    types::{Epoch, Generation, JobId, KeyGroupCount, TransferId},
};
use state_client::{Incarnation, StateControl as _};
use tempfile::TempDir;

use super::world::{JOB, SHARD_PUT, SHARDS, World, flushed_after, never_flushed, rows, rows_in};
use crate::{
    NodeLimits,
    testing::{Fault, Request, RequestKind},
};

const IMPORTED: JobId = JobId(7);
const NEXT: JobId = JobId(8);
const TR: TransferId = TransferId(1);

/// Every record is a part of its own.
fn small_parts(limits: NodeLimits) -> NodeLimits {
    NodeLimits {
        part_bytes: 1,
        ..limits
    }
}

/// A world whose job has rows in its pages, in several namespaces, some of them closed, and newer ones
/// in its log only.
async fn world() -> World {
    let mut world = World::new(small_parts(flushed_after(2))).await;
    world.setup.control.set_trimming(false);
    let first = rows(16, &[(0, 1, "16"), (0, 2, "16"), (3, 1, "16")]);
    world.apply(16, first).await;
    world.apply(17, rows_in(17, 5, &[(0, 1, "in 5")])).await;
    world.apply(18, rows(18, &[(0, 3, "18")])).await;
    world.durable(0, 16).await;
    world.durable(3, 16).await;
    // From here on nothing is flushed.
    world.setup.limits = small_parts(never_flushed());
    world.restart().await;
    let last = rows(19, &[(0, 1, "18"), (0, 2, "19"), (3, 2, "19")]);
    world.apply(19, last).await;
    world
}

const ALL: [&str; 5] = ["18", "19", "in 5", "16", "19"];

async fn values(world: &World, who: Incarnation, at: u64) -> Vec<String> {
    let mut values = Vec::new();
    for (namespace, shard, key) in [(0, 0, 1), (0, 0, 2), (5, 0, 1), (0, 3, 1), (0, 3, 2)] {
        let found = world
            .try_get(who, at, namespace, shard, key)
            .await
            .expect("read");
        let text = |value: &bytes::Bytes| String::from_utf8_lossy(value).into_owned();
        values.extend(found.iter().map(text));
    }
    values
}

fn url(place: &Path) -> String {
    format!("file://{}", place.display())
}

impl World {
    /// Orders an attempt; what comes of it.
    async fn transfer(&self, attempt: u64, work: TransferWork) -> TransferNews {
        self.setup
            .control
            .order(StateOrder::Transfer(TransferOrder {
                transfer: TR,
                attempt,
                work,
            }));
        let news = |report: &StateReport| match report {
            StateReport::Transfer {
                attempt: of, news, ..
            } if *of == attempt && !matches!(news, TransferNews::Copied { .. }) => {
                Some(news.clone())
            }
            _ => None,
        };
        self.setup
            .control
            .reported(|report| news(report).is_some())
            .await;
        let reports = self.setup.control.reports();
        reports.iter().find_map(news).expect("just reported")
    }

    fn export_work(&self, to: &Path) -> ExportWork {
        let (manifests, log) = self.setup.control.newest(JOB);
        ExportWork {
            to: url(to),
            source: ExportSource {
                cluster: "home".to_owned(),
                job: JOB,
                run: 1,
                savepoint: "s".to_owned(),
                created_ms: 2,
                sources_since_ms: 3,
            },
            shape: StateShape {
                key_groups: KeyGroupCount::DEFAULT,
                shards: SHARDS,
                epoch: Epoch(19),
            },
            manifests,
            log,
            job: r#"{"plan":1}"#.to_owned(),
        }
    }

    async fn export(&self, attempt: u64, to: &Path) -> TransferNews {
        let work = TransferWork::Export(Box::new(self.export_work(to)));
        self.transfer(attempt, work).await
    }

    async fn inspect(&self, attempt: u64, from: &Path) -> Result<Exported, String> {
        let from = url(from);
        match self.transfer(attempt, TransferWork::Inspect { from }).await {
            TransferNews::Found(found) => Ok(*found),
            TransferNews::Failed { error } => Err(error),
            other => panic!("{other:?}"),
        }
    }

    fn import_work(&self, from: &Path, found: &Exported) -> TransferWork {
        TransferWork::Import(ImportWork {
            from: url(from),
            job: IMPORTED,
            shape: found.shape,
            checksum: found.checksum,
        })
    }

    /// A job begins with what was imported.
    async fn next(&self) -> Incarnation {
        let control = &self.setup.control;
        control.begin_with(IMPORTED, NEXT, Epoch(19));
        let who = Incarnation {
            job: NEXT,
            generation: Generation(1),
        };
        control.begin(who).await.expect("begun");
        who
    }
}

/// Every file below a folder.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path
                .strip_prefix(folder)
                .expect("below")
                .display()
                .to_string();
            found.insert(name, fs::read(&path).expect("a file"));
        }
    }
    found
}

fn failed(news: TransferNews) -> String {
    match news {
        TransferNews::Failed { error } => error,
        other => panic!("{other:?}"),
    }
}

/// An export of the usual world.
async fn exported() -> TempDir {
    let place = TempDir::new().expect("a folder");
    let world = world().await;
    let news = world.export(1, place.path()).await;
    assert!(matches!(news, TransferNews::Done { .. }), "{news:?}");
    place
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_is_whole_elsewhere_and_changes_nothing_at_home() {
    let place = TempDir::new().expect("a folder");
    let world = world().await;
    // A shard may still be noting in its manifest what it has flushed.
    let kept = async || {
        let mut files = world.files("").await;
        files.retain(|name| !name.ends_with(".manifest"));
        files
    };
    let before = kept().await;
    let news = world.export(1, place.path()).await;
    assert!(matches!(news, TransferNews::Done { .. }), "{news:?}");
    assert_eq!(kept().await, before);
    assert_eq!(values(&world, world.who, 19).await, ALL);

    let other = World::new(small_parts(never_flushed())).await;
    let found = other.inspect(1, place.path()).await.expect("it is whole");
    assert_eq!(found.source, world.export_work(place.path()).source);
    let work = other.import_work(place.path(), &found);
    let news = other.transfer(2, work).await;
    assert_eq!(news, TransferNews::Done { bytes: found.bytes });
    let mut other = other;
    let who = other.next().await;
    assert_eq!(values(&other, who, 19).await, ALL);
    other.who = who;
    other.apply(40, rows(40, &[(0, 1, "40")])).await;
    for _ in 0..2 {
        assert_eq!(values(&other, who, 40).await[0], "40");
        assert_eq!(values(&other, who, 40).await[1..], ALL[1..]);
        other.restart().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_that_was_cut_off_anywhere_is_gone_on_with() {
    let world = world().await;
    let whole = TempDir::new().expect("a folder");
    let done = world.export(1, whole.path()).await;
    let expected = files(whole.path());
    let parts: Vec<&String> = expected
        .keys()
        .filter(|name| name.ends_with(".part"))
        .collect();
    assert!(parts.len() > 12, "{parts:?}");
    for (attempt, left) in (2..).zip(0..=parts.len()) {
        let place = TempDir::new().expect("a folder");
        // Parts of a shard come in order; of which shard more are there does not matter.
        let kept = parts.iter().take(left).map(|name| (*name).clone());
        for name in kept.chain(["export.json".to_owned()]) {
            let path = place.path().join(&name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, &expected[&name]).expect("written");
        }
        assert_eq!(world.export(attempt, place.path()).await, done);
        assert!(files(place.path()) == expected, "{left} parts were there");
    }
    // All was there: nothing is copied again.
    let gets = Request {
        kind: RequestKind::Get,
        path: "compacted",
    };
    world.faults.reset_counts();
    assert_eq!(world.export(99, whole.path()).await, done);
    assert_eq!(world.faults.count(gets).0, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_is_taken_is_left_as_it_is() {
    let world = world().await;
    let place = TempDir::new().expect("a folder");
    fs::write(place.path().join("mine"), "x").expect("written");
    let why = failed(world.export(1, place.path()).await);
    assert!(why.contains("is not empty (it has `mine`)"), "{why}");
    let place = exported().await;
    let mut work = world.export_work(place.path());
    work.source.savepoint = "t".to_owned();
    let work = TransferWork::Export(Box::new(work));
    let why = failed(world.transfer(2, work).await);
    assert!(
        why.contains("has a copy of savepoint `s` of job_3"),
        "{why}"
    );
    for (attempt, to, expected) in [
        (3, "memory:".to_owned(), "another one for every process"),
        (4, "s3://key:secret@bucket/a".to_owned(), "takes no keys"),
    ] {
        let mut work = world.export_work(place.path());
        work.to = to;
        let why = failed(
            world
                .transfer(attempt, TransferWork::Export(Box::new(work)))
                .await,
        );
        assert!(why.contains(expected) && !why.contains("secret"), "{why}");
    }
    let nowhere = place.path().join("nowhere");
    let why = world
        .inspect(5, &nowhere)
        .await
        .expect_err("nothing is there");
    assert!(
        why.contains("there is no directory") && !nowhere.exists(),
        "{why}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_damaged_is_not_imported() {
    let place = exported().await;
    let expected = files(place.path());
    let world = World::new(small_parts(never_flushed())).await;
    let mut attempt = 10;
    for (name, bytes) in &expected {
        if name == "export.json" {
            continue;
        }
        let path = place.path().join(name);
        attempt += 2;
        // Cut, or gone: seen before anything is copied.
        fs::write(&path, &bytes[..bytes.len() / 2]).expect("written");
        let cut = world
            .inspect(attempt, place.path())
            .await
            .expect_err("it was cut");
        assert!(
            cut.contains(name.as_str()) && cut.contains("damaged"),
            "{cut}"
        );
        fs::remove_file(&path).expect("removed");
        let gone = world.inspect(attempt + 1, place.path()).await;
        let gone = gone.expect_err("it is gone");
        assert!(gone.contains(name.as_str()), "{gone}");
        fs::write(&path, bytes).expect("written");
    }
    let found = world.inspect(5, place.path()).await.expect("it is whole");
    for (name, bytes) in expected.iter().filter(|(name, _)| name.ends_with(".part")) {
        let world = World::new(small_parts(never_flushed())).await;
        let path = place.path().join(name);
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 3] ^= 4;
        fs::write(&path, flipped).expect("written");
        let work = world.import_work(place.path(), &found);
        let why = failed(world.transfer(1, work).await);
        assert!(why.contains(name.as_str()), "{name}: {why}");
        fs::write(&path, bytes).expect("written");
    }
}

/// Whatever request the node dies at, the next attempt has all of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_was_cut_off_anywhere_is_finished() {
    let place = exported().await;
    for cut in (0..60_u64).step_by(3) {
        let mut world = World::new(small_parts(never_flushed())).await;
        let found = world.inspect(1, place.path()).await.expect("it is whole");
        world.faults.reset_counts();
        world.faults.fail(SHARD_PUT, cut, u64::MAX, Fault::Hang);
        let work = world.import_work(place.path(), &found);
        world
            .setup
            .control
            .order(StateOrder::Transfer(TransferOrder {
                transfer: TR,
                attempt: 2,
                work: work.clone(),
            }));
        let ended = |report: &StateReport| {
            matches!(
                report,
                StateReport::Transfer {
                    attempt: 2,
                    news: TransferNews::Done { .. },
                    ..
                }
            )
        };
        while world.faults.count(SHARD_PUT).0 <= cut
            && !world.setup.control.reports().iter().any(ended)
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        world.setup.control.disconnect();
        // The node is dead: what it has under way never gets further.
        world.setup.store = world.store.clone();
        world.node = world.setup.start();
        let news = world.transfer(3, work).await;
        assert_eq!(
            news,
            TransferNews::Done { bytes: found.bytes },
            "cut at {cut}"
        );
        let who = world.next().await;
        assert_eq!(values(&world, who, 19).await, ALL, "cut at {cut}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_stops_when_it_is_told_to_and_repeats_what_it_said() {
    let place = exported().await;
    let world = World::new(small_parts(never_flushed())).await;
    let found = world.inspect(1, place.path()).await.expect("it is whole");
    // The same attempt again is answered the same, and nothing is done.
    assert_eq!(
        world.inspect(1, &place.path().join("other")).await,
        Ok(found.clone())
    );
    world.faults.set_latency(Duration::from_millis(20));
    let work = world.import_work(place.path(), &found);
    let order = StateOrder::Transfer(TransferOrder {
        transfer: TR,
        attempt: 2,
        work,
    });
    world.setup.control.order(order);
    world
        .setup
        .control
        .order(StateOrder::StopTransfer { transfer: TR });
    let stopped = |report: &StateReport| {
        matches!(
            report,
            StateReport::Transfer {
                attempt: 2,
                news: TransferNews::Stopped,
                ..
            }
        )
    };
    world.setup.control.reported(stopped).await;
}
