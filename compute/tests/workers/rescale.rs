//! The routing changes while a job runs: nothing is lost, nothing counts twice.

use super::{
    MANY_KEYS, QUERIES, RECURRING,
    cluster::{Cluster, Events, Job, Rows, SLOW},
    measured, result,
};

/// A change of the routing: parallelism and workers.
type Change = (u32, &'static [u64]);

const WORKERS: u64 = 3;

/// Read from several splits, in four seconds: long enough for many epochs on a busy machine too.
const MANY: Events = Events {
    count: 400_000,
    rate: 100_000,
    paced: true,
};

async fn rescaled(query: &str, events: Events, parallelism: u32, changes: &[Change]) -> Rows {
    changed(query, events, parallelism, changes, false).await
}

/// `waits`: between a change's preparation and its barrier comes another one.
async fn changed(
    query: &str,
    events: Events,
    parallelism: u32,
    changes: &[Change],
    waits: bool,
) -> Rows {
    let mut cluster = Cluster::start(WORKERS, 1 << 16).await;
    change(&mut cluster, query, events, parallelism, changes, waits).await
}

async fn change(
    cluster: &mut Cluster,
    query: &str,
    events: Events,
    parallelism: u32,
    changes: &[Change],
    waits: bool,
) -> Rows {
    let job = Job::new(query, events, parallelism, 64);
    let mut run = cluster.begin(1, &job).await;
    run.waits = waits;
    let ran = cluster.run_rescaled(&mut run, &job, u64::MAX, changes);
    ran.await.expect("a run");
    let made = run.routing.version as usize;
    assert_eq!(made, changes.len(), "all changes were made");
    cluster.rows()
}

const CHANGES: [(u32, &[Change]); 3] = [
    (1, &[(4, &[1, 2, 3]), (2, &[1, 2, 3]), (3, &[1, 2, 3])]),
    (
        4,
        &[(1, &[1, 2, 3]), (3, &[2, 3]), (8, &[1, 2, 3]), (2, &[1])],
    ),
    // The same tasks on other workers.
    (2, &[(2, &[1]), (2, &[2, 3]), (2, &[1, 3])]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_rescaled_on_the_way_gives_what_it_gives_undisturbed() {
    for (name, query) in QUERIES {
        for events in [SLOW, MANY] {
            let expected = result(query, events.at_once(), 1, 2, 1 << 20).await;
            for (parallelism, changes) in CHANGES {
                let rows = rescaled(query, events, parallelism, changes).await;
                assert!(rows == expected, "{name} from {parallelism} by {changes:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn barriers_before_its_own_do_not_concern_a_worker_that_is_made_ready() {
    let (name, query) = QUERIES[0];
    let expected = result(query, MANY.at_once(), 1, 2, 1 << 20).await;
    // The third worker has nothing in the second routing, and hears its barriers while it is made ready
    // for the third.
    let changes: &[Change] = &[(2, &[1, 2]), (3, &[1, 2]), (3, &[1, 2, 3])];
    let rows = changed(query, MANY, 2, changes, true).await;
    assert!(rows == expected, "{name} by {changes:?}");
}

/// A task that loses or gets key groups has some of their keys in memory, some in scratch files, and of some it
/// knows only that they are in the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_rescaled_with_memory_for_a_fifth_of_its_state() {
    let queries = QUERIES.into_iter().chain([("recurring keys", RECURRING)]);
    for (name, query) in queries {
        let (expected, state) = measured(query, MANY_KEYS, 1, 2, 1 << 20).await;
        let memory = state / 5 / WORKERS;
        for (parallelism, changes) in CHANGES {
            let mut cluster = Cluster::start_with(WORKERS, 1 << 16, Some(memory)).await;
            let changed = change(&mut cluster, query, MANY_KEYS, parallelism, changes, false);
            let rows = changed.await;
            let what = format!("{name} from {parallelism} by {changes:?}, {memory} of {state}");
            assert!(rows == expected, "{what}");
            let (evicted, looked_for) = (cluster.seen.evicted, cluster.seen.looked_for);
            assert!(evicted > 100, "{what}: {evicted} keys went");
            let come_back = query != RECURRING || looked_for > 100;
            assert!(come_back, "{what}: {looked_for} keys came back");
        }
    }
}
