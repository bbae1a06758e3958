//! The jobs that run, and what they must have written in the end, whatever happened: what the same
//! queries give over all rows at once. A job that began with another's state has written what came
//! after that; with what the other had written until then, that is all.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use coordinator::{
    JobState,
    meta::{Desired, JobRecord},
};
use proto::types::{Epoch, JobId};
use serde_json::{Value, json};
use tests::{file_lines, fold_changes, table_files};

use crate::{plan::Shape, world::World};

/// Tables that are written, which are also folders.
pub const TABLES: [&str; 5] = ["copies", "counts", "sums", "windows", "pairs"];

/// A row's number is its time, in tens of ms.
const MS_PER_ROW: i64 = 10;
/// Length of windows.
const WINDOW_MS: i64 = 1_000;

/// One of the two jobs.
fn counting(keys: i64) -> String {
    format!(
        "BEGIN STATEMENT SET;
    INSERT INTO copies SELECT id, -id FROM numbers;
    INSERT INTO counts SELECT id % {keys}, COUNT(*) FROM numbers GROUP BY id % {keys};
    INSERT INTO windows SELECT MIN(id) * 10 / 1000, id % {keys}, COUNT(*)
      FROM TABLE(TUMBLE(TABLE numbers, DESCRIPTOR(t), INTERVAL '1' SECOND))
      GROUP BY window_start, window_end, id % {keys};
    END;"
    )
}

/// The other one.
fn summing(keys: i64) -> String {
    format!(
        "BEGIN STATEMENT SET;
    INSERT INTO sums SELECT id % {keys}, SUM(id) FROM others GROUP BY id % {keys};
    INSERT INTO pairs SELECT n.id, o.id FROM numbers AS n JOIN others AS o ON n.id = o.id;
    END;"
    )
}

/// The statements of a job, which go on with the state of another one like it.
#[must_use]
pub fn restored(shape: &Shape, sql: &str, state: &str) -> String {
    let statements = match tables_of(sql).contains(&"sums") {
        true => summing(shape.keys),
        false => counting(shape.keys),
    };
    format!("SET 'execution.state-recovery.path' = '{state}'; {statements}")
}

/// Folders of tables that anything was written to: those of the first jobs, and those of copies.
#[must_use]
pub fn folders(output: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(output).into_iter().flatten();
    let copies = entries.map(|entry| entry.expect("an entry").path());
    let mut roots: Vec<PathBuf> = copies.filter(|path| path.join(COPY).is_file()).collect();
    roots.push(output.to_owned());
    roots.sort();
    let folders = roots
        .iter()
        .flat_map(|root| TABLES.map(|table| root.join(table)));
    folders.filter(|folder| folder.is_dir()).collect()
}

/// Marks the folder of a copy.
const COPY: &str = "copy";

/// Tables that a job writes.
#[must_use]
pub fn tables_of(sql: &str) -> Vec<&'static str> {
    let is_written = |table: &&str| sql.contains(&format!("INSERT INTO {table} "));
    TABLES.into_iter().filter(is_written).collect()
}

/// Where the sinks of a copy of a job write, for the API.
#[must_use]
pub fn sinks_of_copy(world: &World, sql: &str, name: &str) -> Value {
    let folder = world.output.join(name);
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join(COPY), "").expect("a file");
    let path = |table: &str| folder.join(table).display().to_string();
    let sinks = tables_of(sql).into_iter();
    let sinks = sinks.map(|table| (table.to_owned(), json!({ "path": path(table) })));
    Value::Object(sinks.collect())
}

