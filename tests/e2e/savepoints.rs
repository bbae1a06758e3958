//! State that outlives its job: savepoints, forks, upgrades, quarantine. Whatever is begun with a
//! state goes on exactly where it left off, and files that nothing needs any more go.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use tests::{DevProcess, table_lines, wait_until};

/// A test that takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(120);

const PROGRAM: &str = env!("CARGO_BIN_EXE_millstream-under-test");

const ROWS: i64 = 12_000;

/// A process over a directory, and its client.
struct Server {
    dev: Option<DevProcess>,
    folder: TempDir,
}

impl Server {
    fn start() -> Server {
        let mut server = Server {
            dev: None,
            folder: TempDir::new().expect("a folder"),
        };
        server.restart();
        server
    }

    /// The process is killed, if it runs, and another one takes its place.
    fn restart(&mut self) {
        self.dev = None;
        let data = self.path("data");
        let arguments = [OsStr::new("--data-dir"), data.as_os_str()];
        self.dev = Some(DevProcess::start_with(Path::new(PROGRAM), &arguments, &[]));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn dev(&self) -> &DevProcess {
        self.dev.as_ref().expect("it runs")
    }

    /// What the command prints.
    fn ask(&self, arguments: &[&str]) -> String {
        self.dev().jobs(arguments)
    }

    /// What it complains about.
    fn complaint(&self, arguments: &[&str]) -> String {
        self.dev().jobs_refused(arguments)
    }

    fn get(&self, path: &str) -> Value {
        let (status, _, body) = self.dev().get(path, true);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).expect("JSON")
    }

    fn job(&self, job: &str) -> Value {
        self.get(&format!("/v1/jobs/{job}"))
    }

    fn wait(&self, job: &str, what: impl Fn(&Value) -> bool) {
        let came = wait_until(PATIENCE, || what(&self.job(job)));
        assert!(came, "{} {}", self.job(job), self.dev().log());
    }

    fn wait_for(&self, job: &str, state: &str) {
        self.wait(job, |job| job["state"] == state);
    }

    /// A job of some seconds that counts numbers by their remainder, and has committed something.
    fn counting(&self, expression: &str) {
        let script = format!(
            "SET 'execution.checkpointing.interval' = '100 ms';
             SET 'parallelism.default' = '2';
             CREATE TABLE numbers (id BIGINT) WITH ('connector' = 'datagen',
               'rows-per-second' = '2000', 'fields.id.kind' = 'sequence',
               'fields.id.start' = '0', 'fields.id.end' = '{}');
             CREATE TABLE counts (k BIGINT, c BIGINT) WITH ('connector' = 'filesystem',
               'path' = '{}', 'format' = 'debezium-json');
             INSERT INTO counts SELECT {expression}, COUNT(*) FROM numbers GROUP BY {expression}",
            ROWS - 1,
            self.path("counts").display()
        );
        let _ = self.dev().execute(&script, "");
        self.wait("job_1", |job| job["committed_epoch"].as_u64() > Some(20));
    }

    /// Files of jobs that are left.
    fn files(&self) -> Vec<PathBuf> {
        let mut folders = vec![self.path("data/jobs")];
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.path() {
                    path if path.is_dir() => folders.push(path),
                    path if path.to_string_lossy().contains('#') => {}
                    path => files.push(path),
                }
            }
        }
        files
    }
}

const SQL: &str = "INSERT INTO counts SELECT id % 7, COUNT(*) FROM numbers GROUP BY id % 7";

fn counted() -> BTreeMap<(i64, i64), i64> {
    let count = |key| (0..ROWS).filter(|id| id % 7 == key).count() as i64;
    (0..7).map(|key| ((key, count(key)), 1)).collect()
}

/// How often each row is there in the end, whoever wrote it.
fn folded(folder: &Path) -> BTreeMap<(i64, i64), i64> {
    let mut rows = BTreeMap::new();
    for change in table_lines(folder) {
        for (side, by) in [("before", -1), ("after", 1)] {
            let row = &change[side];
            if let Some(row) = row["k"].as_i64().zip(row["c"].as_i64()) {
                *rows.entry(row).or_default() += by;
            }
        }
    }
    rows.retain(|_, times| *times != 0);
    rows
}

