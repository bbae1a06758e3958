//! Two of three control-plane nodes are gone: nothing is acknowledged, and jobs run on.

use std::time::Duration;

use control_stream::StreamTiming;
use serde_json::Value;
use tests::Cluster;
use tokio::time::Instant;

use super::{load::Load, start};

/// Within this time the user has an answer, be there a quorum or not.
const ANSWER_MAX: Duration = Duration::from_secs(25);

/// Posts a statement that cannot be acknowledged. Whether it may have happened all the same.
fn refused(cluster: &Cluster, node: usize, table: &str) -> bool {
    let sql = format!("CREATE TABLE {table} (n INT) WITH ('connector' = 'blackhole')");
    let asked = Instant::now();
    let (status, body) = cluster.execute_at(node, &sql).expect("an answer");
    assert!(asked.elapsed() < ANSWER_MAX, "after {:?}", asked.elapsed());
    assert_eq!(status, 503, "{body}");
    let problem: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(problem["code"], "metadata.unavailable", "{body}");
    let detail = problem["detail"].as_str().expect("a reason");
    assert!(
        detail.contains("lead") || detail.contains("quorum"),
        "{body}"
    );
    problem["hint"]
        .as_str()
        .expect("a hint")
        .contains("may have happened")
}

/// Tasks go on though nobody can commit what they do, and for longer than they would without a word
/// from the control plane.
fn tasks_run(cluster: &Cluster, job: &str) {
    let end = Instant::now() + StreamTiming::default().lease + Duration::from_secs(1);
    let rows = || -> f64 { (0..2).map(|worker| cluster.rows_out(worker, job)).sum() };
    while Instant::now() < end {
        let before = rows();
        cluster.wait("tasks run", || rows() > before);
    }
}

#[test]
fn without_a_quorum_nothing_is_acknowledged_and_jobs_run_on() {
    let mut cluster = start();
    let load = Load::start(&cluster, 15, 2);
    let endless = cluster.execute(
        "CREATE TABLE ticks (n INT) WITH ('connector' = 'datagen', 'rows-per-second' = '100');
         CREATE TABLE nothing (n INT) WITH ('connector' = 'blackhole');
         INSERT INTO nothing SELECT n FROM ticks",
    );
    cluster.wait_all_work();
    cluster.wait_progress(&load.job);

    // The leader is left alone.
    let leader = cluster.leader();
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    for node in others {
        cluster.nodes[node].kill();
    }
    let perhaps = refused(&cluster, leader, "alone");
    for node in others {
        cluster.nodes[node].start_again();
    }
    cluster.wait_whole();
    assert!(perhaps || !cluster.has_table("alone"), "it was told no");
    cluster.wait_progress(&load.job);

    // A follower is left alone.
    let leader = cluster.leader();
    let (follower, others) = ((leader + 1) % 3, [leader, (leader + 2) % 3]);
    for node in others {
        cluster.nodes[node].kill();
    }
    refused(&cluster, follower, "follower");
    tasks_run(&cluster, &endless[0]);
    for node in others {
        cluster.nodes[node].start_again();
    }
    cluster.wait_whole();
    assert!(
        !cluster.has_table("follower"),
        "nobody was there to make it"
    );
    load.finish(&cluster);
}
