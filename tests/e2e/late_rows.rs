//! Rows that come too late, written to a table: each row of the input is used or there, once, whatever
//! crashes; and a job goes on with its state whether they are written or not.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs,
    path::Path,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use tests::{
    DevProcess, RunConfig,
    faults::{Fault, Step},
    run, table_lines, wait_until,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_millstream-under-test");

/// A test that takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(120);

const ROWS: i64 = 1_500;

/// Second of a row after the first minute, at most 20 s behind those before it.
fn second(id: i64) -> i64 {
    (id / 5 - (id * 7919) % 20).max(0)
}

fn time(second: i64) -> String {
    format!("2026-01-01 00:{:02}:{:02}", second / 60, second % 60)
}

/// Writes rows in several files, and says what tables there are.
fn tables(folder: &Path, files: i64) -> String {
    let events = folder.join("events");
    fs::create_dir(&events).expect("a folder");
    for file in 0..files {
        let row = |id: i64| {
            format!(
                "{{\"k\":{},\"id\":{id},\"ts\":\"{}\"}}\n",
                id % 7,
                time(second(id))
            )
        };
        let lines: String = (1..=ROWS)
            .filter(|id| id % files == file)
            .map(row)
            .collect();
        fs::write(events.join(format!("{file}.json")), lines).expect("written");
    }
    let sink = |name: &str, columns: &str| {
        let path = folder.join(name);
        format!(
            "CREATE TABLE {name} ({columns}) WITH ('connector' = 'filesystem', 'path' = '{}', \
             'format' = 'json');\n",
            path.display()
        )
    };
    let source = format!(
        "CREATE TABLE events (k BIGINT, id BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - \
         INTERVAL '4' SECOND) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');\n",
        events.display()
    );
    [
        source,
        sink("counts", "k BIGINT, c BIGINT, s BIGINT"),
        sink("sessions", "k BIGINT, c BIGINT, s BIGINT"),
        sink("tops", "k BIGINT, id BIGINT"),
        sink("overs", "k BIGINT, id BIGINT, s BIGINT"),
        sink("pairs", "a BIGINT, b BIGINT"),
        sink(
            "late_rows",
            "late_row STRING, operator STRING, watermark TIMESTAMP(3), event_time TIMESTAMP(3)",
        ),
    ]
    .concat()
}

const JOB: &str = "
SET 'millstream.late-rows.table' = 'late_rows';
BEGIN STATEMENT SET;
INSERT INTO counts SELECT k, COUNT(*), SUM(id) FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts),
  INTERVAL '5' SECOND)) GROUP BY k, window_start, window_end;
INSERT INTO sessions SELECT k, COUNT(*), SUM(id) FROM TABLE(SESSION(TABLE events PARTITION BY k,
  DESCRIPTOR(ts), INTERVAL '1' SECOND)) GROUP BY k, window_start, window_end;
INSERT INTO tops SELECT k, id FROM (SELECT k, id, ROW_NUMBER() OVER (PARTITION BY window_start,
  window_end, k ORDER BY id) AS n FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '5' SECOND)))
  WHERE n <= 1000;
INSERT INTO overs SELECT k, id, SUM(id) OVER (PARTITION BY k ORDER BY ts) FROM events;
INSERT INTO pairs SELECT a.id, b.id FROM (SELECT window_start, window_end, k, id FROM TABLE(TUMBLE(TABLE
  events, DESCRIPTOR(ts), INTERVAL '5' SECOND))) AS a FULL JOIN (SELECT window_start, window_end, k, -id AS
  id FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '5' SECOND))) AS b ON a.k = b.k AND
  a.window_start = b.window_start AND a.window_end = b.window_end;
END;
";

/// Ids of late rows, by the operator that dropped them.
fn late_rows(folder: &Path) -> BTreeMap<String, BTreeSet<i64>> {
    let mut found: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
    for line in table_lines(&folder.join("late_rows")) {
        let text = |name: &str| line[name].as_str().expect("text").to_owned();
        let row: Value = serde_json::from_str(&text("late_row")).expect("a row as JSON");
        let id = row["id"].as_i64().expect("an id");
        let (at, passed) = (text("event_time"), text("watermark"));
        let time = time(second(id.abs()));
        // Rows that carry their windows have nothing else of their time here.
        let has_time = ["sort", "window-aggregate"].map(|kind| text("operator").starts_with(kind));
        match has_time.contains(&true) {
            true => assert!(at.starts_with(&time), "{line}"),
            false => assert!(at >= time, "{line}"),
        }
        assert!(passed >= at, "{line}");
        assert_eq!(row["k"], id.abs() % 7, "{line}");
        let is_new = found.entry(text("operator")).or_default().insert(id);
        assert!(is_new, "it is there twice: {line}");
    }
    found
}