#[test]
fn a_job_that_is_stopped_goes_on_from_its_savepoint_and_a_fork_beside_it() {
    let mut server = Server::start();
    server.counting("id % 7");
    let trial = server.path("trial");
    let sink = format!("counts.path={}", trial.display());
    let forked = server.ask(&["fork", "job_1", "--sink", &sink, "--name", "trial"]);
    assert!(forked.starts_with("job_2 "), "{forked}");
    let unknown = server.complaint(&["fork", "job_1", "--sink", "others.path=/tmp"]);
    assert!(
        unknown.contains("writes to no table `others`, but to counts"),
        "{unknown}"
    );

    let saved = server.ask(&["savepoint", "job_1", "first"]);
    assert!(saved.contains("job_1/savepoints/first"), "{saved}");
    let again = server.complaint(&["stop", "job_1", "--savepoint", "first"]);
    assert!(again.contains("has a savepoint `first` already"), "{again}");
    assert_eq!(server.job("job_1")["state"], "RUNNING");
    let stopped = server.ask(&["stop", "job_1", "--savepoint", "last", "--wait", "60"]);
    assert_eq!(stopped.trim(), "job_1 FINISHED");
    let list = server.get("/v1/jobs/job_1/savepoints");
    assert_eq!(list["savepoints"][1]["name"], "last", "{list}");
    let refused = server.complaint(&["delete", "job_1"]);
    assert!(
        refused.contains("has savepoints: delete them first"),
        "{refused}"
    );

    // Whatever happens to the process meanwhile.
    server.wait("job_2", |job| job["committed_epoch"].as_u64() > Some(60));
    server.restart();
    let restore = format!("SET 'execution.savepoint.path' = 'job_1/savepoints/last'; {SQL}");
    let submitted = server.ask(&["submit", "-e", &restore]);
    assert_eq!(submitted.lines().last(), Some("job_3"), "{submitted}");
    assert_eq!(server.job("job_3")["origin"]["savepoint"], "last");
    // It was for that job alone.
    let checked = server.dev().execute("SHOW TABLES", "");
    assert!(checked.to_string().contains("counts"));
    server.wait_for("job_3", "FINISHED");
    assert_eq!(folded(&server.path("counts")), counted());

    // The fork has written what came after its birth, and no more.
    server.wait_for("job_2", "FINISHED");
    let (after, before): (BTreeMap<_, _>, BTreeMap<_, _>) = folded(&trial)
        .into_iter()
        .partition(|(_, times)| *times > 0);
    assert_eq!(after, counted());
    let taken: Vec<i64> = before.values().copied().collect();
    assert_eq!(
        taken, [-1; 7],
        "of each count that was there, what the origin wrote: {before:?}"
    );

    for name in ["first", "last"] {
        let deleted = server.ask(&["savepoint", "job_1", name, "--delete"]);
        assert_eq!(deleted.trim(), format!("{name} is deleted"));
    }
    let gone = wait_until(PATIENCE, || server.files().is_empty());
    assert!(
        gone,
        "files that nothing needs stay: {:?} {}",
        server.files(),
        server.dev().log()
    );
    for job in ["job_1", "job_2", "job_3"] {
        server.ask(&["delete", job]);
    }
}

#[test]
fn an_upgrade_keeps_state_and_is_refused_before_anything_stops() {
    let server = Server::start();
    server.counting("id % 7");
    let misfit = "INSERT INTO counts SELECT id % 5, COUNT(*) FROM numbers GROUP BY id % 5";
    let refused = server.complaint(&["upgrade", "job_1", "-e", misfit]);
    assert!(
        refused.contains("the plan has nothing for the state of"),
        "{refused}"
    );
    let (state, savepoints) = (server.job("job_1"), server.get("/v1/jobs/job_1/savepoints"));
    assert_eq!(state["state"], "RUNNING");
    assert_eq!(savepoints["savepoints"].as_array().map(Vec::len), Some(0));
    let sql = "INSERT INTO counts SELECT k, c FROM
               (SELECT id % 7 AS k, COUNT(*) AS c FROM numbers GROUP BY id % 7) WHERE c > -1";
    let upgraded = server.ask(&["upgrade", "job_1", "-e", sql]);
    assert_eq!(upgraded.trim(), "job_2");
    assert_eq!(server.job("job_1")["state"], "FINISHED");
    assert_eq!(server.job("job_2")["origin"]["savepoint"], "upgrade");
    server.wait_for("job_2", "FINISHED");
    assert_eq!(folded(&server.path("counts")), counted());
}

