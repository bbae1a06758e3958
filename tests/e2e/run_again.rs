//! `run` over a directory: stopped in whatever way, the next run of the script goes on.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tests::{fold_changelog, table_files, wait_until};

/// A test that takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(120);

const PROGRAM: &str = env!("CARGO_BIN_EXE_millstream-under-test");

/// Rows of the job that is stopped, and how many of them a second has.
const ROWS: i64 = 12_000;
const ROWS_PER_SECOND: i64 = 4_000;

/// Where everything of a test is.
struct Place(TempDir);

/// A run; killed when dropped.
struct Run {
    process: Child,
    log: PathBuf,
}

impl Place {
    fn new() -> Place {
        let place = Place(TempDir::new().expect("a folder"));
        fs::write(place.path("few.csv"), "1\n2\n3\n").expect("written");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A short job, a long one that takes `ROWS / ROWS_PER_SECOND` seconds, and a SELECT between.
    fn script(&self) -> String {
        let table = |name: &str, column: &str, format: &str, path: &str| {
            let path = self.path(path);
            format!(
                "CREATE TABLE {name} ({column}) WITH ('connector' = 'filesystem',
                   'path' = '{}', 'format' = '{format}');\n",
                path.display()
            )
        };
        [
            "SET 'execution.checkpointing.interval' = '100 ms';\n".to_owned(),
            table("few", "n BIGINT", "csv", "few.csv"),
            table("copies", "n BIGINT", "csv", "copies"),
            table("numbers", "id BIGINT", "csv", "numbers"),
            table("counts", "k BIGINT, c BIGINT", "debezium-json", "counts"),
            format!(
                "CREATE TABLE source (id BIGINT) WITH ('connector' = 'datagen',
                   'rows-per-second' = '{ROWS_PER_SECOND}', 'fields.id.kind' = 'sequence',
                   'fields.id.start' = '0', 'fields.id.end' = '{}');",
                ROWS - 1
            ),
            "INSERT INTO copies SELECT n FROM few;
             SELECT SUM(n) AS s FROM copies;
             BEGIN STATEMENT SET;
             INSERT INTO numbers SELECT id FROM source;
             INSERT INTO counts SELECT id % 7, COUNT(*) FROM source GROUP BY id % 7;
             END;"
                .to_owned(),
        ]
        .concat()
    }

    fn start(&self, script: &str) -> Run {
        let (file, log) = (self.path("script.sql"), self.path("log"));
        fs::write(&file, script).expect("written");
        let output = |name: &str| File::create(self.path(name)).expect("a file");
        let process = Command::new(PROGRAM)
            .args(["run", "--result", "final", "--format", "tsv"])
            .arg(&file)
            .arg("--data-dir")
            .arg(self.path("data"))
            .stdin(Stdio::null())
            .stdout(output("rows"))
            .stderr(output("log"))
            .spawn()
            .expect("the program runs");
        Run { process, log }
    }

    /// Files of the table that the long job writes.
    fn written(&self) -> usize {
        table_files(&self.path("numbers")).len()
    }

    /// Waits until the long job has written more than `before` files, and has not ended.
    fn wait_for_more(&self, run: &mut Run, before: usize) {
        let more = wait_until(PATIENCE, || self.written() > before);
        assert!(more, "{}", run.log());
        assert_eq!(
            run.process.try_wait().expect("a process"),
            None,
            "it must be in the middle"
        );
    }

    /// Each number of the files, and how often it is there.
    fn numbers(&self, table: &str) -> BTreeMap<i64, usize> {
        let mut numbers = BTreeMap::new();
        for file in table_files(&self.path(table)) {
            for line in fs::read_to_string(file).expect("text").lines() {
                *numbers.entry(line.parse().expect("a number")).or_default() += 1;
            }
        }
        numbers
    }

    fn rows(&self) -> String {
        fs::read_to_string(self.path("rows")).expect("text")
    }
}

