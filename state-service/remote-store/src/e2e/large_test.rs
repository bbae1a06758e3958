//! Much at once: large deltas, large scans, many reads.

use bytes::Bytes;
use futures::future::join_all;
use proto::types::{Epoch, KeyGroup};
use state_client::{Changes, ScanRequest, StagedOutput, StateStore as _};
use state_wire::caps::SCAN_BYTES_MAX;

use super::world::{SINK, TABLE, World, in_time, read_request, rows};
use crate::RemoteLimits;

/// Bytes that differ from place to place.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(bytes + 8);
    while out.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(bytes);
    out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delta_of_64_mib_and_its_output_arrive_whole() {
    let world = World::begin(RemoteLimits::default()).await;
    let values: Vec<Vec<u8>> = (0..48).map(|i| noise(i, (1 << 20) + i as usize)).collect();
    let changed: Vec<(u32, u64, &[u8])> = values
        .iter()
        .enumerate()
        .map(|(i, value)| (i as u32 % 4, i as u64, &value[..]))
        .collect();
    let out = noise(99, (16 << 20) + 3);
    let changes = Changes {
        staged: vec![StagedOutput {
            sink: SINK,
            slot: 0,
            bytes: out.clone().into(),
        }],
        ..rows(1, &changed)
    };
    let objects = world.stage(world.delta(1, 0, 1, changes)).await;
    world.commit(1, objects).await;
    for (shard, key, value) in &changed {
        assert!(world.get(1, *shard, *key).await == [Bytes::copy_from_slice(value)]);
    }
    assert!(world.owed(1).await == [Bytes::from(out)]);
    // In one reply, too, which is larger than any message.
    let keys: Vec<(u32, u64)> = changed
        .iter()
        .map(|(shard, key, _)| (*shard, *key))
        .collect();
    let keys = [&keys[..], &keys[..]].concat();
    let reply = in_time(world.store.read(world.who, read_request(1, &keys))).await;
    for (index, rows) in reply.expect("read").rows.iter().enumerate() {
        assert!(rows[0].value == values[index % 48], "{index}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_scan_comes_in_replies_that_fit() {
    let world = World::begin(RemoteLimits::default()).await;
    let values: Vec<Vec<u8>> = (0..200).map(|i| noise(i, 100_000)).collect();
    let changed: Vec<(u32, u64, &[u8])> = values
        .iter()
        .enumerate()
        .map(|(i, value)| (0, i as u64, &value[..]))
        .collect();
    let objects = world.stage(world.delta(1, 0, 1, rows(1, &changed))).await;
    world.commit(1, objects).await;
    let mut found = Vec::new();
    let mut cursor = None;
    let mut replies = 0;
    loop {
        let request = ScanRequest {
            min_epoch: Epoch(1),
            table: TABLE,
            key_group: KeyGroup(0),
            namespace: None,
            cursor,
            bytes_max: usize::MAX,
        };
        let reply = in_time(world.store.scan(world.who, request))
            .await
            .expect("scan");
        let bytes: usize = reply.rows.iter().map(|row| row.value.len()).sum();
        assert!(bytes <= SCAN_BYTES_MAX + 100_000);
        replies += 1;
        found.extend(reply.rows);
        cursor = reply.cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert!(replies > 3, "{replies}");
    assert_eq!(found.len(), values.len());
    assert!(
        found
            .iter()
            .zip(&values)
            .all(|(row, value)| row.value == *value)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_reads_at_once_get_their_own_rows() {
    let world = World::begin(RemoteLimits::default()).await;
    let values: Vec<String> = (0..400).map(|i| format!("value {i}")).collect();
    let changed: Vec<(u32, u64, &[u8])> = values
        .iter()
        .enumerate()
        .map(|(i, value)| (i as u32 % 4, i as u64, value.as_bytes()))
        .collect();
    let objects = world.stage(world.delta(1, 0, 1, rows(1, &changed))).await;
    world.commit(1, objects).await;
    // Each a batch over all shards, in an order of its own, with keys that are not there.
    let keys = |read: usize| -> Vec<(u32, u64)> {
        let key = |i: usize| (read * 7 + i * 13) % 410;
        (0..8).map(key).map(|i| (i as u32 % 4, i as u64)).collect()
    };
    let reads = (0..1000).map(|read| world.store.read(world.who, read_request(1, &keys(read))));
    for (read, reply) in in_time(join_all(reads)).await.into_iter().enumerate() {
        let reply = reply.expect("read");
        for ((_, key), rows) in keys(read).into_iter().zip(reply.rows) {
            match values.get(key as usize) {
                Some(value) => assert_eq!(rows[0].value, value.as_bytes()),
                None => assert!(rows.is_empty()),
            }
        }
    }
}
