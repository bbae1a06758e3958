//! A worker, a state node and the leader are killed in the middle of a job, one after the other.

use tests::{Cluster, JobStatus, Member, minio::Minio};

use super::{load::Load, start, start_over};

/// Kills one process of each tier in turn, and starts it again once the job goes on without it.
fn kill_each(cluster: &mut Cluster, job: &str) {
    cluster.wait_all_work();
    cluster.wait_progress(job);
    cluster.workers[0].kill();
    // An epoch that was staged before may be committed after it: progress alone says nothing. Who tells
    // first, the control plane or a worker whose stream is cut, is open.
    cluster.wait("the worker is missed", || {
        let exceptions = cluster.get(&format!("/v1/jobs/{job}/exceptions"));
        let exceptions = exceptions.map_or_else(String::new, |exceptions| exceptions.to_string());
        ["is gone", "receiving from wk_", "sending to wk_"]
            .iter()
            .any(|told| exceptions.contains(told))
    });
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
    let load = Load::start(cluster, 20, 2);
    kill_each(cluster, &load.job);
    load.finish(cluster);
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

/// Another node leads, and the job goes on as it was. What it is then.
fn runs_on(cluster: &Cluster, before: &JobStatus, job: &str, old: usize) -> JobStatus {
    let mut now = cluster.job(job);
    cluster.wait("another leader commits", || {
        now = cluster.job(job);
        let other = cluster.leader_now() != Some(old);
        other && now.as_ref().is_some_and(|now| now.epoch > before.epoch)
    });
    let now = now.expect("just seen");
    assert_eq!(now.generation, before.generation, "{now:?}");
    now
}

#[test]
fn jobs_run_on_when_leaders_are_killed() {
    let mut cluster = start();
    let load = Load::start(&cluster, 25, 4);
    cluster.wait_all_work();
    let mut before = cluster.wait_progress(&load.job);
    for _ in 0..2 {
        let leader = cluster.leader();
        cluster.nodes[leader].kill();
        before = runs_on(&cluster, &before, &load.job, leader);
        cluster.nodes[leader].start_again();
        cluster.wait_whole();
    }
    // One that is held up is given up later, by each worker when it finds it silent.
    let leader = cluster.leader();
    cluster.nodes[leader].hold();
    before = runs_on(&cluster, &before, &load.job, leader);
    cluster.nodes[leader].release();
    cluster.wait_whole();
    let now = cluster.wait_progress(&load.job);
    assert_eq!(now.generation, before.generation);
    load.finish(&cluster);
}

#[test]
fn without_any_control_plane_workers_stop_by_themselves_and_go_on_when_it_is_back() {
    let mut cluster = start();
    let load = Load::start(&cluster, 12, 4);
    cluster.wait_all_work();
    cluster.wait_progress(&load.job);
    cluster.nodes.iter_mut().for_each(Member::kill);
    cluster.wait("workers stop their tasks", || {
        let mut workers = cluster.workers.iter();
        workers.all(|worker| {
            worker
                .log()
                .contains("no node of the control plane was heard")
        })
    });
    cluster.nodes.iter_mut().for_each(Member::start_again);
    cluster.wait_whole();
    load.finish(&cluster);
}