impl Run {
    fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("its output")
    }

    fn says(&self, what: &str) {
        let log = self.log();
        assert!(log.contains(what), "no `{what}` in: {log}");
    }

    fn interrupt(&self) {
        let id = self.process.id().to_string();
        let pressed = Command::new("kill").args(["-INT", &id]).status();
        assert!(pressed.expect("kill runs").success());
    }

    fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until(PATIENCE, || {
            status = self.process.try_wait().expect("a process");
            status.is_some()
        });
        status.unwrap_or_else(|| panic!("it goes on: {}", self.log()))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // As `kill -9` does.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn each(numbers: impl IntoIterator<Item = i64>, times: usize) -> BTreeMap<i64, usize> {
    numbers.into_iter().map(|number| (number, times)).collect()
}

#[test]
fn a_run_that_is_killed_goes_on_and_one_that_has_ended_starts_anew() {
    let place = Place::new();
    let script = place.script();
    let mut written = 0;
    for life in 0..3 {
        let mut run = place.start(&script);
        place.wait_for_more(&mut run, written);
        if life > 0 {
            run.says("job_1 has finished already, and is left out: INSERT INTO copies SELECT");
            run.says("goes on from its last checkpoint: BEGIN STATEMENT SET");
        }
        assert_eq!(place.rows(), "# s\n6\n");
        drop(run);
        written = place.written();
    }
    let mut run = place.start(&script);
    assert!(run.ended().success(), "{}", run.log());
    assert_eq!(place.numbers("copies"), each(1..4, 1));
    assert_eq!(place.numbers("numbers"), each(0..ROWS, 1));
    let count = |key: i64| (0..ROWS).filter(|id| id % 7 == key).count() as i64;
    let counts: BTreeMap<i64, i64> = (0..7).map(|key| (key, count(key))).collect();
    assert_eq!(fold_changelog(&place.path("counts")), counts);

    // From the beginning again, and Ctrl-C in the middle.
    let mut run = place.start(&script);
    place.wait_for_more(&mut run, place.written());
    assert_eq!(place.numbers("copies"), each(1..4, 2));
    assert!(!run.log().contains("left out"), "{}", run.log());
    run.interrupt();
    assert_eq!(run.ended().code(), Some(130));
    run.says("interrupted: the next run of this script goes on from here");
    let mut run = place.start(&script);
    assert!(run.ended().success(), "{}", run.log());
    assert_eq!(place.numbers("copies"), each(1..4, 2));
    assert_eq!(place.numbers("numbers"), each(0..ROWS, 2));
}

#[test]
fn a_script_that_was_changed_is_refused_and_harms_nothing() {
    let place = Place::new();
    let script = place.script();
    let mut run = place.start(&script);
    place.wait_for_more(&mut run, 0);
    drop(run);
    let written = place.written();
    let changed = script.replace("'fields.id.start' = '0'", "'fields.id.start' = '5'");
    let mut run = place.start(&changed);
    assert_eq!(run.ended().code(), Some(1));
    run.says("does not belong to this script: table `source` was another then; run the script");
    assert_eq!(place.written(), written, "no job went on");
    let mut run = place.start(&script);
    assert!(run.ended().success(), "{}", run.log());
    assert_eq!(place.numbers("numbers"), each(0..ROWS, 1));
}

#[test]
fn a_job_that_failed_starts_anew() {
    let place = Place::new();
    fs::write(place.path("few.csv"), "1\nthree\n").expect("written");
    let script = place.script();
    let mut run = place.start(&script);
    assert_eq!(run.ended().code(), Some(1));
    fs::write(place.path("few.csv"), "1\n2\n3\n").expect("written");
    let mut run = place.start(&script);
    assert!(run.ended().success(), "{}", run.log());
    run.says("job_1 is failed (");
    assert_eq!(place.numbers("copies"), each(1..4, 1));
}
