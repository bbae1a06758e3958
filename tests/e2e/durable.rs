//! A process that keeps its jobs in a directory: killed again and again, it loses nothing and
//! doubles nothing.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use control_plane::{Statements, api::Token};
use coordinator::JobState;
use millstream::{Durable, DurableConfig, MemoryPlan, OpenedStore, ScratchPlan};
use proto::{
    control::JobOptions,
    types::{Epoch, JobId},
};
use serde_json::Value;
use state_service::{
    object::{OpenStore, StoreUrl, open},
    testing::{Fault, FaultStore, Request, RequestKind},
};
use tempfile::TempDir;
use tests::{DevProcess, fold_changelog, wait_until};
use tokio::time::timeout;

/// A test that takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(120);

const PROGRAM: &str = env!("CARGO_BIN_EXE_millstream-under-test");

fn start(data: &Path) -> DevProcess {
    let arguments = [OsStr::new("--data-dir"), data.as_os_str()];
    DevProcess::start_with(Path::new(PROGRAM), &arguments, &[])
}

/// State and last committed epoch of the only job.
fn job(dev: &DevProcess) -> (String, u64) {
    let (status, _, body) = dev.get("/v1/jobs/job_1", true);
    assert_eq!(status, 200, "{body}");
    let job: Value = serde_json::from_str(&body).expect("JSON");
    let epoch = job["committed_epoch"].as_u64().expect("a number");
    (job["state"].as_str().expect("text").to_owned(), epoch)
}

/// Objects at or below a folder: what a kill leaves of a write that was under way, `name#1`, is none.
fn objects(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let below = paths.flat_map(|path| match path.is_dir() {
        true => objects(&path),
        false => vec![path],
    });
    let whole = |path: &PathBuf| !path.to_string_lossy().contains('#');
    below.filter(whole).collect()
}

/// A job of some seconds that counts 20,000 numbers by their remainder.
fn counting(output: &Path) -> String {
    format!(
        "SET 'execution.checkpointing.interval' = '100 ms';
         SET 'parallelism.default' = '2';
         CREATE TABLE numbers (id BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '5000',
           'fields.id.kind' = 'sequence', 'fields.id.start' = '0', 'fields.id.end' = '19999');
         CREATE TABLE counts (k BIGINT, c BIGINT) WITH ('connector' = 'filesystem',
           'path' = '{}', 'format' = 'debezium-json');
         INSERT INTO counts SELECT id % 7, COUNT(*) FROM numbers GROUP BY id % 7",
        output.display()
    )
}

/// What it has counted in the end.
fn counted() -> BTreeMap<i64, i64> {
    let count = |key| (0..20_000).filter(|id| id % 7 == key).count() as i64;
    (0..7).map(|key| (key, count(key))).collect()
}

#[test]
fn kills_lose_nothing_and_double_nothing() {
    let folder = TempDir::new().expect("a folder");
    let (data, output) = (folder.path().join("data"), folder.path().join("output"));
    let script = counting(&output);
    let mut dev = start(&data);
    let _ = dev.execute(&script, "");
    let mut epoch = 0;
    for _ in 0..3 {
        // The next life must come further than the last one.
        let further = wait_until(PATIENCE, || job(&dev).1 > epoch);
        assert!(further, "{}", dev.log());
        epoch = job(&dev).1;
        drop(dev);
        dev = start(&data);
        assert!(job(&dev).1 >= epoch, "what was committed is forgotten");
    }
    let finished = wait_until(PATIENCE, || job(&dev).0 == "FINISHED");
    assert!(finished, "{:?} {}", job(&dev), dev.log());
    assert_eq!(fold_changelog(&output), counted());
    // Tables are there for the next script, and the job's files are not.
    let (_, _, tables) = dev.get("/v1/tables", true);
    assert!(tables.contains("numbers"), "{tables}");
    let gone = wait_until(PATIENCE, || objects(&data.join("jobs/1")).is_empty());
    let left = objects(&data.join("jobs/1"));
    assert!(gone, "files of an ended job stay: {left:?} {}", dev.log());
}

async fn start_on(store: OpenStore) -> Durable {
    let opened = OpenedStore::of(store).await.expect("it is ours");
    let config = DurableConfig {
        defaults: JobOptions::default(),
        memory: MemoryPlan::of_all_tiers(1 << 30),
        scratch: ScratchPlan::none(),
        token: Token::new("a-token"),
        address: "127.0.0.1:1".to_owned(),
    };
    Durable::start(opened, config).await.expect("it starts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_the_process_and_with_room_it_goes_on() {
    let folder = TempDir::new().expect("a folder");
    let (data, output) = (folder.path().join("data"), folder.path().join("output"));
    let directory = || open(&StoreUrl::File(data.clone())).expect("open");
    let faults = FaultStore::new(directory().store);
    let durable = start_on(directory().with_store(Arc::new(faults.clone()))).await;
    let statements: Arc<Statements> = durable.leading.statements.clone();
    let executed = statements.execute(&counting(&output)).await;
    executed.expect("accepted");
    let job = statements.jobs().get(JobId(1)).expect("the job");
    let begun = timeout(PATIENCE, async {
        while job.committed() == Epoch::ZERO {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    begun.await.expect("an epoch is committed");
    let put = Request {
        kind: RequestKind::Put,
        path: "",
    };
    faults.fail(put, 0, u64::MAX, Fault::Full);
    let why = timeout(PATIENCE, durable.cannot_go_on()).await;
    let line = format!(
        "directory `{}` has no space left: make room, then start again",
        data.display()
    );
    assert_eq!(why.as_deref(), Ok(line.as_str()));
    let stopped = timeout(PATIENCE, durable.stop()).await;
    stopped.expect("it stops");
    let committed = job.committed();
    drop((job, statements));
    // Somebody has made room.
    let durable = start_on(directory()).await;
    let job = durable.leading.jobs.get(JobId(1)).expect("it is there");
    assert!(
        job.committed() >= committed,
        "what was committed is forgotten"
    );
    let ended = timeout(PATIENCE, job.ended()).await;
    assert_eq!(ended, Ok(JobState::Finished));
    assert_eq!(fold_changelog(&output), counted());
    durable.stop().await;
}

#[test]
fn the_store_of_a_cluster_is_left_alone() {
    let folder = TempDir::new().expect("a folder");
    let identity = r#"{"format":1,"cluster":"c","store":"s","metadata":"cluster","created_ms":1}"#;
    fs::write(folder.path().join("millstream.json"), identity).expect("written");
    let dev = std::process::Command::new(PROGRAM)
        .args(["dev", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(folder.path())
        .output()
        .expect("it runs");
    assert_eq!(dev.status.code(), Some(1));
    let line = format!(
        "error: directory `{}` belongs to a cluster, whose control plane keeps the metadata of its \
         jobs: use another prefix or directory",
        folder.path().display()
    );
    let said = String::from_utf8(dev.stderr).expect("text");
    assert_eq!(said.trim_end(), line);
    let left: Vec<_> = fs::read_dir(folder.path()).expect("a folder").collect();
    assert_eq!(left.len(), 1, "{left:?}");
}
