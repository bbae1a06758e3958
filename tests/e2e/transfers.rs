//! Savepoints that leave their cluster and begin jobs in another one.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use tests::{DevProcess, minio::Minio, table_lines, wait_until};

/// A test that takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(120);

const PROGRAM: &str = env!("CARGO_BIN_EXE_millstream-under-test");

const ROWS: i64 = 12_000;

/// What is counted, by which key: the same everywhere.
const COUNTS: &str = "INSERT INTO counts SELECT id % 7, COUNT(*) FROM numbers GROUP BY id % 7";

/// A process with a store of its own, and its client.
struct Home {
    dev: DevProcess,
}

impl Home {
    fn start(store: &str, variables: &[(&str, &str)]) -> Home {
        let arguments = [OsStr::new("--store"), OsStr::new(store)];
        let dev = DevProcess::start_with(Path::new(PROGRAM), &arguments, variables);
        Home { dev }
    }

    /// What the command prints.
    fn ask(&self, arguments: &[&str]) -> String {
        self.dev.jobs(arguments)
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

    /// The tables, and a statement.
    fn script(&self, folder: &Path, statement: &str) {
        let script = format!(
            "SET 'execution.checkpointing.interval' = '100 ms';
             SET 'parallelism.default' = '2';
             CREATE TABLE numbers (id BIGINT) WITH ('connector' = 'datagen',
               'rows-per-second' = '2000', 'fields.id.kind' = 'sequence',
               'fields.id.start' = '0', 'fields.id.end' = '{}');
             CREATE TABLE counts (k BIGINT, c BIGINT) WITH ('connector' = 'filesystem',
               'path' = '{}', 'format' = 'debezium-json');
             {statement}",
            ROWS - 1,
            folder.display()
        );
        let _ = self.dev.execute(&script, "");
    }
}

fn counted() -> BTreeMap<(i64, i64), i64> {
    let count = |key| (0..ROWS).filter(|id| id % 7 == key).count() as i64;
    (0..7).map(|key| ((key, count(key)), 1)).collect()
}

/// How often each row is there in the end, whoever wrote it.
fn folded(folders: &[&Path]) -> BTreeMap<(i64, i64), i64> {
    let mut rows = BTreeMap::new();
    for change in folders.iter().flat_map(|folder| table_lines(folder)) {
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

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut folders = vec![folder.to_owned()];
    let mut files = Vec::new();
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).into_iter().flatten().flatten() {
            match entry.path() {
                path if path.is_dir() => folders.push(path),
                path => files.push(path),
            }
        }
    }
    files
}

/// From one store to another by a third place, the two clusters never meet.
#[test]
fn a_job_goes_on_in_another_cluster_from_what_was_exported() {
    let folder = TempDir::new().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let minio = Minio::start();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(minio.make_bucket("bucket"));
    let variables = minio.variables();
    let variables: Vec<(&str, &str)> = variables
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let first = Home::start(&format!("file://{}", path("first").display()), &variables);
    first.script(&path("before"), COUNTS);
    first.wait("job_1", |job| job["committed_epoch"].as_u64() > Some(20));
    first.ask(&["stop", "job_1", "--savepoint", "last", "--wait", "60"]);

    for (place, why) in [
        ("s3://key:secret@bucket/a", "takes no keys"),
        ("memory:", "is no place"),
        ("s3://no-such-bucket/a", "no-such-bucket"),
    ] {
        let refused = first.complaint(&["export", "job_1", "last", "--to", place]);
        assert!(refused.contains(why), "{place}: {refused}");
        assert!(!refused.contains("secret@"), "{refused}");
    }
    let inside = format!("file://{}", path("first").join("copy").display());
    let refused = first.complaint(&["export", "job_1", "last", "--to", &inside]);
    assert!(
        refused.contains("is in the store that the state is in"),
        "{refused}"
    );

    let place = "s3://bucket/exports/last";
    let exported = first.ask(&["export", "job_1", "last", "--to", place, "--wait", "60"]);
    assert_eq!(exported.trim(), place);
    // Once more is as good.
    first.ask(&["export", "job_1", "last", "--to", place, "--wait", "60"]);
    // At home nothing is left of it.
    first.ask(&["savepoint", "job_1", "last", "--delete"]);
    first.ask(&["delete", "job_1"]);

    // A bucket of its own, and another history: its job has the same number.
    let second = Home::start("s3://bucket/second", &variables);
    second.script(
        &path("unrelated"),
        "INSERT INTO counts SELECT id, id FROM numbers WHERE id < 5",
    );
    let missing = second.complaint(&["import", "s3://bucket/exports"]);
    assert!(missing.contains("there is no whole copy"), "{missing}");
    let imported = second.ask(&["import", place, "--name", "home", "--wait", "60"]);
    assert_eq!(imported.trim(), "job_2/savepoints/home");
    let job = second.job("job_2");
    assert_eq!(job["state"], "FINISHED");
    let transfers = second.ask(&["transfers"]);
    assert!(
        transfers.contains("IMPORT") && transfers.contains("DONE"),
        "{transfers}"
    );

    let restore = |statement: &str| {
        format!("SET 'execution.savepoint.path' = 'job_2/savepoints/home'; {statement}")
    };
    let misfit = "INSERT INTO counts SELECT id % 5, COUNT(*) FROM numbers GROUP BY id % 5";
    let refused = second.complaint(&["submit", "-e", &restore(misfit)]);
    assert!(
        refused.contains("the plan has nothing for the state of"),
        "{refused}"
    );
    let submitted = second.ask(&["submit", "-e", &restore(COUNTS)]);
    assert_eq!(submitted.lines().last(), Some("job_3"), "{submitted}");
    // What it began with may go while it runs.
    second.ask(&["savepoint", "job_2", "home", "--delete"]);
    second.wait("job_3", |job| job["state"] == "FINISHED");
    let outputs = [path("before"), path("unrelated")];
    let [before, after] = &outputs;
    let all = folded(&[before, after]);
    let unrelated = |(k, c): &(i64, i64)| k == c && *k < 5;
    let counts: BTreeMap<_, _> = all.into_iter().filter(|(row, _)| !unrelated(row)).collect();
    assert_eq!(counts, counted());
}

