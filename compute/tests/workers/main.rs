//! Jobs whose tasks run on several workers: they give what they give on one, also when a stream
//! between workers is cut on the way, or the routing changes.

mod cluster;
mod overtaking;
mod recovery;
mod rescale;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering,
};

use proto::{
    control::{Retry, WorkerCommand, WorkerEventKind},
    types::{Epoch, WorkerId},
};

use cluster::{Cluster, Events, JOB, Job, PATIENCE, QUICK, Rows, SLOW, listen};
use tokio::time::timeout;

/// All that crosses an exchange differently: rows that only come, rows that are taken back, time.
const QUERIES: [(&str, &str); 3] = [
    (
        "keyed aggregation",
        "SELECT auction, COUNT(*) AS bids, MAX(price) AS top FROM bid GROUP BY auction",
    ),
    (
        "aggregation of an aggregation",
        "SELECT bids, COUNT(*) AS auctions FROM \
         (SELECT auction, COUNT(*) AS bids FROM bid GROUP BY auction) GROUP BY bids",
    ),
    (
        "windows and a join",
        "SELECT w.auction, w.bids, b.bidder FROM \
         (SELECT auction, window_end, COUNT(*) AS bids FROM \
          TABLE(TUMBLE(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '2' SECOND)) \
          GROUP BY auction, window_start, window_end) AS w \
         JOIN bid AS b ON w.auction = b.auction AND b.price > 5000000",
    ),
];

/// A query whose keys come back again and again, with thousands of others in between.
const RECURRING: &str = "SELECT MOD(auction, 3000) AS a, COUNT(*) AS bids, MAX(price) AS top \
     FROM bid GROUP BY MOD(auction, 3000)";

/// So many that their state is far more than what tasks hold without any.
const MANY_KEYS: Events = Events {
    count: 150_000,
    rate: 15_000,
    paced: false,
};

async fn result(
    query: &str,
    events: Events,
    workers: u64,
    parallelism: u32,
    window: usize,
) -> Rows {
    measured(query, events, workers, parallelism, window)
        .await
        .0
}

/// The result, and bytes of state that there were at most.
async fn measured(
    query: &str,
    events: Events,
    workers: u64,
    parallelism: u32,
    window: usize,
) -> (Rows, u64) {
    // Small batches, so that a stream has many of them.
    let job = Job::new(query, events, parallelism, 256);
    let mut cluster = Cluster::start(workers, window).await;
    let mut run = cluster.begin(1, &job).await;
    let ran = cluster.run(&mut run, &job, u64::MAX).await;
    ran.expect("a run");
    (cluster.rows(), cluster.seen.held)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_on_several_workers_gives_what_it_gives_on_one() {
    for (name, query) in QUERIES {
        let expected = result(query, QUICK, 1, 2, 1 << 20).await;
        assert!(expected.len() > 10, "{name}: {expected:?}");
        for (workers, parallelism, window) in [(2, 2, 1 << 20), (2, 4, 1), (3, 3, 5000)] {
            let rows = result(query, QUICK, workers, parallelism, window).await;
            assert!(rows == expected, "{name} on {workers} workers");
        }
    }
}

/// More is held than there may be at any time, of which nothing can go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_goes_on_though_there_is_no_room_for_any_of_its_state() {
    for (name, query) in QUERIES {
        let expected = result(query, QUICK, 1, 2, 1 << 20).await;
        let job = Job::new(query, QUICK, 2, 256);
        let mut cluster = Cluster::start_with(2, 1 << 20, Some(1)).await;
        let mut run = cluster.begin(1, &job).await;
        let ran = timeout(PATIENCE, cluster.run(&mut run, &job, u64::MAX)).await;
        ran.unwrap_or_else(|_| panic!("{name}: no end"))
            .expect("a run");
        assert!(cluster.rows() == expected, "{name}");
    }
}