#[test]
fn a_job_that_cannot_go_on_waits_for_its_user_with_its_state() {
    let mut server = Server::start();
    // The last numbers cannot be computed.
    server.counting(&format!("id / ({} - id)", ROWS - 1000));
    server.wait_for("job_1", "QUARANTINED");
    let job = server.job("job_1");
    let error = job["error"].as_str().expect("why").to_owned();
    assert!(error.contains("zero"), "{error}");
    server.restart();
    let job = server.job("job_1");
    assert_eq!(
        (&job["state"], job["error"].as_str()),
        (&"QUARANTINED".into(), Some(&*error))
    );
    let kept = server.get("/v1/jobs/job_1/checkpoints");
    let kept: Vec<u64> = kept["restorable"]
        .as_array()
        .expect("known")
        .iter()
        .filter_map(Value::as_u64)
        .collect();
    let (newest, older) = (kept[kept.len() - 1], kept[kept.len() / 2]);
    assert!(older < newest, "{kept:?}");
    server.ask(&["savepoint", "job_1", "poisoned"]);
    let never = server.complaint(&["resume", "job_1", "--checkpoint", "3"]);
    assert!(
        never.contains("checkpoint 3 of job_1 cannot be restored"),
        "{never}"
    );
    let generation = job["generation"].as_u64().expect("a number");
    server.ask(&["resume", "job_1"]);
    server.wait("job_1", |job| job["generation"].as_u64() > Some(generation));
    server.wait_for("job_1", "QUARANTINED");

    // From an older one it does the same again, in epochs that were never used.
    server.ask(&["resume", "job_1", "--checkpoint", &older.to_string()]);
    server.wait("job_1", |job| {
        job["committed_epoch"].as_u64() > Some(newest)
    });
    server.wait_for("job_1", "QUARANTINED");
    let (status, _, body) = server.dev().get("/v1/jobs/job_1/checkpoints", true);
    assert_eq!(status, 200);
    let now: Value = serde_json::from_str(&body).expect("JSON");
    let now = now["restorable"].as_array().expect("known");
    assert!(
        !now.contains(&newest.into()),
        "{newest} is off the line: {now:?}"
    );
    server.restart();
    server.ask(&["cancel", "job_1"]);
    server.wait_for("job_1", "CANCELED");
    assert!(!server.files().is_empty(), "the savepoint was kept");
    server.ask(&["savepoint", "job_1", "poisoned", "--delete"]);
    let gone = wait_until(PATIENCE, || server.files().is_empty());
    assert!(gone, "{:?} {}", server.files(), server.dev().log());
}

#[test]
fn a_job_that_drains_lets_go_of_what_waits_for_time() {
    let server = Server::start();
    let output = server.path("days");
    let script = format!(
        "SET 'execution.checkpointing.interval' = '100 ms';
         SET 'parallelism.default' = '2';
         CREATE TABLE numbers (id BIGINT, ts AS TO_TIMESTAMP_LTZ(id, 3),
           WATERMARK FOR ts AS ts) WITH ('connector' = 'datagen', 'rows-per-second' = '2000',
           'fields.id.kind' = 'sequence', 'fields.id.start' = '0', 'fields.id.end' = '9999999');
         CREATE TABLE days (k BIGINT, c BIGINT) WITH ('connector' = 'filesystem',
           'path' = '{}', 'format' = 'json');
         INSERT INTO days SELECT id % 7, COUNT(*) FROM TABLE(TUMBLE(TABLE numbers, DESCRIPTOR(ts),
           INTERVAL '1' DAY)) GROUP BY window_start, window_end, id % 7",
        output.display()
    );
    let _ = server.dev().execute(&script, "");
    server.wait("job_1", |job| job["committed_epoch"].as_u64() > Some(20));
    assert_eq!(table_lines(&output), [Value::Null; 0], "the day is long");
    server.ask(&[
        "stop",
        "job_1",
        "--drain",
        "--savepoint",
        "drained",
        "--wait",
        "60",
    ]);
    let rows = table_lines(&output);
    assert_eq!(rows.len(), 7, "{rows:?}");
    let counts: Vec<i64> = rows.iter().filter_map(|row| row["c"].as_i64()).collect();
    // All numbers up to one are counted once.
    let (least, most) = (counts.iter().min(), counts.iter().max());
    assert!(
        least > Some(&0) && most <= least.map(|least| least + 1).as_ref(),
        "{counts:?}"
    );
}
