//! A worker, a state node and the leader are killed in the middle of a job, one after the other.

use tests::{Cluster, minio::Minio};

use super::{load, start, start_over};

/// Kills one process of each tier in turn, and starts it again once the job goes on without it.
fn kill_each(cluster: &mut Cluster, job: &str) {
    cluster.wait_all_work();
    cluster.wait_progress(job);
    cluster.workers[0].kill();
    cluster.wait_progress(job);
    cluster.workers[0].start_again();
    cluster.wait_whole();

    let busy = cluster.busy_state_node();
    cluster.state_nodes[busy].kill();
    cluster.wait_progress(job);
    cluster.state_nodes[busy].start_again();
    cluster.wait_whole();

    let leader = cluster.leader();
    cluster.nodes[leader].kill();
    cluster.wait_progress(job);
    assert_ne!(cluster.leader(), leader);
    cluster.nodes[leader].start_again();
    cluster.wait_whole();
    cluster.wait_progress(job);
}

fn kill_under_load(cluster: &mut Cluster) {
    let output = cluster.folder().join("output");
    let jobs = cluster.execute(&load::statements(&output, 2));
    kill_each(cluster, &jobs[0]);
    cluster.wait_state(&jobs[0], "FINISHED");
    load::check(&output);
}

#[test]
fn kills_of_every_tier_lose_nothing_and_double_nothing() {
    let mut cluster = start();
    kill_under_load(&mut cluster);
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_of_every_tier_lose_nothing_and_double_nothing_on_s3() {
    let minio = Minio::start();
    minio.make_bucket("bucket").await;
    let variables = minio
        .variables()
        .map(|(name, value)| (name.to_owned(), value));
    let store = "s3://bucket/cluster".to_owned();
    let killed = tokio::task::spawn_blocking(move || {
        let mut cluster = start_over(Some(store), variables.to_vec());
        kill_under_load(&mut cluster);
    });
    killed.await.expect("no panic");
}
