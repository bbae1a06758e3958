//! Workers that the control plane starts itself, as jobs need them.

use tests::{Cluster, ClusterConfig};

use super::config;

const OPTIONS: [&str; 9] = [
    "--capacity-process",
    "--worker-slots",
    "1",
    "--workers-min",
    "0",
    "--workers-max",
    "4",
    "--workers-removal-delay",
    "1s",
];

#[test]
fn workers_come_and_go_with_the_jobs_that_need_them() {
    let cluster = Cluster::start(&ClusterConfig {
        nodes: 1,
        per_tier: 1,
        node_arguments: OPTIONS.map(str::to_owned).to_vec(),
        ..config()
    });
    let workers = || cluster.worker_tasks().map(|workers| workers.len());
    let jobs = cluster.execute(
        "CREATE TABLE t (a INT) WITH ('connector' = 'datagen', 'rows-per-second' = '100');
         CREATE TABLE nowhere (a INT) WITH ('connector' = 'blackhole');
         SET 'parallelism.default' = '2';
         INSERT INTO nowhere SELECT a FROM t;",
    );
    let job = jobs.last().expect("a job");
    cluster.wait(
        "two workers are started beside the one that is there",
        || workers() == Some(3),
    );
    cluster.wait_state(job, "RUNNING");
    let shown = cluster.client(&["workers"]).expect("a list");
    let why = "2 wanted of provider `process`: 1 job wants 2 slots, a worker has 1: 2 workers";
    assert!(shown.contains(why), "{shown}");
    cluster.client(&["jobs", "cancel", job]).expect("taken");
    cluster.wait_state(job, "CANCELED");
    cluster.wait("they have left again", || workers() == Some(1));
}