/// What the client executes.
#[must_use]
pub fn statements(shape: &Shape) -> String {
    let Shape {
        rows,
        rows_per_second,
        keys,
        parallelism,
        checkpoint_ms,
        overtakes,
        ..
    } = shape;
    let last = rows - 1;
    let sink = |name: &str, columns: &str, format: &str| {
        format!(
            "CREATE TABLE {name} ({columns}) WITH ('connector' = 'filesystem', 'path' = 'out/{name}', \
             'format' = '{format}');\n"
        )
    };
    let source = |name: &str| {
        format!(
            "CREATE TABLE {name} (id BIGINT, t AS TO_TIMESTAMP_LTZ(id * {MS_PER_ROW}, 3), WATERMARK FOR t AS t) \
             WITH ('connector' = 'datagen', 'rows-per-second' = '{rows_per_second}', \
             'fields.id.kind' = 'sequence', 'fields.id.start' = '0', 'fields.id.end' = '{last}');\n"
        )
    };
    let tables = [
        source("numbers"),
        source("others"),
        sink("copies", "id BIGINT, negative BIGINT", "json"),
        sink("counts", "k BIGINT, c BIGINT", "debezium-json"),
        sink("sums", "k BIGINT, c BIGINT", "debezium-json"),
        sink("windows", "w BIGINT, k BIGINT, c BIGINT", "json"),
        sink("pairs", "a BIGINT, b BIGINT", "json"),
    ];
    format!(
        "SET 'execution.checkpointing.interval' = '{checkpoint_ms} ms';
         SET 'execution.checkpointing.aligned-checkpoint-timeout' = '0 s';
         SET 'execution.checkpointing.unaligned.enabled' = '{overtakes}';
         SET 'parallelism.default' = '{parallelism}';
         {}
         {}
         {}",
        tables.concat(),
        counting(*keys),
        summing(*keys),
    )
}
/// What is wrong with what was written.
///
/// # Errors
/// The first difference of each table.
pub fn check(world: &World) -> Result<(), String> {
    let jobs = world.all_jobs();
    let files = Files::of(world)?;
    let mut found: Vec<String> = files.strangers(&jobs);
    for job in jobs.values().filter(|job| is_whole(job)) {
        let Some(lineage) = lineage(&jobs, job) else {
            continue;
        };
        for table in tables_of(&job.spec.sql) {
            let files = files.written(table, &lineage);
            if let Err(why) = differs(&world.shape, table, &files) {
                found.push(format!("{} {table}: {why}", job.id));
            }
        }
    }
    let stopped = jobs.values().filter(|job| is_stopped(job));
    for stopped in stopped {
        let goes_on = |job: &JobRecord| {
            let origin = job.origin.as_ref();
            origin.is_some_and(|origin| origin.job == stopped.id)
        };
        if !jobs.values().any(goes_on) {
            found.push(format!("{} was stopped, and nothing went on", stopped.id));
        }
    }
    match found.is_empty() {
        true => Ok(()),
        false => Err(found.join("; ")),
    }
}

/// Whether a job has come to the end of its input.
fn is_whole(job: &JobRecord) -> bool {
    let finished = job.outcome.as_ref().map(|outcome| outcome.state) == Some(JobState::Finished);
    finished && !is_stopped(job)
}

fn is_stopped(job: &JobRecord) -> bool {
    matches!(job.desired, Desired::Stop(_))
}

/// Whose output up to which epoch makes up all that a job and those before it have written, oldest
/// first, by the number that is in the names of their files. `None`: one of them was cancelled, and
/// may have dropped what was not outside.
fn lineage(jobs: &BTreeMap<JobId, JobRecord>, job: &JobRecord) -> Option<Vec<(u64, Epoch)>> {
    let mut lineage = vec![(job.run, Epoch(u64::MAX))];
    let mut origin = job.origin.as_ref();
    while let Some(of) = origin {
        let before = jobs.get(&of.job)?;
        if before.desired == Desired::Cancel {
            return None;
        }
        lineage.push((before.run, of.epoch));
        origin = before.origin.as_ref();
    }
    lineage.reverse();
    Some(lineage)
}

/// Files by table, run and epoch; those of an epoch are sorted.
struct Files(BTreeMap<(String, u64, Epoch), Vec<PathBuf>>);

impl Files {
    fn of(world: &World) -> Result<Files, String> {
        let mut files: BTreeMap<_, Vec<PathBuf>> = BTreeMap::new();
        for folder in folders(&world.output) {
            let table = folder.file_name().and_then(|name| name.to_str());
            let table = table.unwrap_or_default().to_owned();
            for file in table_files(&folder) {
                let (run, epoch) = run_and_epoch(&file)
                    .ok_or_else(|| format!("{} is no file of a job", file.display()))?;
                files
                    .entry((table.clone(), run, epoch))
                    .or_default()
                    .push(file);
            }
        }
        Ok(Files(files))
    }

    /// Files of what is no job.
    fn strangers(&self, jobs: &BTreeMap<JobId, JobRecord>) -> Vec<String> {
        let is_known = |run: u64| jobs.values().any(|job| job.run == run);
        let strangers = self.0.iter().filter(|((_, run, _), _)| !is_known(*run));
        let first = strangers.map(|((table, _, _), files)| {
            let file = files[0].display();
            format!("{file} of {table} is no job's")
        });
        first.take(1).collect()
    }

