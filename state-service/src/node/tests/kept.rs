//! States that are kept, as others look at them: what they were is there whatever comes after.

use std::collections::BTreeMap;

use bytes::Bytes;
use proto::{
    transfer::StateShape,
    types::{Epoch, KeyGroupCount, ShardId},
};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use state_client::{
    Block, Changes, KeptState, KeptStates as _, KeyRequest, LoadedRow, ScanRequest, StateError,
    page::{RowRef, RunBuilder},
};

use super::world::{JOB, SHARDS, TABLE, World, flushed_after, hash, never_flushed, rows};
use crate::{EmbeddedStore, caps::KEPT_SHARDS_OPEN_MAX};

/// Live rows: namespace, hash and value.
type Rows = BTreeMap<(i64, u64), Bytes>;

impl World {
    /// The job's newest state, which stays: nothing is trimmed.
    fn keep(&self, epoch: u64) -> KeptState {
        let (manifests, log) = self.setup.control.newest(JOB);
        KeptState {
            shape: StateShape {
                key_groups: KeyGroupCount::DEFAULT,
                shards: SHARDS,
                epoch: Epoch(epoch),
            },
            manifests,
            log,
        }
    }

    /// All rows of a kept state, by scans of a few rows each.
    async fn scan_kept(&self, state: &KeptState) -> Result<Rows, StateError> {
        let store = EmbeddedStore::new(self.node.clone());
        let mut rows = Rows::new();
        for key_group in KeyGroupCount::DEFAULT.iter() {
            let mut request = ScanRequest {
                min_epoch: Epoch::ZERO,
                table: TABLE,
                key_group,
                namespace: None,
                cursor: None,
                bytes_max: 100,
            };
            loop {
                let shard = state.shard(state.shard_of_scan(&request));
                let reply = store.scan_kept(shard, request.clone()).await?;
                let row = |row: LoadedRow| ((row.namespace, row.hash), row.value);
                rows.extend(reply.rows.into_iter().map(row));
                request.cursor = reply.cursor;
                if request.cursor.is_none() {
                    break;
                }
            }
        }
        Ok(rows)
    }

    /// The value of a key of a kept state.
    async fn get_kept(
        &self,
        state: &KeptState,
        (namespace, hash): (i64, u64),
    ) -> Result<Option<Bytes>, StateError> {
        let key = KeyRequest {
            table: TABLE,
            namespace,
            hash,
            sub: None,
        };
        let store = EmbeddedStore::new(self.node.clone());
        let shard = state.shard(state.shard_of_hash(hash));
        let reply = store.read_kept(shard, vec![key]).await?;
        let mut rows = reply.rows.into_iter().flatten();
        Ok(rows.next().map(|row| row.value))
    }
}

