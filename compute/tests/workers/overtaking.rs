//! Barriers overtake what is queued between workers, and generations begin with that.

use proto::{control::WorkerCommand, types::WorkerId};

use super::{
    QUERIES,
    cluster::{Cluster, Events, JOB, Job, Rows},
    result,
};

/// More than is read while the first epochs end.
const MANY: Events = Events {
    count: 60_000,
    rate: 5_000,
    paced: false,
};

/// How often it is tried whether a barrier overtakes anything.
const ATTEMPTS_MAX: usize = 8;

/// Runs generations of a few epochs each, in which every barrier overtakes at once, and the last one to
/// the end: the result, and how many began with what a barrier had overtaken.
async fn interrupted(query: &str, workers: u64, window_bytes: usize) -> (Rows, usize) {
    let mut job = Job::new(query, MANY, 3, 64);
    job.options.alignment_timeout_ms = Some(0);
    let mut cluster = Cluster::start(workers, window_bytes).await;
    let mut replays = 0;
    for generation in 1..=6 {
        let mut run = cluster.begin(generation, &job).await;
        replays += usize::from(run.has_overtaken);
        cluster.run(&mut run, &job, 2).await.expect("two epochs");
        for member in &cluster.members {
            // Some workers keep what their tasks hold, others lose it.
            let command = match member.id == WorkerId(1 + generation % 2) {
                true => WorkerCommand::Suspend { job: JOB },
                false => WorkerCommand::Stop { job: JOB },
            };
            assert!(member.handle.send(command).await);
        }
    }
    let mut run = cluster.begin(7, &job).await;
    cluster.run(&mut run, &job, u64::MAX).await.expect("a run");
    (cluster.rows(), replays)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_overtaken_between_workers_counts_once_after_a_crash() {
    for (name, query) in QUERIES {
        let expected = result(query, MANY, 1, 2, 1 << 20).await;
        // Whether anything is queued when a barrier comes is chance: seldom nothing ever is.
        let mut replays = 0;
        for _ in 0..ATTEMPTS_MAX {
            for (workers, window_bytes) in [(2, 1), (1, 1 << 20), (2, 20_000)] {
                let (rows, replayed) = interrupted(query, workers, window_bytes).await;
                assert!(rows == expected, "{name} on {workers} workers");
                replays += replayed;
            }
            if replays > 0 {
                break;
            }
        }
        assert!(replays > 0, "{name}: nothing was ever overtaken");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_barrier_that_must_be_aligned_overtakes_nothing() {
    let mut job = Job::new(QUERIES[0].1, MANY, 3, 64);
    job.options.alignment_timeout_ms = None;
    let mut cluster = Cluster::start(2, 1).await;
    let mut run = cluster.begin(1, &job).await;
    cluster.run(&mut run, &job, u64::MAX).await.expect("a run");
    assert!(cluster.overtaken.len() > 1);
    assert!(cluster.overtaken.values().all(|bytes| *bytes == 0));
}
