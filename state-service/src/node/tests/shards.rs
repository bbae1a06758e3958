//! Shards that are flushed, lost, closed, and come back.

use std::time::Duration;

use futures::future::join_all;
use proto::{
    state_control::{CommittedEpoch, StateOrder, StateReport},
    types::{Epoch, Generation, KeyGroupCount, ShardId},
};
use state_client::{Changes, KeyRequest, ReadRequest, StateControl as _};

use super::world::{
    JOB, SHARD_PUT, SHARDS, TABLE, World, flushed_after, hash, is_unavailable, never_flushed,
    output, rows, rows_in,
};
use crate::{
    NodeLimits,
    pages::{PageStore, PageStoreConfig},
    testing::{Fault, Request},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wherever_a_flush_fails_every_epoch_is_there_once() {
    let faults = [Fault::Before, Fault::After].into_iter();
    let cases = faults.flat_map(|fault| (0..5).map(move |failing| (fault, failing)));
    let failures = join_all(cases.map(|(fault, failing)| flush_that_fails(fault, failing))).await;
    assert!(
        failures.iter().any(|failures| *failures > 0),
        "the faults hit flushes"
    );
}

/// A flush whose requests fail, `failing` after the first; how often the shard failed.
async fn flush_that_fails(fault: Fault, failing: u64) -> usize {
    let mut world = World::new(never_flushed()).await;
    world.setup.page_limits.store_retries_max = 1;
    world.setup.page_limits.deadline = Duration::from_secs(5);
    world.setup.limits = flushed_after(2);
    world.restart().await;
    assert!(world.get(0, 0, 0, 1).await.is_empty());
    // Some requests in a row, then the store is there again.
    let put = Request {
        path: "/shards/0",
        ..SHARD_PUT
    };
    world.faults.fail(put, failing, 8, fault);
    for epoch in 1..6 {
        let value = epoch.to_string();
        let values = [(0, 1, &value[..]), (0, 100 + epoch, "x")];
        world.apply(epoch, rows(epoch, &values)).await;
        assert_eq!(
            world.get(epoch, 0, 0, 1).await,
            [value],
            "{fault:?} {failing}"
        );
    }
    let over = |r: &StateReport| match r {
        StateReport::Durable { shard, epoch, .. } => shard.0 == 0 && epoch.0 >= 2,
        r => matches!(r, StateReport::Failed { .. }),
    };
    world.setup.control.reported(over).await;
    let failed = |r: &&StateReport| matches!(r, StateReport::Failed { .. });
    let failures = world.setup.control.reports().iter().filter(failed).count();
    world.restart().await;
    assert_eq!(world.get(5, 0, 0, 1).await, ["5"]);
    for epoch in 1..6 {
        assert_eq!(
            world.get(5, 0, 0, 100 + epoch).await,
            ["x"],
            "{fault:?} {failing}"
        );
    }
    failures
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_keeps_the_window_that_closes_while_it_uploads() {
    let mut world = World::new(flushed_after(1)).await;
    assert!(world.get(0, 0, 0, 1).await.is_empty());
    // The upload of epoch 1 is slow; the window closes meanwhile.
    world
        .faults
        .fail(SHARD_PUT, 0, 1, Fault::Delay(Duration::from_millis(300)));
    world.apply(1, rows_in(1, 10, &[(0, 1, "window")])).await;
    let group = KeyGroupCount::DEFAULT.of_hash(hash(0, 1));
    let closing = Changes {
        low_water_marks: vec![(TABLE, group, 11)],
        ..Changes::default()
    };
    world.setup.limits = never_flushed();
    assert_eq!(world.get(1, 10, 0, 1).await, ["window"]);
    while world.load(0) > 0 {
        tokio::task::yield_now().await;
    }
    world.stage(world.delta(2, 0, 1, closing)).await;
    world.commit(2).await;
    assert!(world.get(2, 10, 0, 1).await.is_empty());
    world.durable(0, 1).await;
    world.setup.control.disconnect();
    world.node.stop().await;
    // What the shard has as of epoch 1, without the log.
    let config = PageStoreConfig {
        path: "state/jobs/3/shards/0".to_owned(),
        store: world.store.clone(),
        key_groups: KeyGroupCount::DEFAULT,
        range: KeyGroupCount::DEFAULT.range(0, SHARDS),
        block_cache: None,
        page_cache: None,
        seed: 1,
        clock: None,
        runtime: tokio::runtime::Handle::current(),
        limits: world.setup.page_limits.clone(),
    };
    let copy = PageStoreConfig {
        path: "copy".to_owned(),
        ..config.clone()
    };
    PageStore::clone_from(&copy, &config.path, Epoch(1))
        .await
        .expect("a checkpoint of epoch 1");
    let opened = PageStore::open(copy, |_| async { Ok(()) }).await;
    let (pages, opened) = opened.expect("opened");
    assert_eq!(opened.durable, Epoch(1));
    let key = KeyRequest {
        table: TABLE,
        namespace: 10,
        hash: hash(0, 1),
        sub: None,
    };
    let found = pages.read(&[key]).await.expect("read");
    assert_eq!(found[0].len(), 1, "the window is open at epoch 1");
    pages.close().await.expect("closed");
    world.node = world.setup.start();
    assert!(world.get(2, 10, 0, 1).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_count_that_changes_in_two_epochs_is_the_newer_one() {
    let mut world = World::new(never_flushed()).await;
    world.apply(1, rows(1, &[(0, 1, "1")])).await;
    world.apply(2, rows(2, &[(0, 1, "2")])).await;
    assert_eq!(world.get(2, 0, 0, 1).await, ["2"]);
    world.setup.limits = flushed_after(1);
    world.restart().await;
    assert_eq!(world.get(2, 0, 0, 1).await, ["2"]);
    world.durable(0, 2).await;
    world.restart().await;
    assert_eq!(world.get(2, 0, 0, 1).await, ["2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flushes_that_fail_are_told_as_trouble_of_the_store() {
    let mut world = World::new(flushed_after(1)).await;
    assert!(world.get(0, 0, 0, 1).await.is_empty());
    world.faults.fail(SHARD_PUT, 0, u64::MAX, Fault::Before);
    world.apply(1, rows(1, &[(0, 1, "1")])).await;
    let why = Some("memory: injected before the request".to_owned());
    let degraded = StateReport::Degraded { why };
    let control = world.setup.control.clone();
    control.reported(|report| *report == degraded).await;
    world.faults.heal();
    let well = StateReport::Degraded { why: None };
    control.reported(|report| *report == well).await;
    world.durable(0, 1).await;
    assert_eq!(world.get(1, 0, 0, 1).await, ["1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_a_shard_cannot_flush_it() {
    let mut world = World::new(flushed_after(2)).await;
    world.apply(1, rows(1, &[(0, 1, "1")])).await;
    assert_eq!(world.get(1, 0, 0, 1).await, ["1"]);
    let zombie = world.node.clone();
    // The next owner opens while the first still believes that it is the owner.
    world.node = world.setup.start();
    world.apply(2, rows(2, &[(0, 1, "2")])).await;
    assert_eq!(world.get(2, 0, 0, 1).await, ["2"]);
    world.durable(0, 1).await;
    // The zombie hears late of a commit, and flushes.
    zombie.order(StateOrder::Committed {
        job: JOB,
        generation: Generation(1),
        previous: Epoch(1),
        committed: CommittedEpoch {
            epoch: Epoch(2),
            objects: Vec::new(),
        },
        traceparent: None,
    });
    let key = KeyRequest {
        table: TABLE,
        namespace: 0,
        hash: hash(0, 1),
        sub: None,
    };
    let request = ReadRequest {
        min_epoch: Epoch::ZERO,
        keys: vec![key],
    };
    // Until it notices it answers from before: nobody who knows of epoch 2 accepts that.
    while zombie.read(world.who, ShardId(0), &request).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.get(2, 0, 0, 1).await, ["2"]);
    zombie.stop().await;
    world.restart().await;
    assert_eq!(world.get(2, 0, 0, 1).await, ["2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_comes_back_to_a_node_is_read_anew() {
    let mut world = World::new(never_flushed()).await;
    world.apply(1, rows(1, &[(0, 1, "1")])).await;
    assert_eq!(world.get(1, 0, 0, 1).await, ["1"]);
    // Nobody hears of the first node, and it hears of nothing: its shards move to the second.
    let first = world.node.clone();
    world.setup.limits = flushed_after(1);
    world.node = world.setup.start();
    world.apply(2, rows(2, &[(0, 1, "2")])).await;
    world.durable(0, 2).await;
    // The second dies. The control plane has forgotten who had the shards before.
    world.setup.control.disconnect();
    world.node.stop().await;
    let reports = first.shared.context.reports.receiver();
    world.setup.control.connect(&first, reports);
    world.node = first;
    assert_eq!(world.get(2, 0, 0, 1).await, ["2"]);
    // What it has open since is not opened again for an order that is only repeated.
    world.setup.control.open(JOB);
    world.apply(3, rows(3, &[(0, 1, "3")])).await;
    assert_eq!(world.get(3, 0, 0, 1).await, ["3"]);
    world.restart().await;
    assert_eq!(world.get(3, 0, 0, 1).await, ["3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_is_not_the_nodes_is_not_opened() {
    let mut world = World::new(never_flushed()).await;
    world.setup.control.set_disowned(true);
    world.restart().await;
    let lost = |r: &StateReport| {
        matches!(
            r,
            StateReport::Failed {
                retryable: false,
                ..
            }
        )
    };
    world.setup.control.reported(lost).await;
    world.setup.control.set_disowned(false);
    world.setup.control.open(JOB);
    assert!(world.get(0, 0, 0, 1).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_dropped_job_no_file_is_left() {
    let mut world = World::new(flushed_after(1)).await;
    for epoch in 1..4 {
        let changes = Changes {
            staged: output("out").staged,
            ..rows(epoch, &[(0, 1, "value")])
        };
        world.apply(epoch, changes).await;
    }
    world.durable(0, 1).await;
    assert!(!world.files("").await.is_empty());
    world.setup.control.drop_job(JOB).await.expect("dropped");
    let dropped = |r: &StateReport| *r == StateReport::Dropped { job: JOB };
    world.setup.control.reported(dropped).await;
    assert_eq!(world.files("").await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_that_were_lost_unheard_are_closed_by_the_next_sweep() {
    let mut world = World::new(never_flushed()).await;
    world.apply(1, rows(1, &[(0, 1, "1")])).await;
    assert_eq!(world.get(1, 0, 0, 1).await, ["1"]);
    let node = world.node.shared.clone();
    let job = node.known_job(JOB).expect("open");
    node.close_foreign(&job).await.expect("an answer");
    assert_eq!(
        job.look_shards().len(),
        SHARDS as usize,
        "its own stay open"
    );
    // An order that comes while the control plane is being asked is newer than the answer.
    let shards = job.look_shards();
    let asked: Vec<u64> = shards.iter().map(|shard| shard.orders()).collect();
    world.setup.control.open(JOB);
    for (shard, orders) in shards.iter().zip(asked) {
        node.close_unless_ordered(&job, shard, orders);
    }
    assert_eq!(job.look_shards().len(), SHARDS as usize);
    // The job is dropped while the node hears of nothing.
    world.setup.control.disconnect();
    let dropped = world.setup.control.drop_job(JOB).await;
    dropped.expect("dropped");
    node.close_foreign(&job).await.expect("an answer");
    for shard in shards {
        shard.ended().await;
    }
    assert!(node.all_jobs().is_empty());
    assert_eq!(world.node.stats().shards, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_shard_is_not_served() {
    let limits = NodeLimits {
        request_wait: Duration::from_millis(50),
        ..never_flushed()
    };
    let world = World::new(limits).await;
    world
        .setup
        .control
        .reported(|r| {
            matches!(
                r,
                StateReport::Opened {
                    shard: ShardId(1),
                    ..
                }
            )
        })
        .await;
    assert!(world.get(0, 0, 1, 1).await.is_empty());
    let (job, shard) = (JOB, ShardId(1));
    world.setup.control.order(StateOrder::Close { job, shard });
    assert!(is_unavailable(world.try_get(world.who, 0, 0, 1, 1).await));
    world.setup.control.open(JOB);
    let opened = world
        .setup
        .control
        .reported(|r| matches!(r, StateReport::Opened { .. }));
    opened.await;
    while is_unavailable(world.try_get(world.who, 0, 0, 1, 1).await) {}
}
