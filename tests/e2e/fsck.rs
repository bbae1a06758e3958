//! `millstream fsck` on stores that are in use: no false alarm, and whatever is wrong by its name.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use tests::{DevProcess, wait_until};

/// A test that takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(120);

const PROGRAM: &str = env!("CARGO_BIN_EXE_millstream-under-test");

/// A process over a directory.
struct Server {
    dev: DevProcess,
    folder: TempDir,
}

impl Server {
    fn start() -> Server {
        let folder = TempDir::new().expect("a folder");
        let data = folder.path().join("data");
        let arguments = [OsStr::new("--data-dir"), data.as_os_str()];
        let dev = DevProcess::start_with(Path::new(PROGRAM), &arguments, &[]);
        Server { dev, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Whether the store is clean, and what was found.
    fn fsck(&self, arguments: &[&str]) -> (bool, Value) {
        let data = self.path("data");
        let data = data.display().to_string();
        let arguments = [&["fsck", "--data-dir", &data, "--json"], arguments].concat();
        let output = self.dev.client(&arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        let report = serde_json::from_slice(&output.stdout);
        let report = report.unwrap_or_else(|_| panic!("{error} {}", self.dev.log()));
        let code = output.status.code();
        assert!(matches!(code, Some(0 | 1)), "{code:?} {error}");
        (code == Some(0), report)
    }

    fn committed(&self) -> u64 {
        let (_, _, body) = self.dev.get("/v1/jobs/job_1", true);
        let job: Value = serde_json::from_str(&body).expect("JSON");
        job["committed_epoch"].as_u64().unwrap_or_default()
    }

    fn wait_epochs(&self, more: u64) {
        let from = self.committed();
        let came = wait_until(PATIENCE, || self.committed() >= from + more);
        assert!(came, "{}", self.dev.log());
    }

    /// A job that goes on for minutes and changes much of its state all the time.
    fn busy(&self) {
        let script = format!(
            "SET 'execution.checkpointing.interval' = '50 ms';
             SET 'parallelism.default' = '2';
             CREATE TABLE numbers (id BIGINT) WITH ('connector' = 'datagen',
               'rows-per-second' = '20000', 'fields.id.kind' = 'sequence',
               'fields.id.start' = '0', 'fields.id.end' = '99999999');
             CREATE TABLE counts (k BIGINT, c BIGINT) WITH ('connector' = 'filesystem',
               'path' = '{}', 'format' = 'debezium-json');
             INSERT INTO counts SELECT id % 1000, COUNT(*) FROM numbers GROUP BY id % 1000",
            self.path("counts").display()
        );
        let _ = self.dev.execute(&script, "");
        self.wait_epochs(200);
    }

    /// Files of the store whose path has the text.
    fn files(&self, part: &str) -> Vec<PathBuf> {
        let mut folders = vec![self.path("data/jobs")];
        let mut files = Vec::new();
        while let Some(next) = folders.pop() {
            for entry in fs::read_dir(next).into_iter().flatten().flatten() {
                match entry.path() {
                    path if path.is_dir() => folders.push(path),
                    path => files.push(path),
                }
            }
        }
        files.retain(|path| path.to_string_lossy().contains(part));
        files.sort();
        files
    }

    fn name(&self, path: &Path) -> String {
        let name = path.strip_prefix(self.path("data")).expect("of the store");
        name.display().to_string()
    }
}

/// What was found of a file.
fn finding<'a>(report: &'a Value, path: &str) -> &'a Value {
    let findings = report["findings"].as_array().expect("findings");
    let found = findings.iter().find(|finding| finding["path"] == path);
    found.unwrap_or_else(|| panic!("nothing of {path}: {report:#}"))
}

/// Savepoints, forks, jobs that end and jobs that begin with what they left: whatever is under way, all
/// is well.
#[test]
fn a_store_that_is_in_use_is_clean_at_any_moment() {
    let server = Server::start();
    server.busy();
    for round in 0..4 {
        let save = format!("s{round}");
        server.dev.jobs(&["savepoint", "job_1", &save]);
        let sink = format!("counts.path={}", server.path(&save).display());
        server.dev.jobs(&["fork", "job_1", "--sink", &sink]);
        let (clean, report) = server.fsck(&["--deep"]);
        assert!(clean, "{report:#} {}", server.dev.log());
        assert!(report["read_files"].as_u64() > Some(10), "{report:#}");
        let fork = format!("job_{}", round + 2);
        server.dev.jobs(&["cancel", &fork]);
        if round > 0 {
            server
                .dev
                .jobs(&["savepoint", "job_1", &format!("s{}", round - 1), "--delete"]);
        }
        let (clean, report) = server.fsck(&["--settle", "1"]);
        assert!(clean, "{report:#}");
    }
    server
        .dev
        .jobs(&["stop", "job_1", "--savepoint", "last", "--wait", "60"]);
    let (clean, report) = server.fsck(&["--deep"]);
    assert!(clean, "{report:#}");
}

#[test]
fn what_is_missing_damaged_or_too_much_is_found_by_its_name() {
    let server = Server::start();
    server.busy();
    server.dev.jobs(&["savepoint", "job_1", "kept"]);
    server
        .dev
        .jobs(&["stop", "job_1", "--savepoint", "last", "--wait", "60"]);
    // What went with the job is deleted.
    let quiet = wait_until(PATIENCE, || {
        let before = server.files("");
        thread::sleep(Duration::from_millis(500));
        server.files("") == before
    });
    assert!(quiet);
    let (clean, report) = server.fsck(&["--deep"]);
    assert!(clean, "{report:#}");

    find_broken(&server);
    find_unneeded(&server);

    // A store and a server that do not belong together.
    let other = Server::start();
    let output = other.dev.client(&[
        "fsck",
        "--data-dir",
        &server.path("data").display().to_string(),
    ]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && error.contains("check each with its own"),
        "{error}"
    );
}

/// Whatever is needed, one file after the other.
fn find_broken(server: &Server) {
    let rows = server.files("/compacted/");
    let log = server.files("/log/");
    assert!(
        !rows.is_empty() && !log.is_empty(),
        "{:?}",
        server.files("")
    );
    for path in [&rows[0], &log[0]] {
        let name = server.name(path);
        let whole = fs::read(path).expect("a file");
        fs::remove_file(path).expect("removed");
        let (clean, report) = server.fsck(&[]);
        assert!(!clean);
        let found = finding(&report, &name);
        assert_eq!(found["kind"], "missing", "{found}");
        let by = found["needed_by"].to_string();
        assert!(by.contains("savepoint `kept` of job_1"), "{found}");
        assert!(
            found["advice"]
                .as_str()
                .is_some_and(|advice| advice.contains("restore"))
        );

        for at in [whole.len() / 3, whole.len() / 2] {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            fs::write(path, flipped).expect("written");
            let (clean, report) = server.fsck(&[]);
            assert!(clean, "only who reads it can tell: {report:#}");
            let (clean, report) = server.fsck(&["--deep"]);
            assert!(!clean, "byte {at} of {name}");
            assert_eq!(finding(&report, &name)["kind"], "damaged");
        }
        fs::write(path, whole).expect("written");
    }
}

/// And what nothing needs.
fn find_unneeded(server: &Server) {
    let orphans = [
        "data/jobs/1/log/1/3/sn_9-00.rows",
        "data/jobs/1/shards/0/compacted/01ARZ3NDEKTSV4RRFFQ69G5FAV.sst",
        "data/jobs/1/shards/0-7/manifest/00000000000000000001.manifest",
        "data/jobs/99/log/1/3/sn_9-00.rows",
    ];
    for orphan in orphans {
        let path = server.path(orphan);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, "left behind").expect("written");
    }
    let (clean, report) = server.fsck(&[]);
    assert!(clean, "they may be about to be deleted: {report:#}");
    let waiting = report["waiting_files"].as_u64();
    assert!(waiting >= Some(orphans.len() as u64), "{report:#}");
    let (clean, report) = server.fsck(&["--grace", "0", "--settle", "0"]);
    assert!(!clean);
    for orphan in orphans {
        let found = finding(&report, orphan.trim_start_matches("data/"));
        assert_eq!(found["kind"], "unneeded", "{found}");
    }
    let shown = server.dev.client(&[
        "fsck",
        "--data-dir",
        &server.path("data").display().to_string(),
        "--grace",
        "0",
        "--settle",
        "0",
    ]);
    assert_eq!(shown.status.code(), Some(1));
    let shown = String::from_utf8(shown.stdout).expect("text");
    assert!(
        shown.contains("unneeded: jobs/99/log/1/3/sn_9-00.rows"),
        "{shown}"
    );
    assert!(shown.contains(" findings"), "{shown}");
}
