//! A job over a cluster, as its tasks and its coordinator see it.

use std::{collections::BTreeSet, future::Future, time::Duration};

use bytes::Bytes;
use proto::{
    log::LogObject,
    types::{Epoch, Generation, JobId, KeyGroupCount, SinkId, TableId, TaskId},
};
use rpc::Tls;
use state_client::{
    Block, Changes, Cut, EpochDelta, Incarnation, KeyRequest, OutputRequest, ReadRequest,
    StagedOutput, StateControl as _, StateError, StateStore as _,
    page::{RowRef, RunBuilder},
};
use state_service::NodeLimits;

use super::cluster::Cluster;
use crate::{RemoteConfig, RemoteLimits, RemoteStore};

pub(super) const JOB: JobId = JobId(3);
pub(super) const TABLE: TableId = TableId(1);
pub(super) const SINK: SinkId = SinkId(0);
pub(super) const SHARDS: u32 = 4;
/// A test that waits longer for something has hung.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A job over a cluster.
pub(super) struct World {
    pub(super) cluster: Cluster,
    pub(super) store: RemoteStore,
    pub(super) who: Incarnation,
}

/// Requests that are given up soon.
pub(super) fn quick() -> RemoteLimits {
    RemoteLimits {
        connect: Duration::from_millis(500),
        read_deadline: Duration::from_millis(500),
        stage_deadline: Duration::from_millis(800),
        pause_max: Duration::from_millis(100),
        ..RemoteLimits::default()
    }
}

pub(super) fn config(limits: RemoteLimits) -> RemoteConfig {
    RemoteConfig {
        tls: Tls::None,
        seed: 7,
        limits,
    }
}

/// A hash of the shard.
pub(super) fn hash(shard: u32, key: u64) -> u64 {
    (u64::from(shard) << 62) + key
}

/// Rows of (shard, key, value).
pub(super) fn rows(epoch: u64, rows: &[(u32, u64, &[u8])]) -> Changes {
    let mut rows = rows.to_vec();
    rows.sort_unstable();
    let block = |(shard, key, value): &(u32, u64, &[u8])| {
        let mut run = RunBuilder::default();
        run.push(RowRef {
            hash: hash(*shard, *key),
            identity: b"id",
            epoch,
            value: Some(value),
        });
        Block {
            table: TABLE,
            key_group: KeyGroupCount::DEFAULT.of_hash(hash(*shard, *key)),
            namespace: *key as i64,
            run: run.finish(),
        }
    };
    Changes {
        blocks: rows.iter().map(block).collect(),
        ..Changes::default()
    }
}

/// Output of slot 0.
pub(super) fn output(text: &'static str) -> Vec<StagedOutput> {
    vec![StagedOutput {
        sink: SINK,
        slot: 0,
        bytes: Bytes::from_static(text.as_bytes()),
    }]
}

/// Waits for something to come true.
pub(super) async fn until<F: Future<Output = bool>>(what: &str, mut is_true: impl FnMut() -> F) {
    let waiting = async {
        while !is_true().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(waited.is_ok(), "waited in vain: {what}");
}

/// Ends in time, or has hung.
pub(super) async fn in_time<T>(work: impl Future<Output = T>) -> T {
    let ended = tokio::time::timeout(PATIENCE, work).await;
    ended.expect("an end in time")
}

impl World {
    /// A job whose shards 0 and 2 are with node 1, 1 and 3 with node 2.
    pub(super) async fn begin(limits: RemoteLimits) -> World {
        let nodes = NodeLimits {
            request_wait: Duration::from_secs(5),
            ..NodeLimits::default()
        };
        World::with(limits, nodes).await
    }

    pub(super) async fn with(limits: RemoteLimits, nodes: NodeLimits) -> World {
        let cluster = Cluster::start(2, SHARDS, Tls::None, nodes);
        let who = Incarnation {
            job: JOB,
            generation: Generation(1),
        };
        cluster.begin(who).await.expect("begun");
        let store = RemoteStore::new(cluster.routes.clone(), config(limits));
        World {
            cluster,
            store,
            who,
        }
    }

    pub(super) fn delta(&self, epoch: u64, task: u32, tasks: u32, changes: Changes) -> EpochDelta {
        let cut = Cut {
            key_groups: KeyGroupCount::DEFAULT,
            shards: SHARDS,
            tasks,
        };
        EpochDelta::new(self.who, Epoch(epoch), TaskId(task), cut, changes)
    }

    /// Stages in the background.
    pub(super) fn staging(
        &self,
        delta: EpochDelta,
    ) -> tokio::task::JoinHandle<Result<Vec<LogObject>, StateError>> {
        tokio::spawn(self.store.stage(self.who, delta))
    }

    pub(super) async fn stage(&self, delta: EpochDelta) -> Vec<LogObject> {
        let staged = in_time(self.store.stage(self.who, delta)).await;
        staged.expect("staged")
    }

    pub(super) async fn commit(&self, epoch: u64, objects: impl IntoIterator<Item = LogObject>) {
        let objects: BTreeSet<LogObject> = objects.into_iter().collect();
        let objects = objects.into_iter().collect();
        let committed = self
            .cluster
            .commit(self.who, Epoch(epoch), objects, 0)
            .await;
        committed.expect("committed");
    }

    pub(super) async fn try_get(
        &self,
        min_epoch: u64,
        shard: u32,
        key: u64,
    ) -> Result<Vec<Bytes>, StateError> {
        let request = read_request(min_epoch, &[(shard, key)]);
        let reply = in_time(self.store.read(self.who, request)).await?;
        let rows = reply.rows.into_iter().flatten();
        Ok(rows.map(|row| row.value).collect())
    }

    pub(super) async fn get(&self, min_epoch: u64, shard: u32, key: u64) -> Vec<Bytes> {
        let got = self.try_get(min_epoch, shard, key).await;
        got.expect("read")
    }

    /// Output up to an epoch.
    pub(super) async fn owed(&self, up_to: u64) -> Vec<Bytes> {
        let request = OutputRequest {
            sink: SINK,
            after: Epoch::ZERO,
            up_to: Epoch(up_to),
            bytes_max: usize::MAX,
        };
        let owed = in_time(self.store.committed_output(self.who, request)).await;
        let owed = owed.expect("output").into_iter();
        owed.map(|output| output.bytes).collect()
    }
}

/// A read of (shard, key).
pub(super) fn read_request(min_epoch: u64, keys: &[(u32, u64)]) -> ReadRequest {
    let key = |(shard, key): &(u32, u64)| KeyRequest {
        table: TABLE,
        namespace: *key as i64,
        hash: hash(*shard, *key),
        sub: None,
    };
    ReadRequest {
        min_epoch: Epoch(min_epoch),
        keys: keys.iter().map(key).collect(),
    }
}
