//! States that are kept are read at whichever node lives.

use proto::{
    state_control::{CommittedEpoch, InheritedEpoch},
    transfer::StateShape,
    types::{Epoch, KeyGroup, KeyGroupCount, StateNodeId},
};
use state_client::{KeptState, KeptStates as _, ScanRequest, StateError};

use super::world::{JOB, SHARDS, TABLE, World, config, in_time, quick, read_request, rows};
use crate::{Owner, RemoteKept, RemoteLimits};

fn owner(world: &World, node: u64) -> Owner {
    Owner {
        node: StateNodeId(node),
        address: world.cluster.relay(node).address.clone(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_is_kept_is_read_at_whichever_node_lives() {
    let world = World::begin(RemoteLimits::default()).await;
    let both: &[(u32, u64, &[u8])] = &[(0, 1, b"zero"), (1, 1, b"one")];
    let objects = world.stage(world.delta(1, 0, 1, rows(1, both))).await;
    world.commit(1, objects.clone()).await;
    let committed = CommittedEpoch {
        epoch: Epoch(1),
        objects,
    };
    let state = KeptState {
        shape: StateShape {
            key_groups: KeyGroupCount::DEFAULT,
            shards: SHARDS,
            epoch: Epoch(1),
        },
        manifests: Default::default(),
        log: vec![InheritedEpoch {
            job: JOB,
            committed,
        }],
    };
    let newer: &[(u32, u64, &[u8])] = &[(0, 1, b"newer"), (1, 1, b"newer")];
    let objects = world.stage(world.delta(2, 0, 1, rows(2, newer))).await;
    world.commit(2, objects).await;
    let kept = RemoteKept::new(config(quick()));
    let get = |shard: u32| {
        let keys = read_request(0, &[(shard, 1)]).keys;
        let of = state.shard(state.shard_of_hash(keys[0].hash));
        in_time(kept.read_kept(of, keys))
    };
    let nobody = get(0).await;
    assert!(
        matches!(nobody, Err(StateError::Unavailable(_))),
        "{nobody:?}"
    );
    let nodes = [owner(&world, 1), owner(&world, 2)];
    kept.set_nodes(nodes.clone());
    let value = async |shard: u32| {
        let reply = get(shard).await.expect("read");
        let row = reply.rows.into_iter().flatten().next();
        row.expect("a row").value
    };
    // Whoever serves the shards of the job.
    assert_eq!(
        (value(0).await, value(1).await),
        ("zero".into(), "one".into())
    );
    assert_eq!(world.get(2, 0, 1).await, ["newer"]);
    world.cluster.kill(1).await;
    kept.set_nodes(nodes);
    assert_eq!(
        (value(0).await, value(1).await),
        ("zero".into(), "one".into())
    );
    let scan = ScanRequest {
        min_epoch: Epoch::ZERO,
        table: TABLE,
        key_group: KeyGroup(0),
        namespace: None,
        cursor: None,
        bytes_max: 1000,
    };
    let shard = state.shard(state.shard_of_scan(&scan));
    let reply = in_time(kept.scan_kept(shard, scan)).await.expect("scanned");
    let values: Vec<_> = reply.rows.iter().map(|row| row.value.clone()).collect();
    assert_eq!(values, ["zero"]);
}
