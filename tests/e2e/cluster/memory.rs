//! Workers whose memory is too little for the state of their job, when one of them dies and when tasks move.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Value, json};
use tests::{Cluster, ClusterConfig, table_lines};

use super::config;

/// Each of them comes again when all others have come.
const KEYS: i64 = 200_000;
const ROWS: i64 = 5 * KEYS;
const ROWS_PER_SECOND: i64 = 40_000;
/// What is kept of a key, beside its figures.
const PAYLOAD: usize = 1_600;
/// Keys are told in sums of many.
const BUCKETS: i64 = 50;

const EVICTED: &str = "millstream_operator_state_evicted_total";
const LOOKED_FOR: &str = "millstream_operator_state_scratch_reads_total";

fn statements(folder: &Path) -> String {
    let (path, last) = (folder.display(), ROWS - 1);
    let digits = PAYLOAD + 1;
    format!(
        "SET 'execution.checkpointing.interval' = '500 ms';
         SET 'parallelism.default' = '2';
         CREATE TABLE numbers (id BIGINT) WITH ('connector' = 'datagen',
           'rows-per-second' = '{ROWS_PER_SECOND}',
           'fields.id.kind' = 'sequence', 'fields.id.start' = '0', 'fields.id.end' = '{last}');
         CREATE TABLE buckets (bucket BIGINT, k BIGINT, times BIGINT, total BIGINT, newest BIGINT)
           WITH ('connector' = 'filesystem', 'path' = '{path}', 'format' = 'debezium-json');
         INSERT INTO buckets
           SELECT MOD(k, {BUCKETS}), COUNT(*), SUM(times), SUM(total), SUM(newest) FROM
             (SELECT k, COUNT(*) AS times, SUM(id) AS total,
                CAST(SUBSTRING(MAX(payload) FROM {digits}) AS BIGINT) AS newest FROM
                (SELECT MOD(id, {KEYS}) AS k, id,
                   CONCAT(REPEAT('x', {PAYLOAD}), LPAD(CAST(id AS STRING), 8, '0')) AS payload
                 FROM numbers)
              GROUP BY k)
           GROUP BY MOD(k, {BUCKETS});"
    )
}

/// What there must be in the end, by bucket.
fn expected() -> BTreeMap<i64, Value> {
    let mut rows = BTreeMap::new();
    for bucket in 0..BUCKETS {
        let ids = (0..ROWS).filter(|id| id % KEYS % BUCKETS == bucket);
        let newest = ids.clone().filter(|id| *id >= ROWS - KEYS);
        let row = json!({
            "bucket": bucket,
            "k": newest.clone().count(),
            "times": ids.clone().count(),
            "total": ids.sum::<i64>(),
            "newest": newest.sum::<i64>(),
        });
        rows.insert(bucket, row);
    }
    rows
}

/// What the changes in the folder come to; each must fit the one before.
fn folded(folder: &Path) -> BTreeMap<i64, Value> {
    let mut rows = BTreeMap::new();
    for change in table_lines(folder) {
        let bucket = |row: &Value| row["bucket"].as_i64();
        let (before, after) = (&change["before"], &change["after"]);
        if let Some(bucket) = bucket(before) {
            assert_eq!(rows.remove(&bucket).as_ref(), Some(before), "{change}");
        }
        if let Some(bucket) = bucket(after) {
            assert_eq!(rows.insert(bucket, after.clone()), None, "{change}");
        }
    }
    rows
}

/// Waits until a worker has let go of keys and has looked for some of them again.
fn wait_short(cluster: &Cluster, worker: usize, job: &str) {
    cluster.wait("keys go from memory and are looked for again", || {
        let count = |metric| cluster.counted(worker, metric, job);
        count(EVICTED) > 0.0 && count(LOOKED_FOR) > 0.0
    });
}

#[test]
fn a_job_with_more_state_than_memory_outlives_a_worker_and_is_rescaled() {
    let scratch = tempfile::tempdir().expect("a folder");
    let directory = scratch.path().display().to_string();
    let little = ["--memory", "256MiB", "--scratch-dir", &directory];
    let mut cluster = Cluster::start(&ClusterConfig {
        nodes: 1,
        worker_arguments: little.map(str::to_owned).to_vec(),
        ..config()
    });
    let folder = cluster.folder().join("output");
    let job = cluster.execute(&statements(&folder)).remove(0);
    cluster.wait_all_work();
    wait_short(&cluster, 0, &job);
    cluster.workers[0].kill();
    wait_short(&cluster, 1, &job);
    cluster.workers[0].start_again();
    cluster.wait_whole();
    cluster.rescale(&job, 3);
    wait_short(&cluster, 0, &job);
    cluster.wait_progress(&job);
    cluster.wait_state(&job, "FINISHED");
    assert_eq!(folded(&folder), expected());
}
