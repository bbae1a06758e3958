//! A node over an object store with faults, and the control plane that commits.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use object_store::{ObjectStore as _, memory::InMemory};
use proto::{
    log::LogObject,
    state_control::StateReport,
    types::{Epoch, Generation, JobId, KeyGroupCount, ShardId, SinkId, TableId, TaskId},
};
use state_client::{
    Block, Changes, Cut, EpochDelta, Incarnation, KeyRequest, OutputRequest, ReadRequest,
    StagedOutput, StateControl as _, StateError, StateStore as _,
    page::{RowRef, RunBuilder},
};

use crate::{
    EmbeddedStore, NodeLimits, StateNode,
    testing::{FaultStore, NodeSetup, Request, RequestKind},
};

pub(super) const JOB: JobId = JobId(3);
pub(super) const TABLE: TableId = TableId(1);
pub(super) const SINK: SinkId = SinkId(0);
pub(super) const SHARDS: u32 = 4;

pub(super) const LOG_ROWS: Request = Request {
    kind: RequestKind::Put,
    path: ".rows",
};

pub(super) const LOG_OUT: Request = Request {
    kind: RequestKind::Put,
    path: ".out",
};

pub(super) const LOG_GET: Request = Request {
    kind: RequestKind::Get,
    path: "/log/",
};

pub(super) const SHARD_PUT: Request = Request {
    kind: RequestKind::Put,
    path: "/shards/",
};

/// A node, what it stands on, and the control plane that commits.
pub(super) struct World {
    pub(super) store: Arc<InMemory>,
    pub(super) faults: FaultStore,
    pub(super) setup: NodeSetup,
    pub(super) node: StateNode,
    pub(super) who: Incarnation,
    /// Objects of epochs that are not committed.
    pub(super) staged: BTreeMap<Epoch, Vec<LogObject>>,
}

pub(super) fn never_flushed() -> NodeLimits {
    NodeLimits {
        tail_bytes: usize::MAX,
        shard_tail_bytes: usize::MAX,
        flush_epochs: u64::MAX,
        request_wait: Duration::from_secs(10),
        ..NodeLimits::default()
    }
}

pub(super) fn flushed_after(flush_epochs: u64) -> NodeLimits {
    NodeLimits {
        flush_epochs,
        ..never_flushed()
    }
}

/// A hash of the shard.
pub(super) fn hash(shard: u32, key: u64) -> u64 {
    (u64::from(shard) << 62) + key
}

/// Values of keys of the shards, in namespace 0.
pub(super) fn rows(epoch: u64, values: &[(u32, u64, &str)]) -> Changes {
    rows_in(epoch, 0, values)
}

pub(super) fn rows_in(epoch: u64, namespace: i64, values: &[(u32, u64, &str)]) -> Changes {
    let block = |(shard, key, value): &(u32, u64, &str)| {
        let mut run = RunBuilder::default();
        let hash = hash(*shard, *key);
        let (identity, value) = (&b"id"[..], Some(value.as_bytes()));
        run.push(RowRef {
            hash,
            identity,
            epoch,
            value,
        });
        let key_group = KeyGroupCount::DEFAULT.of_hash(hash);
        Block {
            table: TABLE,
            key_group,
            namespace,
            run: run.finish(),
        }
    };
    Changes {
        blocks: values.iter().map(block).collect(),
        ..Changes::default()
    }
}

pub(super) fn output(text: &str) -> Changes {
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    Changes {
        staged: vec![StagedOutput {
            sink: SINK,
            slot: 0,
            bytes,
        }],
        ..Changes::default()
    }
}