/// A fault of the program in what a deployment builds is said, and a worker is as good as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_that_panics_fails_and_the_next_one_runs() {
    let (_, query) = QUERIES[1];
    let expected = result(query, QUICK, 1, 2, 1 << 20).await;
    let job = Job::new(query, QUICK, 2, 256);
    let mut cluster = Cluster::start(2, 1 << 20).await;
    cluster.collected.panics.store(true, Ordering::Relaxed);
    let mut run = cluster.begin(1, &job).await;
    let ran = timeout(PATIENCE, cluster.run(&mut run, &job, u64::MAX)).await;
    let error = ran.expect("it is said").expect_err("it fails");
    assert_eq!(error, "a panic: no sink is made");
    cluster.collected.panics.store(false, Ordering::Relaxed);
    let mut run = cluster.begin(2, &job).await;
    cluster.run(&mut run, &job, u64::MAX).await.expect("a run");
    assert!(cluster.rows() == expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_whose_stream_is_cut_goes_on_from_its_checkpoint() {
    let (_, query) = QUERIES[1];
    let expected = result(query, SLOW.at_once(), 1, 2, 1 << 20).await;
    let job = Job::new(query, SLOW, 2, 64);
    let mut cluster = Cluster::start(2, 5000).await;
    let mut run = cluster.begin(1, &job).await;
    cluster.run(&mut run, &job, 2).await.unwrap();
    // Streams to the second worker are cut; its own to the first live on.
    cluster.members[1].serving.abort();
    let mut failed = BTreeMap::new();
    while failed.len() < 2 {
        if let (worker, WorkerEventKind::Failed { error, retry, .. }) =
            cluster.event(run.who.generation).await
        {
            assert_eq!(retry, Retry::Always, "{error}");
            failed.insert(worker, error);
        }
    }
    assert!(
        failed[&WorkerId(1)].contains("sending to wk_2"),
        "{failed:?}"
    );
    assert!(
        failed[&WorkerId(2)].contains("receiving from wk_1"),
        "{failed:?}"
    );

    let server = cluster.members[1].server.clone();
    let (address, serving) = listen(&server).await;
    cluster.members[1].address = address;
    cluster.members[1].serving = serving;
    let mut run = cluster.begin(2, &job).await;
    assert_ne!(run.restored, Epoch::ZERO);
    cluster.run(&mut run, &job, u64::MAX).await.unwrap();
    assert!(cluster.rows() == expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_waits_for_no_other_worker() {
    let job = Job::new(QUERIES[0].1, SLOW, 2, 64);
    let mut cluster = Cluster::start(2, 5000).await;
    // Nobody answers there: streams to it are being tried again and again.
    cluster.members[1].address = "127.0.0.1:1".to_owned();
    let run = cluster.begin(1, &job).await;
    cluster.tell_all(|| WorkerCommand::Stop { job: JOB }).await;
    let mut stopped = BTreeSet::new();
    while stopped.len() < 2 {
        let (worker, kind) = cluster.event(run.who.generation).await;
        if matches!(kind, WorkerEventKind::Stopped) {
            stopped.insert(worker);
        }
    }
}

/// A table that is looked up in a pipe into which nobody writes.
#[test]
fn a_job_that_hangs_as_it_starts_is_stopped_all_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("side.csv");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo").success());
    let query = format!(
        "CREATE TABLE side (k BIGINT, name STRING)
         WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv');
         SELECT b.auction, s.name FROM (SELECT auction, PROCTIME() AS p FROM bid) AS b
         JOIN side FOR SYSTEM_TIME AS OF b.p AS s ON b.auction = s.k",
        pipe.display()
    );
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let job = Job::new(&query, QUICK, 2, 64);
        let mut cluster = Cluster::start(2, 5000).await;
        // The second generation begins although the first one hangs, and ends although it hangs too.
        cluster.begin(1, &job).await;
        cluster.begin(2, &job).await;
        cluster.tell_all(|| WorkerCommand::Stop { job: JOB }).await;
        let mut stopped = BTreeSet::new();
        while stopped.len() < 2 {
            match cluster.any_event().await {
                (worker, WorkerEventKind::Stopped) => {
                    stopped.insert(worker);
                }
                (worker, WorkerEventKind::Failed { error, .. }) => panic!("{worker}: {error}"),
                _ => {}
            }
        }
    });
    // Who reads the pipe never comes back.
    runtime.shutdown_background();
}
