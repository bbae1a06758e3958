//! What is staged and logged: read again, counted once, trimmed, and nothing else.

use std::time::Duration;

use futures::{FutureExt as _, future::join_all};
use object_store::{ObjectStoreExt as _, path::Path};
use proto::{
    log::{LogHolding, LogObject},
    state_control::{CommittedEpoch, StateOrder, StateReport},
    types::{Epoch, Generation},
};
use state_client::{Changes, Incarnation, OutputRequest, StateControl as _, StateError};

use super::world::{
    JOB, LOG_GET, LOG_OUT, LOG_ROWS, SHARD_PUT, SHARDS, SINK, World, flushed_after, is_fenced,
    is_unavailable, never_flushed, output, rows,
};
use crate::{
    ControlView as _, NodeLimits,
    caps::{LINGER_LITTLE, LITTLE_BYTES},
    testing::Fault,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_generation_never_meets_what_an_older_one_wrote() {
    let mut world = World::new(never_flushed()).await;
    world
        .stage(world.delta(17, 0, 1, rows(17, &[(0, 1, "old")])))
        .await;
    let old = world.files(".rows").await;
    assert_eq!(old.len(), 1);
    assert_eq!(world.begin(2).await, Epoch::ZERO);
    // Even if it came to the same number of an epoch.
    world.apply(17, rows(17, &[(0, 2, "new")])).await;
    assert!(world.get(17, 0, 0, 1).await.is_empty());
    assert_eq!(world.get(17, 0, 0, 2).await, ["new"]);
    assert!(
        world.files(".rows").await.contains(&old[0]),
        "it was not written over"
    );
    assert_eq!(world.node.sweep(JOB).await, Ok(1));
    assert!(!world.files(".rows").await.contains(&old[0]));
    world.restart().await;
    assert!(world.get(17, 0, 0, 1).await.is_empty());
    assert_eq!(world.get(17, 0, 0, 2).await, ["new"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_section_that_a_dead_node_wrote_is_read_before_its_epoch_is_answered() {
    let mut world = World::new(never_flushed()).await;
    world
        .stage(world.delta(1, 0, 2, rows(1, &[(0, 1, "first"), (3, 1, "first")])))
        .await;
    world.restart().await;
    // Only the task that was not answered stages with the next node.
    world
        .stage(world.delta(1, 1, 2, rows(1, &[(0, 2, "second")])))
        .await;
    assert_eq!(world.staged[&Epoch(1)].len(), 2);
    world.commit(1).await;
    assert_eq!(world.get(1, 0, 0, 1).await, ["first"]);
    assert_eq!(world.get(1, 0, 0, 2).await, ["second"]);
    assert_eq!(world.get(1, 0, 3, 1).await, ["first"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_staged_twice_is_taken_once() {
    let mut world = World::new(never_flushed()).await;
    let both = |world: &World| {
        let changes = Changes {
            staged: output("out").staged,
            ..rows(1, &[(0, 1, "value")])
        };
        world.delta(1, 0, 1, changes)
    };
    world.stage(both(&world)).await;
    world.restart().await;
    world.stage(both(&world)).await;
    // Two objects of rows and two of output hold the same.
    assert_eq!(world.staged[&Epoch(1)].len(), 4);
    world.commit(1).await;
    assert_eq!(world.get(1, 0, 0, 1).await, ["value"]);
    assert_eq!(world.owed(0, 1, usize::MAX).await, [(1, "out".to_owned())]);
    let once = rows(1, &[(0, 1, "value")]).blocks[0].run.len();
    assert_eq!(world.load(0), once, "the rows are in the tail once");
    world.setup.control.set_trimming(false);
    world.restart().await;
    assert_eq!(world.get(1, 0, 0, 1).await, ["value"]);
    assert_eq!(world.load(0), once, "the rows are in the tail once");
    assert_eq!(world.owed(0, 1, usize::MAX).await, [(1, "out".to_owned())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_an_old_generation_refuses_until_told() {
    let limits = NodeLimits {
        request_wait: Duration::from_millis(50),
        ..never_flushed()
    };
    let mut world = World::new(limits).await;
    world
        .setup
        .control
        .reported(|r| matches!(r, StateReport::Opened { .. }))
        .await;
    let old = world.who;
    let new = Incarnation {
        generation: Generation(2),
        ..old
    };
    // A task of the next generation comes before the control plane's order.
    assert!(is_unavailable(world.try_get(new, 0, 0, 0, 1).await));
    assert!(is_fenced(world.try_get(old, 0, 0, 0, 1).await));
    let late = world.delta(1, 0, 1, rows(1, &[(0, 1, "late")]));
    assert!(is_fenced(world.node.stage(old, late).await));
    world.begin(2).await;
    assert_eq!(world.try_get(new, 0, 0, 0, 1).await, Ok(Vec::new()));
    assert!(is_fenced(world.try_get(old, 0, 0, 0, 1).await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_shrinks_though_a_shard_falls_silent() {
    let mut world = World::new(flushed_after(8)).await;
    world.apply(5, rows(5, &[(1, 1, "once")])).await;
    for epoch in 6..40 {
        world.apply(epoch, rows(epoch, &[(2, 1, "often")])).await;
    }
    assert_eq!(world.get(39, 0, 2, 1).await, ["often"]);
    world.durable(1, 30).await;
    world.durable(2, 13).await;
    let log = world.setup.control.log(JOB);
    assert!(log.iter().all(|entry| entry.epoch > Epoch(12)), "{log:?}");
    // A shard that never had a row holds nothing, and says so.
    world.durable(0, 30).await;
    assert_eq!(world.get(39, 0, 1, 1).await, ["once"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_that_is_published_while_it_is_read_is_no_damage() {
    let mut world = World::new(never_flushed()).await;
    world.apply(1, output("out 1")).await;
    // Else it would be in memory.
    world.restart().await;
    assert_eq!(world.owed(0, 1, 30).await, [(1, "out 1".to_owned())]);
    world
        .faults
        .fail(LOG_GET, 0, 1, Fault::Delay(Duration::from_secs(1)));
    let published = async {
        let published = world.setup.control.published(world.who, SINK, Epoch(1));
        published.await.expect("published");
        while !world.files(".out").await.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    let (owed, ()) = tokio::join!(world.owed(0, 1, 30), published);
    assert_eq!(owed, []);
    // What is owed and gone is damage.
    world.apply(2, output("out 2")).await;
    world.restart().await;
    let path = Path::from(world.files(".out").await.remove(0));
    world.store.delete(&path).await.expect("deleted");
    let request = OutputRequest {
        sink: SINK,
        after: Epoch(1),
        up_to: Epoch(2),
        bytes_max: 30,
    };
    let owed = world.node.committed_output(world.who, request).await;
    assert!(matches!(owed, Err(StateError::Damaged(_))), "{owed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_sink_that_is_down_only_the_output_piles_up() {
    let limits = NodeLimits {
        output_bytes: 100,
        ..flushed_after(4)
    };
    let mut world = World::new(limits).await;
    let epochs = 100;
    for epoch in 1..=epochs {
        let changes = Changes {
            staged: output(&format!("out {epoch}")).staged,
            ..rows(epoch, &[(0, 1, "value")])
        };
        world.apply(epoch, changes).await;
    }
    assert_eq!(world.get(epochs, 0, 0, 1).await, ["value"]);
    world.durable(0, epochs - 8).await;
    let log = world.setup.control.log(JOB);
    let rows = log.iter().flat_map(|entry| &entry.objects);
    let rows = rows.filter(|object| matches!(object.holds, LogHolding::Rows(_)));
    assert!(rows.count() <= 8);
    assert_eq!(world.files(".out").await.len(), epochs as usize);
    // When it is back it gets all of it, piece by piece.
    let mut found = Vec::new();
    while found.len() < epochs as usize {
        let after = found.last().map_or(0, |(epoch, _)| *epoch);
        let piece = world.owed(after, epochs, 30).await;
        assert!((1..=8).contains(&piece.len()), "{}", piece.len());
        found.extend(piece);
    }
    let expected: Vec<_> = (1..=epochs)
        .map(|epoch| (epoch, format!("out {epoch}")))
        .collect();
    assert_eq!(found, expected);
    let published = world
        .setup
        .control
        .published(world.who, SINK, Epoch(epochs));
    published.await.expect("published");
    assert!(world.owed(0, epochs, 30).await.is_empty());
    assert!(
        world
            .setup
            .control
            .log(JOB)
            .iter()
            .all(|entry| entry.epoch.0 > epochs - 8)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_committed_between_listing_and_asking_stays() {
    let mut world = World::new(never_flushed()).await;
    world.apply(1, rows(1, &[(0, 1, "1")])).await;
    world
        .stage(world.delta(2, 0, 1, rows(2, &[(0, 1, "2")])))
        .await;
    // Written again by a node that died: never to be committed.
    let twin = world.staged[&Epoch(2)].clone();
    world.restart().await;
    world
        .stage(world.delta(2, 0, 1, rows(2, &[(0, 1, "2")])))
        .await;
    let objects: Vec<LogObject> = world.staged[&Epoch(2)]
        .iter()
        .filter(|o| !twin.contains(o))
        .cloned()
        .collect();
    let (control, who) = (world.setup.control.clone(), world.who);
    let answer = move || {
        let control = control.clone();
        async move {
            control
                .commit(who, Epoch(2), objects, 0)
                .await
                .expect("committed");
            control.references(JOB).await
        }
        .boxed()
    };
    assert_eq!(
        world.node.shared.sweep_by(JOB, answer).await,
        Ok(1),
        "the twin goes"
    );
    world.restart().await;
    assert_eq!(world.get(2, 0, 0, 1).await, ["2"]);
}

#[tokio::test(start_paused = true)]
async fn little_waits_for_the_rest_of_its_epoch() {
    let mut world = World::new(never_flushed()).await;
    let source = world.delta(1, 0, 2, rows(1, &[(0, 1, "offset")]));
    let other = world.delta(1, 1, 2, rows(1, &[(0, 2, "state")]));
    let later = async {
        tokio::time::sleep(LINGER_LITTLE / 2).await;
        world.node.stage(world.who, other).await
    };
    let both = tokio::join!(world.node.stage(world.who, source), later);
    let (one, other) = (both.0.expect("staged"), both.1.expect("staged"));
    assert_eq!((one.len(), &one), (1, &other), "they are in one object");
    world.staged.insert(Epoch(1), one);
    world.commit(1).await;
    assert_eq!(world.get(1, 0, 0, 2).await, ["state"]);
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_much_is_written_does_not_wait_for_that() {
    let mut world = World::new(never_flushed()).await;
    let slow = Fault::Delay(Duration::from_secs(3));
    world.faults.fail(LOG_ROWS, 0, 1, slow);
    let much = "x".repeat(LITTLE_BYTES);
    let stage = |task: u32, value: &str| {
        let delta = world.delta(1, task, 4, rows(1, &[(task, 1, value)]));
        let (node, who) = (world.node.clone(), world.who);
        tokio::spawn(async move { node.stage(who, delta).await })
    };
    let until_written = async |objects: u64| {
        while world.faults.count(LOG_ROWS).0 < objects {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let first = stage(0, &much);
    until_written(1).await;
    let second = stage(1, &much).await.expect("no panic").expect("staged");
    assert!(!first.is_finished());
    // Of more than two somebody waits until another one is done.
    world.faults.fail(LOG_ROWS, 0, 1, slow);
    let third = stage(2, &much);
    until_written(3).await;
    let fourth = stage(3, "little");
    let mut objects = second;
    for staged in [first, third, fourth] {
        objects.extend(staged.await.expect("no panic").expect("staged"));
    }
    objects.sort();
    objects.dedup();
    assert_eq!((objects.len(), world.faults.count(LOG_ROWS).0), (4, 4));
    world.staged.insert(Epoch(1), objects);
    world.commit(1).await;
    for shard in [0, 1, 2] {
        assert_eq!(world.get(1, 0, shard, 1).await, [&much]);
    }
    assert_eq!(world.get(1, 0, 3, 1).await, ["little"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_epoch_is_one_object_and_an_idle_one_none() {
    let world = World::new(never_flushed()).await;
    for shard in 0..SHARDS {
        assert!(world.get(0, 0, shard, 1).await.is_empty());
    }
    world.faults.reset_counts();
    let tasks = 8;
    for epoch in 1..4_u64 {
        let deltas = (0..tasks).map(|task| {
            let values = [(task % SHARDS, u64::from(task), "value")];
            let changes = match task {
                // One of them changes nothing, and one makes output.
                0 => Changes::default(),
                1 => output("out"),
                _ => rows(epoch, &values),
            };
            world
                .node
                .stage(world.who, world.delta(epoch, task, tasks, changes))
        });
        let staged = join_all(deltas).await;
        let mut objects: Vec<LogObject> = staged
            .into_iter()
            .flat_map(|staged| staged.expect("staged"))
            .collect();
        objects.sort();
        objects.dedup();
        assert_eq!(objects.len(), 2);
        let committed = world
            .setup
            .control
            .commit(world.who, Epoch(epoch), objects, 0);
        committed.await.expect("committed");
        assert_eq!(world.get(epoch, 0, 2, 2).await, ["value"]);
        assert_eq!(world.owed(epoch - 1, epoch, usize::MAX).await.len(), 1);
    }
    for task in 0..tasks {
        let nothing = world.delta(4, task, tasks, Changes::default());
        assert_eq!(world.node.stage(world.who, nothing).await, Ok(Vec::new()));
    }
    world
        .setup
        .control
        .commit(world.who, Epoch(4), Vec::new(), 0)
        .await
        .expect("committed");
    assert_eq!(world.get(4, 0, 2, 2).await, ["value"]);
    assert_eq!(world.faults.count(LOG_ROWS).0, 3);
    assert_eq!(world.faults.count(LOG_OUT).0, 3);
    assert_eq!(world.faults.count(LOG_GET).0, 0, "it is still in memory");
    assert_eq!(world.faults.count(SHARD_PUT).0, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_to_a_write_leaves_one_object() {
    let mut world = World::new(never_flushed()).await;
    world.faults.fail(LOG_ROWS, 0, 2, Fault::After);
    world.apply(1, rows(1, &[(0, 1, "1")])).await;
    assert_eq!(world.files(".rows").await.len(), 1);
    assert_eq!(world.get(1, 0, 0, 1).await, ["1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_cut_on_its_way_is_read_again() {
    let mut world = World::new(never_flushed()).await;
    world.apply(1, rows(1, &[(0, 1, "1"), (1, 1, "1")])).await;
    world.faults.fail(LOG_GET, 0, 3, Fault::Truncate);
    world.restart().await;
    assert_eq!(world.get(1, 0, 0, 1).await, ["1"]);
    assert_eq!(world.get(1, 0, 1, 1).await, ["1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn staging_outlives_an_outage_and_the_node_says_that_it_is_one() {
    let limits = NodeLimits {
        stage_wait: Duration::from_millis(300),
        ..never_flushed()
    };
    let mut world = World::new(limits).await;
    assert!(world.get(0, 0, 0, 1).await.is_empty());
    world.faults.set_down(true);
    let delta = world.delta(1, 0, 1, rows(1, &[(0, 1, "1")]));
    assert!(is_unavailable(
        world.node.stage(world.who, delta.clone()).await
    ));
    let degraded = |r: &StateReport| matches!(r, StateReport::Degraded { why: Some(_) });
    world.setup.control.reported(degraded).await;
    world.faults.heal();
    let well = |r: &StateReport| matches!(r, StateReport::Degraded { why: None });
    world.setup.control.reported(well).await;
    world.stage(delta).await;
    world.commit(1).await;
    assert_eq!(world.get(1, 0, 0, 1).await, ["1"]);
    assert_eq!(
        world.files(".rows").await.len(),
        1,
        "the first attempt was enough"
    );
    // A new generation ends what is tried for an older one.
    world.faults.set_down(true);
    let (node, who) = (world.node.clone(), world.who);
    let delta = world.delta(2, 0, 1, rows(2, &[(0, 1, "2")]));
    let (staged, _) = futures::join!(node.stage(who, delta), world.begin(2));
    assert!(is_fenced(staged));
    world.faults.heal();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_much_that_waits_is_refused_and_nothing_is_lost() {
    let limits = NodeLimits {
        stage_wait: Duration::from_millis(50),
        staged_bytes: 100,
        ..never_flushed()
    };
    let mut world = World::new(limits).await;
    assert!(world.get(0, 0, 0, 1).await.is_empty());
    world.faults.set_down(true);
    let large = "x".repeat(90);
    for epoch in 1..4 {
        let delta = world.delta(epoch, 0, 1, rows(epoch, &[(0, epoch, &large)]));
        assert!(is_unavailable(world.node.stage(world.who, delta).await));
    }
    world.faults.heal();
    for epoch in 1..4 {
        let delta = world.delta(epoch, 0, 1, rows(epoch, &[(0, epoch, &large)]));
        while is_unavailable(world.node.stage(world.who, delta.clone()).await) {}
        world.stage(delta).await;
        world.commit(epoch).await;
    }
    for epoch in 1..4 {
        assert_eq!(
            world.get(3, 0, 0, epoch).await,
            std::slice::from_ref(&large)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missed_commit_is_noticed_and_caught_up_with() {
    let mut world = World::new(never_flushed()).await;
    world.apply(1, rows(1, &[(0, 1, "1")])).await;
    assert_eq!(world.get(1, 0, 0, 1).await, ["1"]);
    // The order for epoch 2 is lost on its way to the node.
    world
        .stage(world.delta(2, 0, 1, rows(2, &[(0, 1, "2")])))
        .await;
    world.setup.control.disconnect();
    world.commit(2).await;
    world
        .stage(world.delta(3, 0, 1, rows(3, &[(0, 2, "3")])))
        .await;
    let committed = CommittedEpoch {
        epoch: Epoch(3),
        objects: world.staged[&Epoch(3)].clone(),
    };
    world.node.order(StateOrder::Committed {
        job: JOB,
        generation: Generation(1),
        previous: Epoch(2),
        committed,
        traceparent: None,
    });
    assert!(is_unavailable(world.try_get(world.who, 0, 0, 0, 1).await));
    world.commit(3).await;
    world.restart().await;
    assert_eq!(world.get(3, 0, 0, 1).await, ["2"]);
    assert_eq!(world.get(3, 0, 0, 2).await, ["3"]);
}