/// Whatever is wrong with a copy is said before a job begins with it, and leaves nothing behind.
#[test]
fn a_copy_that_is_damaged_is_refused_and_leaves_nothing() {
    let folder = TempDir::new().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let home = Home::start(
        &format!("file://{}", path("store").display()),
        &[
            ("AWS_SECRET_ACCESS_KEY", "never-to-be-shown"),
            ("AWS_ACCESS_KEY_ID", "key"),
        ],
    );
    home.script(&path("counts"), COUNTS);
    home.wait("job_1", |job| job["committed_epoch"].as_u64() > Some(20));
    // It runs on.
    home.ask(&["savepoint", "job_1", "s"]);
    let to = |name: &str| format!("file://{}", path(name).display());
    home.ask(&["export", "job_1", "s", "--to", &to("copy"), "--wait", "60"]);
    let copied = files(&path("copy"));
    for file in &copied {
        let bytes = fs::read(file).expect("a file");
        let secret = b"never-to-be-shown";
        assert!(
            !bytes.windows(secret.len()).any(|part| part == secret),
            "{file:?}"
        );
    }
    home.ask(&["savepoint", "job_1", "t"]);
    let taken = home.complaint(&["export", "job_1", "t", "--to", &to("copy")]);
    assert!(
        taken.contains("has a copy of savepoint `s` of job_1"),
        "{taken}"
    );

    refuse_damage(&home, folder.path(), &copied);

    // Whole again, it is good: beside the job that it is a copy of.
    let imported = home.ask(&["import", &to("copy"), "--wait", "60"]);
    let job = imported.trim().split('/').next().expect("a job").to_owned();
    assert!(imported.trim().ends_with("/savepoints/s"), "{imported}");
    home.wait("job_1", |job| job["state"] == "FINISHED");
    assert_eq!(folded(&[&path("counts")]), counted());
    home.ask(&["savepoint", &job, "s", "--delete"]);
    for name in ["s", "t"] {
        home.ask(&["savepoint", "job_1", name, "--delete"]);
    }
    let gone = wait_until(PATIENCE, || files(&path("store/jobs")).is_empty());
    assert!(
        gone,
        "files stay: {:?} {}",
        files(&path("store/jobs")),
        home.dev.log()
    );
}

/// A copy is damaged in several ways, and made whole again.
fn refuse_damage(home: &Home, folder: &Path, copied: &[PathBuf]) {
    let path = |name: &str| folder.join(name);
    let to = |name: &str| format!("file://{}", path(name).display());
    let part = copied
        .iter()
        .filter(|file| file.extension() == Some(OsStr::new("part")));
    let part = part.max_by_key(|file| fs::metadata(file).expect("a file").len());
    let part = part.expect("a part");
    let whole = fs::read(part).expect("a file");
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    fs::write(part, flipped).expect("written");
    let damaged = home.complaint(&["import", &to("copy"), "--wait", "60"]);
    let name = part
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    assert!(
        damaged.contains(&name) && damaged.contains("checksum"),
        "{damaged}"
    );
    let jobs = || fs::read_dir(path("store/jobs")).expect("a folder").count();
    let gone = wait_until(PATIENCE, || jobs() == 1);
    assert!(
        gone,
        "files of the import stay: {:?}",
        files(&path("store/jobs"))
    );
    fs::write(part, whole).expect("written");

    let list = path("copy/savepoint.json");
    let text = fs::read_to_string(&list).expect("text");
    let first_line = text.lines().next().expect("a line");
    let newer = first_line.replacen("\"format\":1", "\"format\":2", 1);
    let checksum = crc32fast::hash(newer.as_bytes());
    fs::write(&list, format!("{newer}\n{checksum:08x}\n")).expect("written");
    let refused = home.complaint(&["import", &to("copy")]);
    assert!(refused.contains("made by a newer version"), "{refused}");
    fs::write(&list, &text).expect("written");
}