/// How many rows tables have aggregated, and the sum of their ids.
fn sums(folder: &Path, tables: &[&str]) -> (i64, i64) {
    let lines = tables
        .iter()
        .flat_map(|table| table_lines(&folder.join(table)));
    let lines: Vec<Value> = lines.collect();
    let sum = |name: &str| -> i64 {
        let numbers = lines
            .iter()
            .map(|line| line[name].as_i64().expect("a number"));
        numbers.sum()
    };
    (sum("c"), sum("s"))
}

fn ids(folder: &Path, table: &str, columns: &[&str]) -> BTreeSet<i64> {
    let lines = table_lines(&folder.join(table));
    let of_line = |line: &Value| columns.iter().map(|name| line[*name].as_i64()).collect();
    let ids: Vec<Vec<Option<i64>>> = lines.iter().map(of_line).collect();
    ids.into_iter().flatten().flatten().collect()
}

/// Runs the job: how often tasks looked at the clock, and how many rows were late.
fn check(files: i64, config: &RunConfig) -> (u64, usize) {
    let folder = TempDir::new().expect("a folder");
    let script = tables(folder.path(), files) + JOB;
    let output = run(&script, config).expect("it runs");
    let late = late_rows(folder.path());
    let of = |kind: &str| -> Vec<&BTreeSet<i64>> {
        let of_kind = |(operator, _): &(&String, &BTreeSet<i64>)| operator.starts_with(kind);
        let found = late.iter().filter(of_kind);
        found.map(|(_, rows)| rows).collect()
    };
    let (mut count, mut sum) = sums(folder.path(), &["counts", "sessions"]);
    for rows in of("window-aggregate") {
        (count, sum) = (count + rows.len() as i64, sum + rows.iter().sum::<i64>());
    }
    let all: BTreeSet<i64> = (1..=ROWS).collect();
    assert_eq!((count, sum), (2 * ROWS, ROWS * (ROWS + 1)), "{config:?}");
    let both: BTreeSet<i64> = all.iter().flat_map(|id| [*id, -id]).collect();
    for (kind, table, columns, all) in [
        ("rank", "tops", &["id"][..], &all),
        ("sort", "overs", &["id"][..], &all),
        ("window-join", "pairs", &["a", "b"][..], &both),
    ] {
        let late: BTreeSet<i64> = of(kind).into_iter().flatten().copied().collect();
        let used = ids(folder.path(), table, columns);
        assert!(
            used.is_disjoint(&late),
            "{kind} has used late rows: {config:?}"
        );
        assert_eq!(&(&used | &late), all, "{kind}: {config:?}");
    }
    // Each kind of operator has some: two window aggregates, a ranking, a sort, a join.
    assert_eq!(late.len(), 5, "{:?}", late.keys());
    (output.looks, late.values().map(BTreeSet::len).sum())
}

/// Once as it is, then with crashes.
fn check_with_crashes(files: i64, plain: &RunConfig) {
    let (looks, rows) = check(files, plain);
    assert!(rows > 100, "only {rows} rows are late");
    for part in 1..6 {
        let _ = check(
            files,
            &RunConfig {
                crash_at_look: Some(looks * part / 6),
                ..plain.clone()
            },
        );
    }
    for (step, nth) in [(Step::Stage, 4), (Step::Commit, 2), (Step::Output, 2)] {
        for after in [false, true] {
            let faults = vec![Fault { step, nth, after }];
            let _ = check(
                files,
                &RunConfig {
                    faults,
                    ..plain.clone()
                },
            );
        }
    }
}

#[test]
fn each_row_is_used_or_written_as_late_by_one_task() {
    check_with_crashes(
        1,
        &RunConfig {
            batch_rows: 20,
            checkpoint_interval_ms: 1,
            ..RunConfig::default()
        },
    );
}

#[test]
fn each_row_is_used_or_written_as_late_by_two_tasks() {
    check_with_crashes(
        3,
        &RunConfig {
            parallelism: 2,
            batch_rows: 20,
            checkpoint_interval_ms: 1,
            ..RunConfig::default()
        },
    );
}

