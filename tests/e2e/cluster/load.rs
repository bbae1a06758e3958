//! A job that is long enough for what tests do to it, and what it must have written at its end.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use tests::{Cluster, fold_changelog, fold_column, table_lines};

/// How fast rows come, over all tasks.
const ROWS_PER_SECOND: i64 = 3_000;
/// Keys that they are counted by.
const KEYS: i64 = 7;
/// A row's number is its time in ms.
const WINDOW_MS: i64 = 1_000;
/// Where its results are.
pub(super) const TABLES: [&str; 4] = ["copies", "counts", "windows", "joined"];
/// Every tenth number is joined with the one that is so much below.
const JOINED: i64 = 10;
const DISTANCE: i64 = 5;

/// A job in a cluster: numbers are copied, counted and added up by key in a changelog, counted by key in
/// windows, and, if that is asked for, some of them joined with others.
pub(super) struct Load {
    /// Its id.
    pub(super) job: String,
    folder: PathBuf,
    rows: i64,
    joins: bool,
}

impl Load {
    /// Starts it. Undisturbed it would take so many seconds.
    pub(super) fn start(cluster: &Cluster, seconds: i64, parallelism: u32) -> Load {
        Load::begin(cluster, seconds, parallelism, false)
    }

    /// The same with a join: another sink, and state that grows.
    pub(super) fn start_joining(cluster: &Cluster, seconds: i64, parallelism: u32) -> Load {
        Load::begin(cluster, seconds, parallelism, true)
    }

    fn begin(cluster: &Cluster, seconds: i64, parallelism: u32, joins: bool) -> Load {
        let folder = cluster.folder().join("output");
        let rows = seconds * ROWS_PER_SECOND;
        let mut jobs = cluster.execute(&statements(&folder, rows, parallelism, joins));
        Load {
            job: jobs.remove(0),
            folder,
            rows,
            joins,
        }
    }

    /// Waits until it has finished, and checks that every result is outside exactly once. Its source does
    /// not catch up on time in which it stood still: at worst all of its rows are still to come.
    pub(super) fn finish(&self, cluster: &Cluster) {
        let work = Duration::from_secs((self.rows / ROWS_PER_SECOND).unsigned_abs());
        cluster.wait_state_within(&self.job, "FINISHED", work);
        let rows_of = |table: &str| self.folder.join(table);
        let mut copies: Vec<[i64; 2]> = rows(&rows_of("copies"), ["id", "negative"]);
        copies.sort_unstable();
        let expected: Vec<[i64; 2]> = (0..self.rows).map(|id| [id, -id]).collect();
        differ("copies", &copies, &expected);

        let mut windows: Vec<[i64; 3]> = rows(&rows_of("windows"), ["w", "k", "c"]);
        windows.sort_unstable();
        let mut expected: BTreeMap<[i64; 2], i64> = BTreeMap::new();
        for id in 0..self.rows {
            *expected.entry([id / WINDOW_MS, id % KEYS]).or_default() += 1;
        }
        let expected: Vec<[i64; 3]> = expected.iter().map(|([w, k], c)| [*w, *k, *c]).collect();
        differ("windows", &windows, &expected);

        let count = |key| (0..self.rows).filter(|id| id % KEYS == key).count();
        let counted = (0..KEYS).map(|key| (key, i64::try_from(count(key)).expect("small")));
        assert_eq!(fold_changelog(&rows_of("counts")), counted.collect());
        self.check_sums();
        if self.joins {
            self.check_joined();
        }
    }

    fn check_sums(&self) {
        let sum = |key| (0..self.rows).filter(|id| id % KEYS == key).sum();
        let sums: BTreeMap<i64, i64> = (0..KEYS).map(|key| (key, sum(key))).collect();
        let changes = table_lines(&self.folder.join("counts"));
        assert_eq!(fold_column(&changes, "s"), sums);
    }

    fn check_joined(&self) {
        let mut joined: Vec<[i64; 2]> = rows(&self.folder.join("joined"), ["id", "below"]);
        joined.sort_unstable();
        let ids = (0..self.rows).filter(|id| id % JOINED == 0 && *id >= DISTANCE);
        let expected: Vec<[i64; 2]> = ids.map(|id| [id, id - DISTANCE]).collect();
        differ("joined", &joined, &expected);
    }
}

fn statements(folder: &Path, rows: i64, parallelism: u32, joins: bool) -> String {
    let last = rows - 1;
    let join = format!(
        "INSERT INTO joined SELECT a.id, b.id FROM numbers AS a JOIN numbers AS b ON a.id = b.id + {DISTANCE}
           WHERE a.id % {JOINED} = 0 AND b.id % {JOINED} = {DISTANCE};"
    );
    let join = if joins { join.as_str() } else { "" };
    let table = |name: &str, columns: &str, format: &str| {
        let path = folder.join(name);
        let path = path.display();
        format!(
            "CREATE TABLE {name} ({columns}) WITH ('connector' = 'filesystem', 'path' = '{path}', \
             'format' = '{format}');\n"
        )
    };
    let sinks = [
        table("copies", "id BIGINT, negative BIGINT", "json"),
        table("counts", "k BIGINT, c BIGINT, s BIGINT", "debezium-json"),
        table("windows", "w BIGINT, k BIGINT, c BIGINT", "json"),
        table("joined", "id BIGINT, below BIGINT", "json"),
    ];
    format!(
        "SET 'execution.checkpointing.interval' = '200 ms';
         SET 'parallelism.default' = '{parallelism}';
         CREATE TABLE numbers (id BIGINT, t AS TO_TIMESTAMP_LTZ(id, 3), WATERMARK FOR t AS t)
           WITH ('connector' = 'datagen', 'rows-per-second' = '{ROWS_PER_SECOND}',
           'fields.id.kind' = 'sequence', 'fields.id.start' = '0', 'fields.id.end' = '{last}');
         {}
         BEGIN STATEMENT SET;
         INSERT INTO copies SELECT id, -id FROM numbers;
         INSERT INTO counts SELECT id % {KEYS}, COUNT(*), SUM(id) FROM numbers GROUP BY id % {KEYS};
         INSERT INTO windows SELECT MIN(id) / {WINDOW_MS}, id % {KEYS}, COUNT(*)
           FROM TABLE(TUMBLE(TABLE numbers, DESCRIPTOR(t), INTERVAL '1' SECOND))
           GROUP BY window_start, window_end, id % {KEYS};
         {join}
         END;",
        sinks.concat()
    )
}

/// Complains about the first difference, not about all of sixty thousand.
fn differ<const N: usize>(table: &str, actual: &[[i64; N]], expected: &[[i64; N]]) {
    let (found, wanted) = (actual.len(), expected.len());
    let first = actual.iter().zip(expected).position(|(a, b)| a != b);
    if let Some(at) = first {
        let (actual, expected) = (&actual[at], &expected[at]);
        panic!("{table}: row {at} of {found} is {actual:?}, not {expected:?} of {wanted}");
    }
    assert_eq!(found, wanted, "{table}");
}

pub(super) fn rows<const N: usize>(folder: &Path, columns: [&str; N]) -> Vec<[i64; N]> {
    let lines = table_lines(folder);
    let row = |line: &Value| columns.map(|column| line[column].as_i64().expect("a number"));
    lines.iter().map(row).collect()
}