    /// What was written to a table, in its order.
    fn written(&self, table: &str, lineage: &[(u64, Epoch)]) -> Vec<PathBuf> {
        let of_run = |(run, until): &(u64, Epoch)| {
            let key = |epoch| (table.to_owned(), *run, epoch);
            self.0.range(key(Epoch::ZERO)..=key(*until))
        };
        let files = lineage.iter().flat_map(of_run);
        files.flat_map(|(_, files)| files.clone()).collect()
    }
}

/// What the name of a file says: `part-<created>-<run>-<epoch>-…`.
fn run_and_epoch(file: &Path) -> Option<(u64, Epoch)> {
    let mut parts = file.file_name()?.to_str()?.split('-').skip(2);
    let run = u64::from_str_radix(parts.next()?, 16).ok()?;
    Some((run, Epoch(parts.next()?.parse().ok()?)))
}

fn differs(shape: &Shape, table: &str, files: &[PathBuf]) -> Result<(), String> {
    let Shape { rows, keys, .. } = *shape;
    let by_key = |value: fn(i64) -> i64| {
        let mut sums = BTreeMap::new();
        for id in 0..rows {
            *sums.entry(id % keys).or_default() += value(id);
        }
        sums
    };
    match table {
        "copies" => rows_differ(files, ["id", "negative"], (0..rows).map(|id| [id, -id])),
        "pairs" => rows_differ(files, ["a", "b"], (0..rows).map(|id| [id, id])),
        "windows" => {
            let mut windows: BTreeMap<[i64; 2], i64> = BTreeMap::new();
            for id in 0..rows {
                let window = id * MS_PER_ROW / WINDOW_MS;
                *windows.entry([window, id % keys]).or_default() += 1;
            }
            let windows = windows.iter().map(|([w, k], c)| [*w, *k, *c]);
            rows_differ(files, ["w", "k", "c"], windows)
        }
        "counts" => folded_differ(files, &by_key(|_| 1)),
        _ => folded_differ(files, &by_key(|id| id)),
    }
}

fn rows_differ<const N: usize>(
    files: &[PathBuf],
    columns: [&str; N],
    expected: impl Iterator<Item = [i64; N]>,
) -> Result<(), String> {
    let lines = file_lines(files);
    let row = |line: &Value| columns.map(|column| line[column].as_i64().unwrap_or(i64::MIN));
    let mut rows: Vec<[i64; N]> = lines.iter().map(row).collect();
    rows.sort_unstable();
    let expected: Vec<[i64; N]> = expected.collect();
    let first = rows.iter().zip(&expected).position(|(a, b)| a != b);
    let first = first.or((rows.len() != expected.len()).then(|| rows.len().min(expected.len())));
    first.map_or(Ok(()), |at| {
        let (found, wanted) = (rows.get(at), expected.get(at));
        let (have, want) = (rows.len(), expected.len());
        Err(format!(
            "{have} rows of {want}, the first wrong one is {found:?}, not {wanted:?}"
        ))
    })
}

/// A change that does not fit the one before is an answer, too.
fn folded_differ(files: &[PathBuf], expected: &BTreeMap<i64, i64>) -> Result<(), String> {
    let lines = file_lines(files);
    let folded = catch_unwind(AssertUnwindSafe(|| fold_changes(&lines)));
    let folded = folded.map_err(|panic| {
        let why = panic.downcast_ref::<String>().cloned();
        why.unwrap_or_else(|| "changes do not fit each other".to_owned())
    })?;
    let keys: BTreeSet<&i64> = folded.keys().chain(expected.keys()).collect();
    let mut differ = keys
        .iter()
        .filter(|key| folded.get(key) != expected.get(key));
    let (all, wrong) = (keys.len(), differ.clone().count());
    differ.next().map_or(Ok(()), |key| {
        let (found, wanted) = (folded.get(key), expected.get(key));
        Err(format!(
            "{wrong} keys of {all} are wrong, the first one is {key}: {found:?}, not {wanted:?}"
        ))
    })
}

/// Files of jobs that have ended and are still there.
#[must_use]
pub fn leaked(world: &World) -> Vec<String> {
    let objects = world.bucket.objects();
    let of_jobs = objects.into_keys().filter(|name| {
        let mut parts = name.split('/');
        parts.any(|part| part == "jobs")
    });
    of_jobs.collect()
}
