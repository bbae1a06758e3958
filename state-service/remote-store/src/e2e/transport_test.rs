//! What goes to which node, how much at once, and what becomes of refusals.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use futures::future::join_all;
use proto::types::{Generation, JobId, KeyGroupCount, ShardId, StateNodeId};
use rpc::tonic::Status;
use state_client::{Changes, Cut, EpochDelta, Incarnation, StateError, StateStore as _};
use state_wire::caps::READ_KEYS_MAX;

use super::{
    stub::{Listening, Stub},
    world::{JOB, SHARDS, config, in_time, quick, read_request, rows, until},
};
use crate::{JobRoute, Owner, RemoteLimits, RemoteStore, Routes, caps::READS_PER_NODE_MAX};

const WHO: Incarnation = Incarnation {
    job: JOB,
    generation: Generation(1),
};

/// Shards spread over stubs in turn.
fn over(stubs: &[&Listening], limits: RemoteLimits) -> RemoteStore {
    let owner = |shard: u32| {
        let index = shard as usize % stubs.len();
        let owner = Owner {
            node: StateNodeId(index as u64),
            address: stubs[index].address.clone(),
        };
        (ShardId(shard), owner)
    };
    let routes = Routes::default();
    let owners: BTreeMap<ShardId, Owner> = (0..SHARDS).map(owner).collect();
    let route = JobRoute {
        key_groups: KeyGroupCount::DEFAULT,
        shards: SHARDS,
        owners,
    };
    routes.set(JOB, route);
    RemoteStore::new(routes, config(limits))
}

fn delta(task: u32, changes: Changes) -> EpochDelta {
    let cut = Cut {
        key_groups: KeyGroupCount::DEFAULT,
        shards: SHARDS,
        tasks: 3,
    };
    EpochDelta::new(
        WHO,
        proto::types::Epoch(5),
        proto::types::TaskId(task),
        cut,
        changes,
    )
}

#[tokio::test]
async fn every_node_hears_once_of_every_task() {
    let stubs = [(); 3].map(|()| Stub::start(Duration::ZERO, None));
    let store = over(&[&stubs[0], &stubs[1], &stubs[2]], RemoteLimits::default());
    // Shards 0 and 3 are with the first node, 1 with the second, 2 with the third.
    let changes = [
        rows(5, &[(0, 1, b"x"), (3, 1, b"x"), (1, 1, b"x")]),
        rows(5, &[(2, 1, b"x")]),
        Changes::default(),
    ];
    for (task, changes) in changes.into_iter().enumerate() {
        in_time(store.stage(WHO, delta(task as u32, changes)))
            .await
            .expect("staged");
    }
    let heads = |node: usize| {
        let heads = stubs[node].seen.heads.lock().unwrap();
        let mut heads: Vec<_> = heads
            .iter()
            .map(|head| (head.task, head.tasks, head.section_bytes.len()))
            .collect();
        heads.sort_unstable();
        heads
    };
    let expected = [
        [(0, 3, 2), (1, 3, 0), (2, 3, 0)],
        [(0, 3, 1), (1, 3, 0), (2, 3, 0)],
        [(0, 3, 0), (1, 3, 1), (2, 3, 0)],
    ];
    for (node, expected) in expected.iter().enumerate() {
        until("all tasks are heard of", || async {
            heads(node).len() >= 3
        })
        .await;
        assert_eq!(heads(node), expected, "node {node}");
    }
}

#[tokio::test]
async fn a_thousand_reads_at_once_are_answered_a_bounded_number_at_a_time() {
    let stub = Stub::start(Duration::from_millis(5), None);
    let store = over(&[&stub], RemoteLimits::default());
    let reads = (0..1000).map(|key| store.read(WHO, read_request(0, &[(key as u32 % 4, key)])));
    for reply in in_time(join_all(reads)).await {
        assert_eq!(reply.expect("read").rows.len(), 1);
    }
    let seen = &stub.seen;
    assert_eq!(seen.reads.load(Ordering::SeqCst), 1000);
    let most = seen.at_once_most.load(Ordering::SeqCst);
    assert!(most <= READS_PER_NODE_MAX && most > 16, "{most}");
}

#[tokio::test]
async fn keys_of_one_node_go_together_and_no_call_has_too_many() {
    let stubs = [(); 2].map(|()| Stub::start(Duration::ZERO, None));
    let store = over(&[&stubs[0], &stubs[1]], RemoteLimits::default());
    let few: Vec<(u32, u64)> = (0..100).map(|key| (key as u32 % 4, key)).collect();
    in_time(store.read(WHO, read_request(0, &few)))
        .await
        .expect("read");
    for stub in &stubs {
        assert_eq!(stub.seen.reads.load(Ordering::SeqCst), 1);
        assert_eq!(stub.seen.keys_most.load(Ordering::SeqCst), 50);
    }
    let many = 2 * READ_KEYS_MAX as u64 + 10;
    let many: Vec<(u32, u64)> = (0..many).map(|key| (0, key)).collect();
    let reply = in_time(store.read(WHO, read_request(0, &many)))
        .await
        .expect("read");
    assert_eq!(reply.rows.len(), many.len());
    assert_eq!(stubs[0].seen.reads.load(Ordering::SeqCst), 4);
    assert_eq!(
        stubs[0].seen.keys_most.load(Ordering::SeqCst),
        READ_KEYS_MAX
    );
}

#[tokio::test]
async fn what_cannot_succeed_ends_at_once_and_the_rest_is_tried_again() {
    let limits = RemoteLimits {
        patience: Duration::from_millis(300),
        pause_min: Duration::from_millis(5),
        ..quick()
    };
    type Make = fn() -> Status;
    let cases: [(Make, bool); 5] = [
        (
            || state_wire::status_of(StateError::Damaged("x".to_owned())),
            false,
        ),
        (
            || state_wire::status_of(StateError::UnknownJob(JobId(1))),
            false,
        ),
        (|| Status::invalid_argument("x"), false),
        (
            || state_wire::status_of(StateError::Unavailable("x".to_owned())),
            true,
        ),
        (|| Status::resource_exhausted("x"), true),
    ];
    for (status, is_tried_again) in cases {
        let stub = Stub::start(Duration::ZERO, Some(status()));
        let store = over(&[&stub], limits);
        let read = in_time(store.read(WHO, read_request(0, &[(0, 1)]))).await;
        assert!(read.is_err());
        let reads = stub.seen.reads.load(Ordering::SeqCst);
        assert_eq!(reads > 1, is_tried_again, "{reads} {:?}", status());
        // Pauses grow: it is no storm.
        assert!(reads < 20, "{reads}");
        if !is_tried_again {
            let staged = in_time(store.stage(WHO, delta(0, rows(5, &[(0, 1, b"x")])))).await;
            assert!(staged.is_err());
        }
    }
}
