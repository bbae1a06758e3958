//! The jobs that run, and what they must have written in the end, whatever happened: what the same
//! queries give over all rows at once.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use serde_json::Value;
use tests::{fold_changelog, table_lines};

use crate::{plan::Shape, world::World};

/// Tables that are written, which are also folders.
pub const TABLES: [&str; 5] = ["copies", "counts", "sums", "windows", "pairs"];

/// Keys that rows are counted by.
const KEYS: i64 = 7;
/// A row's number is its time, in tens of ms.
const MS_PER_ROW: i64 = 10;
/// Length of windows.
const WINDOW_MS: i64 = 1_000;

/// What the client executes.
#[must_use]
pub fn statements(shape: &Shape) -> String {
    let Shape {
        rows,
        rows_per_second,
        parallelism,
        checkpoint_ms,
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
         SET 'parallelism.default' = '{parallelism}';
         {}
         BEGIN STATEMENT SET;
         INSERT INTO copies SELECT id, -id FROM numbers;
         INSERT INTO counts SELECT id % {KEYS}, COUNT(*) FROM numbers GROUP BY id % {KEYS};
         INSERT INTO windows SELECT MIN(id) * {MS_PER_ROW} / {WINDOW_MS}, id % {KEYS}, COUNT(*)
           FROM TABLE(TUMBLE(TABLE numbers, DESCRIPTOR(t), INTERVAL '1' SECOND))
           GROUP BY window_start, window_end, id % {KEYS};
         END;
         BEGIN STATEMENT SET;
         INSERT INTO sums SELECT id % {KEYS}, SUM(id) FROM others GROUP BY id % {KEYS};
         INSERT INTO pairs SELECT n.id, o.id FROM numbers AS n JOIN others AS o ON n.id = o.id;
         END;",
        tables.concat()
    )
}

/// What is wrong with what was written.
///
/// # Errors
/// The first difference of each table.
pub fn check(world: &World) -> Result<(), String> {
    let rows = world.shape.rows;
    let folder = |table: &str| world.output.join(table);
    let by_key = |value: fn(i64) -> i64| {
        let mut sums = BTreeMap::new();
        for id in 0..rows {
            *sums.entry(id % KEYS).or_default() += value(id);
        }
        sums
    };
    let copies: Vec<[i64; 2]> = (0..rows).map(|id| [id, -id]).collect();
    let pairs: Vec<[i64; 2]> = (0..rows).map(|id| [id, id]).collect();
    let mut windows: BTreeMap<[i64; 2], i64> = BTreeMap::new();
    for id in 0..rows {
        let window = id * MS_PER_ROW / WINDOW_MS;
        *windows.entry([window, id % KEYS]).or_default() += 1;
    }
    let windows: Vec<[i64; 3]> = windows.iter().map(|([w, k], c)| [*w, *k, *c]).collect();
    let found = [
        rows_differ(&folder("copies"), ["id", "negative"], &copies),
        rows_differ(&folder("pairs"), ["a", "b"], &pairs),
        rows_differ(&folder("windows"), ["w", "k", "c"], &windows),
        folded_differ(&folder("counts"), &by_key(|_| 1)),
        folded_differ(&folder("sums"), &by_key(|id| id)),
    ];
    let found: Vec<String> = found.into_iter().filter_map(Result::err).collect();
    match found.is_empty() {
        true => Ok(()),
        false => Err(found.join("; ")),
    }
}

fn rows_differ<const N: usize>(
    folder: &Path,
    columns: [&str; N],
    expected: &[[i64; N]],
) -> Result<(), String> {
    let lines = read(folder, table_lines)?;
    let row = |line: &Value| columns.map(|column| line[column].as_i64().unwrap_or(i64::MIN));
    let mut rows: Vec<[i64; N]> = lines.iter().map(row).collect();
    rows.sort_unstable();
    let first = rows.iter().zip(expected).position(|(a, b)| a != b);
    let first = first.or((rows.len() != expected.len()).then(|| rows.len().min(expected.len())));
    first.map_or(Ok(()), |at| {
        let (found, wanted) = (rows.get(at), expected.get(at));
        let (have, want) = (rows.len(), expected.len());
        let folder = folder.display();
        Err(format!(
            "{folder}: {have} rows of {want}, the first wrong one is {found:?}, not {wanted:?}"
        ))
    })
}

fn folded_differ(folder: &Path, expected: &BTreeMap<i64, i64>) -> Result<(), String> {
    let folded = read(folder, fold_changelog)?;
    match folded == *expected {
        true => Ok(()),
        false => Err(format!(
            "{}: {folded:?}, not {expected:?}",
            folder.display()
        )),
    }
}

/// What files come to; a change that does not fit the one before is an answer, too.
fn read<T: Debug>(folder: &Path, read: impl FnOnce(&Path) -> T) -> Result<T, String> {
    let read = catch_unwind(AssertUnwindSafe(|| read(folder)));
    read.map_err(|panic| {
        let why = panic.downcast_ref::<String>().cloned().unwrap_or_default();
        format!("{}: {why}", folder.display())
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