impl World {
    pub(super) async fn new(limits: NodeLimits) -> World {
        let store = Arc::new(InMemory::new());
        let faults = FaultStore::new(store.clone());
        let mut setup = NodeSetup::new(Arc::new(faults.clone()), SHARDS);
        setup.limits = limits;
        let node = setup.start();
        let who = Incarnation {
            job: JOB,
            generation: Generation(1),
        };
        let began = setup.control.begin(who).await;
        assert_eq!(began.expect("begun").restored, Epoch::ZERO);
        World {
            store,
            faults,
            setup,
            node,
            who,
            staged: BTreeMap::new(),
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

    pub(super) async fn stage(&mut self, delta: EpochDelta) {
        let epoch = delta.epoch;
        let objects = self.node.stage(self.who, delta).await.expect("staged");
        let staged = self.staged.entry(epoch).or_default();
        staged.extend(objects);
        staged.sort();
        staged.dedup();
    }

    pub(super) async fn commit(&mut self, epoch: u64) {
        let objects = self.staged.remove(&Epoch(epoch)).unwrap_or_default();
        let committed = self
            .setup
            .control
            .commit(self.who, Epoch(epoch), objects, 0);
        committed.await.expect("committed");
    }

    pub(super) async fn apply(&mut self, epoch: u64, changes: Changes) {
        self.stage(self.delta(epoch, 0, 1, changes)).await;
        self.commit(epoch).await;
    }

    /// Values of the key at an epoch.
    pub(super) async fn get(
        &self,
        min_epoch: u64,
        namespace: i64,
        shard: u32,
        key: u64,
    ) -> Vec<Bytes> {
        self.try_get(self.who, min_epoch, namespace, shard, key)
            .await
            .expect("read")
    }

    pub(super) async fn try_get(
        &self,
        who: Incarnation,
        min_epoch: u64,
        namespace: i64,
        shard: u32,
        key: u64,
    ) -> Result<Vec<Bytes>, StateError> {
        let key = KeyRequest {
            table: TABLE,
            namespace,
            hash: hash(shard, key),
            sub: None,
        };
        let request = ReadRequest {
            min_epoch: Epoch(min_epoch),
            keys: vec![key],
        };
        let store = EmbeddedStore::new(self.node.clone());
        let reply = store.read(who, request).await?;
        let rows = reply.rows.into_iter().flatten();
        Ok(rows.map(|row| row.value).collect())
    }

    pub(super) async fn owed(
        &self,
        after: u64,
        up_to: u64,
        bytes_max: usize,
    ) -> Vec<(u64, String)> {
        let request = OutputRequest {
            sink: SINK,
            after: Epoch(after),
            up_to: Epoch(up_to),
            bytes_max,
        };
        let outputs = self
            .node
            .committed_output(self.who, request)
            .await
            .expect("output");
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        outputs
            .iter()
            .map(|o| (o.epoch.0, text(&o.bytes)))
            .collect()
    }

    /// The node dies, another takes its place.
    pub(super) async fn restart(&mut self) {
        self.setup.control.disconnect();
        self.node.stop().await;
        self.node = self.setup.start();
    }

    pub(super) async fn begin(&mut self, generation: u64) -> Epoch {
        self.who.generation = Generation(generation);
        self.staged.clear();
        let begun = self.setup.control.begin(self.who).await;
        begun.expect("begun").restored
    }

    pub(super) async fn files(&self, ending: &str) -> Vec<String> {
        let listed = self.store.list(None);
        let listed: Vec<_> = futures::StreamExt::collect::<Vec<_>>(listed).await;
        let names = listed
            .into_iter()
            .map(|file| file.expect("listed").location.to_string());
        names.filter(|name| name.ends_with(ending)).collect()
    }

    pub(super) async fn durable(&self, shard: u32, least: u64) {
        let is_it = |report: &StateReport| match report {
            StateReport::Durable {
                shard: of, epoch, ..
            }
            | StateReport::Opened {
                shard: of,
                durable: epoch,
                ..
            } => of.0 == shard && epoch.0 >= least,
            _ => false,
        };
        self.setup.control.reported(is_it).await;
    }
}

pub(super) fn is_unavailable<T>(result: Result<T, StateError>) -> bool {
    matches!(result, Err(StateError::Unavailable(_)))
}

pub(super) fn is_fenced<T>(result: Result<T, StateError>) -> bool {
    matches!(result, Err(StateError::Fenced { .. }))
}

impl World {
    /// Bytes of a shard's tail.
    pub(super) fn load(&self, shard: u32) -> usize {
        let job = self.node.shared.known_job(JOB).expect("the job");
        let shards = job.look_shards();
        let shard = shards
            .iter()
            .find(|of| of.id == ShardId(shard))
            .expect("the shard");
        shard.load().tail_bytes
    }
}