/// Partial results before, single rows afterwards: the windows that were open are counted to their end.
#[test]
fn a_job_goes_on_with_its_windows_when_late_rows_are_to_be_written() {
    let folder = TempDir::new().expect("a folder");
    let data = folder.path().join("data");
    let arguments = [OsStr::new("--data-dir"), data.as_os_str()];
    let dev = DevProcess::start_with(Path::new(PROGRAM), &arguments, &[]);
    let insert = "INSERT INTO counts SELECT k, COUNT(*), SUM(id), MIN(id), MAX(id), AVG(id), SUM(d), \
                  AVG(d), AVG(f) FROM TABLE(TUMBLE(TABLE numbers, DESCRIPTOR(ts), INTERVAL '3' SECOND)) \
                  GROUP BY k, window_start, window_end";
    let script = format!(
        "SET 'execution.checkpointing.interval' = '100 ms';
         SET 'parallelism.default' = '2';
         CREATE TABLE numbers (id BIGINT, k AS id % 3, d AS CAST(id AS DECIMAL(10, 2)) / 4, f AS
           CAST(id AS FLOAT) / 8, ts AS TO_TIMESTAMP_LTZ(id, 3), WATERMARK FOR ts AS ts) WITH (
           'connector' = 'datagen', 'rows-per-second' = '2000', 'fields.id.kind' = 'sequence',
           'fields.id.start' = '0', 'fields.id.end' = '11999');
         CREATE TABLE counts (k BIGINT, c BIGINT, s BIGINT, least BIGINT, most BIGINT, a BIGINT, sd
           DECIMAL(38, 6), ad DECIMAL(38, 6), af DOUBLE) WITH ('connector' = 'filesystem', 'path' = '{}', \
           'format' = 'json');
         CREATE TABLE late_rows (late_row STRING) WITH ('connector' = 'blackhole');
         {insert}",
        folder.path().join("counts").display()
    );
    let _ = dev.execute(&script, "");
    let job = |id: &str| -> Value {
        let (_, _, body) = dev.get(&format!("/v1/jobs/{id}"), true);
        serde_json::from_str(&body).expect("JSON")
    };
    let began = wait_until(PATIENCE, || {
        job("job_1")["committed_epoch"].as_u64() > Some(20)
    });
    assert!(began, "{} {}", job("job_1"), dev.log());
    let sql = format!("SET 'millstream.late-rows.table' = 'late_rows'; {insert}");
    let upgraded = dev.jobs(&["upgrade", "job_1", "-e", &sql]);
    let ended = wait_until(PATIENCE, || job("job_2")["state"] == "FINISHED");
    assert!(ended, "{upgraded} {} {}", job("job_2"), dev.log());
    assert_eq!(counted(&folder.path().join("counts")), expected());
}

/// Key, count, sum, least, greatest and average of each window and key.
type Counted = [i64; 6];

fn expected() -> Vec<Counted> {
    let mut windows = Vec::new();
    for (window, k) in (0..4).flat_map(|window| (0..3).map(move |k| (window, k))) {
        let ids = window * 3000..(window + 1) * 3000;
        let ids: Vec<i64> = ids.filter(|id| id % 3 == k).collect();
        let (count, sum) = (ids.len() as i64, ids.iter().sum::<i64>());
        windows.push([k, count, sum, ids[0], ids[ids.len() - 1], sum / count]);
    }
    windows.sort_unstable();
    windows
}

/// What was written, of which numbers that are not whole are checked.
fn counted(folder: &Path) -> Vec<Counted> {
    let mut windows = Vec::new();
    for row in table_lines(folder) {
        let whole = |name: &str| row[name].as_i64().expect("a number");
        let window = ["k", "c", "s", "least", "most", "a"].map(whole);
        let (sum, average) = (window[2] as f64, window[2] as f64 / window[1] as f64);
        for (name, wanted) in [
            ("sd", sum / 4.0),
            ("ad", average / 4.0),
            ("af", average / 8.0),
        ] {
            let text = row[name].as_str().and_then(|text| text.parse().ok());
            let found: f64 = row[name].as_f64().or(text).expect("a number");
            assert!(
                (found - wanted).abs() < 0.01,
                "{name} of {row} is not {wanted}"
            );
        }
        windows.push(window);
    }
    windows.sort_unstable();
    windows
}