fn text(value: Option<Bytes>) -> String {
    value.map_or("-".to_owned(), |value| {
        String::from_utf8_lossy(&value).into_owned()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_is_read_as_it_was_whatever_comes_after() {
    let mut world = World::new(flushed_after(2)).await;
    world.setup.control.set_trimming(false);
    let first = rows(16, &[(0, 1, "16"), (0, 2, "16"), (3, 1, "16")]);
    world.apply(16, first).await;
    world.apply(17, rows(17, &[(0, 3, "17")])).await;
    world.apply(18, rows(18, &[(0, 2, "18")])).await;
    world.durable(0, 16).await;
    world.durable(3, 16).await;
    let kept = world.keep(18);
    assert!(kept.manifests[&ShardId(0)].epoch >= Epoch(16), "{kept:?}");
    world
        .apply(19, rows(19, &[(0, 1, "19"), (3, 1, "19")]))
        .await;
    world.apply(20, rows(20, &[(0, 3, "20")])).await;
    let keys = [(0, 1), (0, 2), (0, 3), (3, 1), (2, 9)];
    for _ in 0..2 {
        for ((shard, key), then) in keys.into_iter().zip(["16", "18", "17", "16", "-"]) {
            let found = world.get_kept(&kept, (0, hash(shard, key))).await;
            assert_eq!(text(found.expect("readable")), then, "{shard} {key}");
        }
        assert_eq!(world.get(20, 0, 0, 1).await, ["19"]);
        assert_eq!(world.get(20, 0, 0, 3).await, ["20"]);
        let all = world.scan_kept(&kept).await.expect("readable");
        let all: Vec<String> = all.into_values().map(|value| text(Some(value))).collect();
        assert_eq!(all, ["16", "18", "17", "16"]);
        world.restart().await;
    }
}

/// Rows of random keys, some of them deleted, and now and then an end of namespaces.
fn change(random: &mut SmallRng, epoch: u64, model: &mut Rows) -> Changes {
    let mut changes = Changes::default();
    let mut last = BTreeMap::new();
    for _ in 0..random.random_range(1..12) {
        let of = (
            random.random_range(0..4),
            hash(random.random_range(0..SHARDS), random.random_range(0..6)),
        );
        let value = random.random_bool(0.7).then(|| format!("{epoch}"));
        last.insert(of, value.map(Bytes::from));
    }
    for ((namespace, hash), value) in last {
        let mut run = RunBuilder::default();
        run.push(RowRef {
            hash,
            identity: b"id",
            epoch,
            value: value.as_deref(),
        });
        changes.blocks.push(Block {
            table: TABLE,
            key_group: KeyGroupCount::DEFAULT.of_hash(hash),
            namespace,
            run: run.finish(),
        });
        match value {
            Some(value) => drop(model.insert((namespace, hash), value)),
            None => drop(model.remove(&(namespace, hash))),
        }
    }
    changes
}

/// Against a map: at each of some epochs of a random history, while flushes and compactions go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_epoch_that_is_kept_is_what_it_was() {
    for seed in 0..6 {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut world = World::new(flushed_after(random.random_range(1..5))).await;
        world.setup.control.set_trimming(false);
        let mut model = Rows::new();
        let mut kept = Vec::new();
        for epoch in 16..40 {
            let changes = change(&mut random, epoch, &mut model);
            world.apply(epoch, changes).await;
            if random.random_bool(0.2) {
                kept.push((world.keep(epoch), model.clone()));
            }
            if random.random_bool(0.05) {
                world.restart().await;
            }
        }
        for (state, model) in &kept {
            let epoch = state.shape.epoch;
            let found = world.scan_kept(state).await.expect("readable");
            assert_eq!(&found, model, "seed {seed}, epoch {epoch}");
            for of in model.keys() {
                let found = world.get_kept(state, *of).await.expect("readable");
                assert_eq!(found.as_ref(), model.get(of), "seed {seed}, epoch {epoch}");
            }
        }
        let open = world.node.shared.kept_shards.count();
        assert!(open <= KEPT_SHARDS_OPEN_MAX, "{open}");
        world.node.shared.kept_shards.forget_unused();
        world.node.shared.kept_shards.forget_unused();
        assert_eq!(world.node.shared.kept_shards.count(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_gone_is_told_to_be_and_nothing_of_it_stays_open() {
    let mut world = World::new(never_flushed()).await;
    world.setup.control.set_trimming(false);
    world.apply(16, rows(16, &[(0, 1, "16")])).await;
    let kept = world.keep(16);
    let at = (0, hash(0, 1));
    assert_eq!(text(world.get_kept(&kept, at).await.expect("there")), "16");
    let mut without_manifest = kept.clone();
    let manifest = proto::state_control::ShardManifest {
        of: proto::state_control::JobLine { job: JOB, line: 9 },
        epoch: Epoch(12),
    };
    without_manifest.manifests.insert(ShardId(0), manifest);
    let missing = world.get_kept(&without_manifest, at).await;
    assert!(missing.is_err(), "{missing:?}");
    let mut without_log = kept.clone();
    without_log.log[0].committed.objects[0].name = "1-16-nothing.rows".to_owned();
    let missing = world.get_kept(&without_log, at).await;
    assert!(
        matches!(&missing, Err(StateError::Damaged(_))),
        "{missing:?}"
    );
    assert_eq!(world.node.shared.kept_shards.count(), 1);
    // A key of another shard is no reason to give an answer.
    let foreign = KeyRequest {
        table: TABLE,
        namespace: 0,
        hash: hash(3, 1),
        sub: None,
    };
    let store = EmbeddedStore::new(world.node.clone());
    let asked = store.read_kept(kept.shard(ShardId(0)), vec![foreign]).await;
    assert!(asked.is_err(), "{asked:?}");
}
