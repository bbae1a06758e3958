//! An object store that is out of reach for a while: jobs fall behind, and neither fail nor lose.

use std::{sync::Arc, time::Duration};

use control_plane::{JobEntry, StatementResult, api::Token};
use coordinator::JobState;
use millstream::{Durable, DurableConfig, MemoryPlan, OpenedStore, ScratchPlan};
use proto::control::JobOptions;
use state_service::{
    object::{StoreUrl, open},
    testing::FaultStore,
};
use tokio::time::{Instant, timeout};

/// A test that takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(120);

/// As long as the store is down: several attempts of everything, more than a hundred intervals.
const OUTAGE: Duration = Duration::from_secs(12);

async fn commits(entry: &JobEntry, more: u64) {
    let until = Instant::now() + PATIENCE;
    let target = entry.checkpoint_summary().count + more;
    while entry.checkpoint_summary().count < target {
        assert!(Instant::now() < until, "{:?}", entry.exceptions());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What holds the job up; empty: nothing.
async fn trouble(durable: &Durable, entry: &JobEntry) -> String {
    let status = durable.leading.tier.status().await.expect("it leads");
    let nodes = status.nodes.into_iter().filter_map(|node| node.degraded);
    let of_job = status.degraded.get(&entry.id).cloned();
    of_job.into_iter().chain(nodes).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_falls_behind_while_the_store_is_down_and_neither_fails_nor_loses() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = open(&StoreUrl::File(folder.path().join("data"))).expect("open");
    let faults = FaultStore::new(Arc::clone(&directory.store));
    let store = directory.with_store(Arc::new(faults.clone()));
    let config = DurableConfig {
        memory: MemoryPlan::of_all_tiers(1 << 30),
        defaults: JobOptions {
            checkpoint_interval_ms: 100,
            ..JobOptions::default()
        },
        scratch: ScratchPlan::none(),
        token: Token::new("a-secret-of-the-test"),
        address: String::new(),
    };
    let opened = OpenedStore::of(store).await.expect("opened");
    let durable = Durable::start(opened, config).await.expect("started");
    let output = folder.path().join("output");
    let script = format!(
        "CREATE TABLE numbers (id BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '2000',
           'fields.id.kind' = 'sequence', 'fields.id.start' = '0', 'fields.id.end' = '49999');
         CREATE TABLE copies (id BIGINT, k BIGINT) WITH ('connector' = 'filesystem',
           'path' = '{}', 'format' = 'csv');
         SET 'parallelism.default' = '2';
         INSERT INTO copies SELECT DISTINCT id, id % 7 FROM numbers;",
        output.display()
    );
    let results = durable.leading.statements.execute(&script).await;
    let Some(StatementResult::Job(entry)) = results.expect("accepted").pop() else {
        panic!("the last statement is a job");
    };
    commits(&entry, 3).await;
    let generation = entry.generation();

    faults.set_down(true);
    let down = Instant::now();
    while trouble(&durable, &entry).await.is_empty() {
        assert!(
            down.elapsed() < OUTAGE,
            "nobody says that the store is down"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep_until(down + OUTAGE).await;
    assert_eq!(entry.state(), JobState::Running, "{:?}", entry.exceptions());
    faults.set_down(false);

    commits(&entry, 3).await;
    let healed = Instant::now();
    while !trouble(&durable, &entry).await.is_empty() {
        assert!(healed.elapsed() < PATIENCE, "it is well again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let ended = timeout(PATIENCE, entry.ended()).await;
    assert_eq!(ended, Ok(JobState::Finished));
    assert_eq!(entry.generation(), generation, "{:?}", entry.exceptions());
    let mut ids: Vec<i64> = Vec::new();
    for file in std::fs::read_dir(&output).expect("files").flatten() {
        let text = std::fs::read_to_string(file.path()).expect("text");
        let id = |line: &str| line.split(',').next().and_then(|id| id.parse::<i64>().ok());
        ids.extend(text.lines().map(|line| id(line).expect("a number")));
    }
    ids.sort_unstable();
    assert!(
        ids == (0..50_000_i64).collect::<Vec<_>>(),
        "{} rows",
        ids.len()
    );
    durable.stop().await;
}
