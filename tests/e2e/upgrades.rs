//! Upgrades as one request: the successor goes on exactly there, or the job runs on as it did.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
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

/// A process over a directory, with a job that counts numbers.
struct Server {
    dev: DevProcess,
    folder: TempDir,
}

impl Server {
    fn counting(expression: &str) -> Server {
        let folder = TempDir::new().expect("a folder");
        let data = folder.path().join("data");
        let arguments = [OsStr::new("--data-dir"), data.as_os_str()];
        let dev = DevProcess::start_with(Path::new(PROGRAM), &arguments, &[]);
        let server = Server { dev, folder };
        let script = format!(
            "SET 'execution.checkpointing.interval' = '100 ms';
             SET 'parallelism.default' = '2';
             {} {} {}
             INSERT INTO counts SELECT {expression}, COUNT(*) FROM numbers GROUP BY {expression}",
            server.source("numbers"),
            server.source("more"),
            server.sink("counts"),
        );
        let _ = server.dev.execute(&script, "");
        server.wait("job_1", |job| job["committed_epoch"].as_u64() > Some(20));
        server
    }

    fn source(&self, name: &str) -> String {
        format!(
            "CREATE TABLE {name} (id BIGINT) WITH ('connector' = 'datagen',
               'rows-per-second' = '2000', 'fields.id.kind' = 'sequence',
               'fields.id.start' = '0', 'fields.id.end' = '{}');",
            ROWS - 1
        )
    }

    fn sink(&self, name: &str) -> String {
        let path = self.path(name);
        format!(
            "CREATE TABLE {name} (k BIGINT, c BIGINT) WITH ('connector' = 'filesystem',
               'path' = '{}', 'format' = 'debezium-json');",
            path.display()
        )
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What the command prints.
    fn ask(&self, arguments: &[&str]) -> String {
        self.dev.jobs(arguments).trim().to_owned()
    }

    /// What it complains about.
    fn complaint(&self, arguments: &[&str]) -> String {
        self.dev.jobs_refused(arguments)
    }

    fn job(&self, job: &str) -> Value {
        let (_, _, body) = self.dev.get(&format!("/v1/jobs/{job}"), true);
        serde_json::from_str(&body).expect("JSON")
    }

    fn wait(&self, job: &str, what: impl Fn(&Value) -> bool) {
        let came = wait_until(PATIENCE, || what(&self.job(job)));
        assert!(came, "{} {}", self.job(job), self.dev.log());
    }

    fn wait_for(&self, job: &str, state: &str) {
        self.wait(job, |job| job["state"] == state);
    }

    /// How often each row is there in the end, whoever wrote it.
    fn folded(&self, table: &str) -> BTreeMap<(i64, i64), i64> {
        let mut rows = BTreeMap::new();
        for change in table_lines(&self.path(table)) {
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
}

fn counted(keys: i64) -> BTreeMap<(i64, i64), i64> {
    let count = |key| (0..ROWS).filter(|id| id % keys == key).count() as i64;
    (0..keys).map(|key| ((key, count(key)), 1)).collect()
}

/// Other tasks, another operator, another table: what was there goes on, what is new begins.
#[test]
fn a_successor_has_other_tasks_and_reads_a_new_table_from_its_beginning() {
    let server = Server::counting("id % 7");
    let sql = format!(
        "SET 'parallelism.default' = '3';
         {}
         EXECUTE STATEMENT SET BEGIN
         INSERT INTO counts SELECT id % 7, COUNT(*) FROM numbers GROUP BY id % 7;
         INSERT INTO others SELECT id % 3, COUNT(*) FROM more GROUP BY id % 3;
         END;",
        server.sink("others")
    );
    let upgraded = server.ask(&["upgrade", "job_1", "-e", &sql]);
    assert_eq!(upgraded, "job_2");
    assert_eq!(server.job("job_1")["state"], "FINISHED");
    let job = server.job("job_2");
    assert_eq!(
        (&job["parallelism"], &job["origin"]["savepoint"]),
        (&3.into(), &"upgrade".into())
    );
    server.wait_for("job_2", "FINISHED");
    assert_eq!(server.folded("counts"), counted(7));
    assert_eq!(server.folded("others"), counted(3));
}

#[test]
fn an_upgrade_that_is_refused_or_comes_to_nothing_leaves_the_job_as_it_was() {
    let server = Server::counting("id % 7");
    let generation = server.job("job_1")["generation"].clone();
    let fitting = "INSERT INTO counts SELECT id % 7, COUNT(*) FROM numbers GROUP BY id % 7";
    for (sql, why) in [
        (
            "INSERT INTO counts SELECT id % 5, COUNT(*) FROM numbers GROUP BY id % 5",
            "the plan has nothing for the state of",
        ),
        ("INSERT INTO nowhere SELECT id, id FROM numbers", "nowhere"),
        ("SHOW TABLES", "the statements start no job"),
        ("SELECT id FROM numbers", "a SELECT"),
        (&format!("{fitting}; {fitting}"), "start several"),
    ] {
        let refused = server.complaint(&["upgrade", "job_1", "-e", sql]);
        assert!(refused.contains(why), "{sql}: {refused}");
    }
    server.ask(&["savepoint", "job_1", "upgrade"]);
    let exists = server.complaint(&["upgrade", "job_1", "-e", fitting]);
    assert!(
        exists.contains("has a savepoint `upgrade` already"),
        "{exists}"
    );
    let job = server.job("job_1");
    assert_eq!(
        (&job["state"], &job["generation"]),
        (&"RUNNING".into(), &generation)
    );
    let (status, _, body) = server.dev.get("/v1/jobs/job_1/upgrade", true);
    assert_eq!(status, 404, "{body}");

    // At once, from what was committed last.
    let last_state = ["--mode", "last-state", "--savepoint", "before"];
    let upgraded = server.ask(&[&["upgrade", "job_1", "-e", fitting], &last_state[..]].concat());
    assert_eq!(upgraded, "job_2");
    server.wait_for("job_1", "CANCELED");
    server.wait_for("job_2", "FINISHED");
    let expected = counted(7);
    let end = server.folded("counts");
    let last = |(row, times): (&(i64, i64), &i64)| expected.contains_key(row) && *times > 0;
    assert_eq!(
        end.iter().filter(|change| last(*change)).count(),
        7,
        "{end:?}"
    );
}

/// A poisoned job gets a statement that can go on, with all that it had.
#[test]
fn a_job_in_quarantine_is_replaced_by_one_that_can_go_on() {
    // The last numbers cannot be computed.
    let server = Server::counting(&format!("id / ({} - id) * 0 + id % 7", ROWS - 1000));
    server.wait_for("job_1", "QUARANTINED");
    let fixed = "INSERT INTO counts SELECT id % 7, COUNT(*) FROM numbers GROUP BY id % 7";
    let refused = server.complaint(&["upgrade", "job_1", "-e", fixed]);
    assert!(
        refused.contains("the plan has nothing for the state of"),
        "{refused}"
    );
    let same = format!(
        "INSERT INTO counts SELECT k, c FROM (SELECT id / ({0} - id) * 0 + id % 7 AS k, COUNT(*) AS c
         FROM numbers GROUP BY id / ({0} - id) * 0 + id % 7) WHERE c > 0",
        ROWS - 1000
    );
    let stopping = server.complaint(&["upgrade", "job_1", "-e", &same]);
    assert!(stopping.contains("is in quarantine"), "{stopping}");
    let upgraded = server.ask(&["upgrade", "job_1", "-e", &same, "--mode", "last-state"]);
    assert_eq!(upgraded, "job_2");
    server.wait_for("job_1", "CANCELED");
    // It meets the same row, before it has committed anything or after; what it began with is kept.
    server.wait("job_2", |job| {
        job["state"] == "FAILED" || job["state"] == "QUARANTINED"
    });
    let restore = "SET 'execution.savepoint.path' = 'job_1/savepoints/upgrade'";
    let again = server.ask(&["submit", "-e", &format!("{restore}; {same}")]);
    assert_eq!(again.lines().last(), Some("job_3"), "{again}");
}
