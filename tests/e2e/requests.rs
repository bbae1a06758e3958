//! What jobs cost at the object store, over all tiers of a process.

use std::{sync::Arc, time::Duration};

use control_plane::{JobEntry, StatementResult, api::Token};
use millstream::{Durable, DurableConfig, MemoryPlan, OpenedStore, ScratchPlan};
use proto::control::JobOptions;
use state_service::{StoreRequests, object::StoreUrl};
use tokio::time::Instant;

/// What takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(120);

/// Commits after which a shard's rows are flushed.
const FLUSH_EPOCHS: u64 = 64;

async fn start() -> (tempfile::TempDir, Durable) {
    let folder = tempfile::tempdir().expect("a folder");
    let url = StoreUrl::File(folder.path().join("store"));
    let opened = OpenedStore::open(&url).await.expect("opened");
    let config = DurableConfig {
        memory: MemoryPlan::of_all_tiers(1 << 30),
        defaults: JobOptions {
            checkpoint_interval_ms: 50,
            ..JobOptions::default()
        },
        scratch: ScratchPlan::none(),
        token: Token::new("a-secret-of-the-test"),
        address: String::new(),
    };
    let durable = Durable::start(opened, config).await.expect("started");
    (folder, durable)
}

/// The job of a script, which has committed something.
async fn run(durable: &Durable, script: &str) -> Arc<JobEntry> {
    let results = durable.leading.statements.execute(script).await;
    let last = results.expect("accepted").pop();
    let Some(StatementResult::Job(entry)) = last else {
        panic!("the last statement is a job");
    };
    commits(&entry, 1).await;
    entry
}

async fn commits(entry: &JobEntry, count: u64) {
    let until = Instant::now() + PATIENCE;
    while entry.checkpoint_summary().count < count {
        assert!(Instant::now() < until, "{:?}", entry.exceptions());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn requests(durable: &Durable) -> StoreRequests {
    durable.state_node().stats().requests
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_costs_one_object_and_one_without_changes_nothing() {
    let (_folder, durable) = start().await;
    let busy =
        "CREATE TABLE many (k INT) WITH ('connector' = 'datagen', 'rows-per-second' = '2000',
          'fields.k.min' = '1', 'fields.k.max' = '500');
        CREATE TABLE counts (k INT, n BIGINT) WITH ('connector' = 'blackhole');
        SET 'parallelism.default' = '2';
        INSERT INTO counts SELECT k, COUNT(*) FROM many GROUP BY k;";
    let entry = run(&durable, busy).await;
    let (epochs, before) = (entry.checkpoint_summary().count, requests(&durable));
    commits(&entry, epochs + 2 * FLUSH_EPOCHS).await;
    let after = requests(&durable);
    let epochs = entry.checkpoint_summary().count - epochs;
    let puts = after.puts - before.puts;
    // Beside the log, four shards are flushed every 64 epochs, with two to four writes each.
    let flushes = (epochs / FLUSH_EPOCHS + 2) * 4;
    assert!(puts >= epochs, "{puts} writes for {epochs} epochs");
    assert!(
        puts <= epochs + 6 * flushes,
        "{puts} writes for {epochs} epochs, {before:?} to {after:?}"
    );
    durable
        .leading
        .jobs
        .cancel(entry.id)
        .await
        .expect("cancelled");
    entry.ended().await;

    // A row each second, and twenty barriers: those without a row in between write nothing.
    let idle = "CREATE TABLE few (k INT) WITH ('connector' = 'datagen', 'rows-per-second' = '1');
        CREATE TABLE seen (k INT) WITH ('connector' = 'blackhole');
        SET 'parallelism.default' = '1';
        INSERT INTO seen SELECT k FROM few;";
    let _entry = run(&durable, idle).await;
    let (begun, before) = (Instant::now(), requests(&durable));
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (seconds, after) = (begun.elapsed().as_secs(), requests(&durable));
    let puts = after.puts - before.puts;
    assert!(puts <= 2 * (seconds + 2), "{puts} writes in {seconds} s");
    let rest = (after.gets - before.gets, after.lists - before.lists);
    assert!(rest.0 + rest.1 <= 10, "{before:?} to {after:?}");
    durable.stop().await;
}
