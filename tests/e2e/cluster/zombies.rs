//! Processes that stop in the middle of what they do, are given up, and go on as if nothing had
//! happened.

use std::thread;

use tests::Cluster;

use super::{load::Load, start};

/// A worker: its tasks run elsewhere before it goes on, and it goes on where it was.
fn hold_worker(cluster: &mut Cluster, job: &str) {
    let before = cluster.wait_progress(job);
    cluster.workers[0].hold();
    cluster.wait("the worker's tasks run elsewhere", || {
        let tasks = cluster.worker_tasks().unwrap_or_default();
        let elsewhere = tasks.len() == 1 && tasks[0].1 > 0;
        elsewhere
            && cluster
                .job(job)
                .is_some_and(|job| job.generation > before.generation)
    });
    cluster.wait_progress(job);
    cluster.workers[0].release();
    cluster.wait_whole();
    cluster.wait_progress(job);
}

/// A state node: its shards are served by the other one.
fn hold_state_node(cluster: &mut Cluster, job: &str) {
    let busy = cluster.busy_state_node();
    cluster.state_nodes[busy].hold();
    cluster.wait("its shards move", || {
        let shards = cluster.state_node_shards().unwrap_or_default();
        !shards.contains_key(&busy) && shards.values().any(|shards| *shards > 0)
    });
    cluster.wait_progress(job);
    cluster.state_nodes[busy].release();
    cluster.wait_whole();
    cluster.wait_progress(job);
}

/// The leader: another is elected, and the old one follows it when it comes back. What somebody
/// asked it meanwhile it does not answer as a leader.
fn hold_leader(cluster: &mut Cluster, job: &str) {
    let old = cluster.leader();
    let url = cluster.url(old).expect("it is up");
    cluster.nodes[old].hold();
    let sql = "CREATE TABLE late (n INT) WITH ('connector' = 'blackhole')";
    let answer = thread::scope(|scope| {
        let asked = scope.spawn(|| Cluster::execute_at_url(&url, sql));
        cluster.wait_progress(job);
        assert_ne!(cluster.leader(), old);
        cluster.nodes[old].release();
        asked.join().expect("no panic")
    });
    cluster.wait_nodes();
    cluster.wait_whole();
    match answer {
        Ok((201, _)) => assert!(cluster.has_table("late"), "it was acknowledged"),
        Ok((503, body)) if body.contains("may have happened") => {}
        Ok((503, body)) => assert!(!cluster.has_table("late"), "{body}"),
        Ok((status, body)) => panic!("{status} {body}"),
        // Too late for the client, which knows nothing then.
        Err(_) => {}
    }
    cluster.wait_progress(job);
}

#[test]
fn processes_that_come_back_from_a_long_pause_change_nothing() {
    let mut cluster = start();
    let load = Load::start(&cluster, 20, 4);
    cluster.wait_all_work();
    hold_worker(&mut cluster, &load.job);
    hold_state_node(&mut cluster, &load.job);
    hold_leader(&mut cluster, &load.job);
    load.finish(&cluster);
}
