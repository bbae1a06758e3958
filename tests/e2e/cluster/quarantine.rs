//! A poisoned job waits for its user whoever leads, and goes on from a state that its user names.

use serde_json::Value;
use tests::Cluster;

use super::start;

const ROWS: u64 = 12_000;

fn number(cluster: &Cluster, job: &str, field: &str) -> u64 {
    let job = cluster.get(&format!("/v1/jobs/{job}"));
    job.and_then(|job| job[field].as_u64()).unwrap_or_default()
}

#[test]
fn a_job_in_quarantine_is_resumed_under_another_leader() {
    let mut cluster = start();
    let folder = cluster.folder().join("counts");
    let script = format!(
        "SET 'execution.checkpointing.interval' = '100 ms';
         SET 'parallelism.default' = '2';
         CREATE TABLE numbers (id BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '3000',
           'fields.id.kind' = 'sequence', 'fields.id.start' = '0', 'fields.id.end' = '{}');
         CREATE TABLE counts (k BIGINT, c BIGINT) WITH ('connector' = 'filesystem', 'path' = '{}',
           'format' = 'debezium-json');
         INSERT INTO counts SELECT id / ({bad} - id) * 0 + id % 7, COUNT(*) FROM numbers
           GROUP BY id / ({bad} - id) * 0 + id % 7",
        ROWS - 1,
        folder.display(),
        bad = ROWS - 1000,
    );
    let job = cluster.execute(&script).remove(0);
    cluster.wait_state(&job, "QUARANTINED");
    let (newest, generation) = (
        number(&cluster, &job, "committed_epoch"),
        number(&cluster, &job, "generation"),
    );

    let leader = cluster.leader();
    cluster.nodes[leader].kill();
    cluster.wait_state(&job, "QUARANTINED");
    let kept = cluster
        .get(&format!("/v1/jobs/{job}/checkpoints"))
        .expect("an answer");
    let kept: Vec<u64> = kept["restorable"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(Value::as_u64)
        .collect();
    let older = kept[kept.len() / 2];
    assert!(older < newest, "{kept:?}");
    let resumed = cluster.client(&["jobs", "resume", &job, "--checkpoint", &older.to_string()]);
    resumed.expect("it is resumed");
    cluster.wait(
        "it runs, and meets the same row in epochs that were never used",
        || {
            number(&cluster, &job, "generation") > generation
                && number(&cluster, &job, "committed_epoch") > newest
        },
    );
    cluster.wait_state(&job, "QUARANTINED");
    cluster.nodes[leader].start_again();
    cluster.wait_nodes();
    cluster.wait_state(&job, "QUARANTINED");
    cluster
        .client(&["jobs", "cancel", &job])
        .expect("it is cancelled");
    cluster.wait_state(&job, "CANCELED");
}
