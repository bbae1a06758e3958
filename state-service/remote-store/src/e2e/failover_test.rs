//! Nodes that die, hang, lose what they said, and shards that move meanwhile.

use std::time::Duration;

use proto::types::{Generation, StateNodeId};
use state_client::{Changes, StateControl as _, StateError, StateStore as _};
use state_service::{
    NodeLimits,
    testing::{Fault, Request, RequestKind},
};
use tokio::time::Instant;

use super::{
    relay::Mode,
    world::{JOB, PATIENCE, World, in_time, output, quick, read_request, rows, until},
};
use crate::{JobRoute, Owner, RemoteLimits, RemoteStore, Routes};

const LOG_PUT: Request = Request {
    kind: RequestKind::Put,
    path: ".rows",
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_section_that_a_dead_node_acknowledged_needs_nothing_more() {
    let world = World::begin(RemoteLimits::default()).await;
    let both: &[(u32, u64, &[u8])] = &[(0, 1, b"zero"), (1, 1, b"one")];
    // Node 1 writes and acknowledges what one task changed.
    let first = world.delta(1, 0, 2, rows(1, &[(0, 9, b"first")]));
    let mut objects = world.stage(first).await;
    assert_eq!(objects.len(), 1);
    // It hangs in the middle of writing what another changed; node 2 acknowledges its part.
    let faults = world.cluster.faults(1);
    faults.fail(LOG_PUT, 0, u64::MAX, Fault::Hang);
    let staging = world.staging(world.delta(1, 1, 2, rows(1, both)));
    let other = world.cluster.faults(2);
    until("node 1 writes", || async { faults.count(LOG_PUT).0 == 2 }).await;
    until("node 2 writes", || async { other.count(LOG_PUT).0 == 1 }).await;
    assert!(!staging.is_finished());
    world.cluster.kill(1).await;
    assert!(!staging.is_finished());
    world.cluster.move_shards(1, 2);
    let staged = in_time(staging)
        .await
        .expect("not aborted")
        .expect("staged");
    // Only what nobody had acknowledged was written again.
    assert_eq!(staged.len(), 2);
    assert_eq!(other.count(LOG_PUT).0, 2);
    objects.extend(staged);
    world.commit(1, objects).await;
    assert_eq!(world.get(1, 0, 9).await, ["first"]);
    assert_eq!(world.get(1, 0, 1).await, ["zero"]);
    assert_eq!(world.get(1, 1, 1).await, ["one"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_section_that_was_written_by_two_nodes_is_applied_once() {
    let world = World::begin(RemoteLimits::default()).await;
    let changes = Changes {
        staged: output("out"),
        ..rows(1, &[(0, 1, b"value")])
    };
    // Another task changes the same shard.
    let other = Changes {
        staged: output("other"),
        ..rows(1, &[(0, 2, b"other")])
    };
    let mut objects = world.stage(world.delta(1, 4, 2, other)).await;
    let relay = world.cluster.relay(1);
    relay.set(Mode::LoseReplies);
    let staging = world.staging(world.delta(1, 0, 2, changes.clone()));
    until("node 1 has written", || async {
        world.cluster.log_objects(".rows").await == 2
    })
    .await;
    relay.set(Mode::Cut);
    until("the connection is gone", || async { relay.open() == 0 }).await;
    relay.set(Mode::Pass);
    objects.extend(
        in_time(staging)
            .await
            .expect("not aborted")
            .expect("staged"),
    );
    assert_eq!(
        world.cluster.log_objects(".rows").await,
        2,
        "the node knew that it had written it"
    );
    // Again to another node, as if its answer had not come.
    world.cluster.kill(1).await;
    world.cluster.move_shards(1, 2);
    objects.extend(world.stage(world.delta(1, 0, 2, changes)).await);
    assert_eq!(world.cluster.log_objects(".rows").await, 3);
    world.commit(1, objects).await;
    assert_eq!(world.get(1, 0, 1).await, ["value"]);
    assert_eq!(world.get(1, 0, 2).await, ["other"]);
    assert_eq!(world.owed(1).await, ["out", "other"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn staging_goes_on_for_as_long_as_the_object_store_is_down() {
    let nodes = NodeLimits {
        request_wait: Duration::from_millis(300),
        stage_wait: Duration::from_millis(100),
        ..NodeLimits::default()
    };
    let limits = RemoteLimits {
        patience: Duration::from_millis(100),
        ..quick()
    };
    let world = World::with(limits, nodes).await;
    let faults = world.cluster.faults(1);
    faults.set_down(true);
    let staging = world.staging(world.delta(1, 0, 1, rows(1, &[(0, 1, b"late")])));
    until("many attempts", || async { faults.count(LOG_PUT).0 > 3 }).await;
    assert!(!staging.is_finished());
    faults.heal();
    let objects = in_time(staging)
        .await
        .expect("not aborted")
        .expect("staged");
    world.commit(1, objects).await;
    // Dropped, it ends.
    faults.set_down(true);
    let staging = world.staging(world.delta(2, 0, 1, rows(2, &[(0, 1, b"never")])));
    staging.abort();
    assert!(in_time(staging).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_generation_is_fenced_at_once_and_told_by_which() {
    let mut world = World::begin(RemoteLimits::default()).await;
    let old = world.who;
    let delta = world.delta(1, 0, 1, rows(1, &[(0, 1, b"old"), (1, 1, b"old")]));
    world.who.generation = Generation(u64::MAX);
    world.cluster.begin(world.who).await.expect("begun");
    let fenced = StateError::Fenced {
        job: JOB,
        caller: Generation(1),
        current: Generation(u64::MAX),
    };
    let staged = in_time(world.store.stage(old, delta)).await;
    assert_eq!(staged.expect_err("fenced"), fenced);
    let read = in_time(world.store.read(old, read_request(0, &[(3, 1)]))).await;
    assert_eq!(read.expect_err("fenced"), fenced);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_hangs_is_left_when_its_shards_move() {
    // Deadlines are far away: it is the move that ends the wait.
    let limits = RemoteLimits {
        read_deadline: 4 * PATIENCE,
        stage_deadline: 4 * PATIENCE,
        patience: 8 * PATIENCE,
        ..RemoteLimits::default()
    };
    let world = World::begin(limits).await;
    let objects = world
        .stage(world.delta(1, 0, 1, rows(1, &[(0, 1, b"a"), (1, 1, b"b")])))
        .await;
    world.commit(1, objects).await;
    assert_eq!(world.get(1, 0, 1).await, ["a"]);
    world.cluster.relay(1).set(Mode::Mute);
    let read = world
        .store
        .read(world.who, read_request(1, &[(0, 1), (1, 1)]));
    let read = tokio::spawn(read);
    let staging = world.staging(world.delta(2, 0, 1, rows(2, &[(2, 1, b"c"), (3, 1, b"d")])));
    let other = world.cluster.faults(2);
    until("node 2 writes its part", || async {
        other.count(LOG_PUT).0 == 2
    })
    .await;
    assert!(!read.is_finished() && !staging.is_finished());
    let moved = Instant::now();
    world.cluster.move_shards(1, 2);
    let reply = in_time(read).await.expect("not aborted").expect("read");
    let values: Vec<_> = reply
        .rows
        .iter()
        .map(|rows| rows[0].value.clone())
        .collect();
    assert_eq!(values, ["a", "b"]);
    let objects = in_time(staging)
        .await
        .expect("not aborted")
        .expect("staged");
    // Long before anyone can know that the connection is dead.
    assert!(moved.elapsed() < Duration::from_secs(6));
    world.commit(2, objects).await;
    assert_eq!(world.get(2, 2, 1).await, ["c"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_hangs_is_asked_again_after_the_deadline() {
    let world = World::begin(quick()).await;
    let objects = world
        .stage(world.delta(1, 0, 1, rows(1, &[(0, 1, b"a")])))
        .await;
    world.commit(1, objects).await;
    assert_eq!(world.get(1, 0, 1).await, ["a"]);
    let relay = world.cluster.relay(1);
    relay.set(Mode::Mute);
    let read = tokio::spawn(world.store.read(world.who, read_request(1, &[(0, 1)])));
    // Longer than one deadline, so that the answer is to a later attempt.
    tokio::time::sleep(3 * quick().read_deadline).await;
    assert!(!read.is_finished());
    relay.set(Mode::Pass);
    let reply = in_time(read).await.expect("not aborted").expect("read");
    assert_eq!(reply.rows[0][0].value, "a");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_give_up_when_patience_ends_and_say_why() {
    let limits = RemoteLimits {
        patience: Duration::from_millis(700),
        ..quick()
    };
    let world = World::begin(limits).await;
    world.cluster.kill(1).await;
    let begun = Instant::now();
    let error = world.try_get(0, 0, 1).await.expect_err("nobody is there");
    assert!(matches!(error, StateError::Unavailable(_)), "{error}");
    assert!(error.to_string().contains("read state of job_3"), "{error}");
    let waited = begun.elapsed();
    assert!(
        waited >= limits.patience && waited < PATIENCE / 2,
        "{waited:?}"
    );
    // The other node's shards are not held up.
    assert!(world.get(0, 1, 1).await.is_empty());
    // A job of which nothing is known.
    let unknown = RemoteStore::new(Routes::default(), super::world::config(limits));
    let read = in_time(unknown.read(world.who, read_request(0, &[(0, 1)]))).await;
    assert!(matches!(read, Err(StateError::Unavailable(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_wait_for_a_shard_to_have_an_owner() {
    let world = World::begin(RemoteLimits::default()).await;
    world.cluster.routes.remove(JOB);
    let read = tokio::spawn(
        world
            .store
            .read(world.who, read_request(0, &[(0, 1), (1, 1)])),
    );
    let staging = world.staging(world.delta(1, 0, 1, rows(1, &[(0, 1, b"a"), (1, 1, b"b")])));
    let all = Owner {
        node: StateNodeId(2),
        address: world.cluster.relay(2).address.clone(),
    };
    let mut route = JobRoute {
        key_groups: proto::types::KeyGroupCount::DEFAULT,
        shards: super::world::SHARDS,
        owners: [(proto::types::ShardId(1), all.clone())].into(),
    };
    world.cluster.routes.set(JOB, route.clone());
    let written = world.cluster.faults(2);
    until("the part with an owner", || async {
        written.count(LOG_PUT).0 == 1
    })
    .await;
    assert!(!read.is_finished() && !staging.is_finished());
    // An address that cannot be one is waited over, too.
    let wrong = Owner {
        address: "nowhere".to_owned(),
        ..all.clone()
    };
    route.owners.insert(proto::types::ShardId(0), wrong);
    world.cluster.routes.set(JOB, route.clone());
    world.cluster.move_shards(1, 2);
    let reply = in_time(read).await.expect("not aborted").expect("read");
    assert_eq!(reply.rows, [vec![], vec![]]);
    let objects = in_time(staging)
        .await
        .expect("not aborted")
        .expect("staged");
    assert_eq!(objects.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_per_node_and_none_that_no_route_names() {
    let world = World::begin(RemoteLimits::default()).await;
    let reads = (0..50).map(|key| world.get(0, key % 4, 1));
    futures::future::join_all(reads).await;
    let (one, two) = (world.cluster.relay(1), world.cluster.relay(2));
    assert_eq!((one.open(), two.open()), (1, 1));
    world.cluster.move_shards(1, 2);
    until("it is closed", || async { one.open() == 0 }).await;
    assert_eq!(two.open(), 1);
    assert!(world.get(0, 0, 1).await.is_empty());
    world.cluster.routes.remove(JOB);
    until("it is closed", || async { two.open() == 0 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_in_the_dark_costs_the_announcements_nothing() {
    // The second node swallows everything; the task changed only what the first has.
    let world = World::begin(RemoteLimits::default()).await;
    world.cluster.relay(2).set(Mode::Mute);
    for epoch in 1..20 {
        let objects = world
            .stage(world.delta(epoch, 0, 1, rows(epoch, &[(0, 1, b"a")])))
            .await;
        world.commit(epoch, objects).await;
        let idle = world
            .stage(world.delta(epoch + 100, 0, 1, Changes::default()))
            .await;
        assert!(idle.is_empty());
    }
}
