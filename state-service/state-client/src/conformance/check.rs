//! A store under test, and what is done to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use proto::{
    log::LogObject,
    types::{Epoch, Generation, KeyGroupCount, TaskId},
};

use super::{JOB, Pair, SHARDS, TABLE};
use crate::{
    Block, Changes, Cut, EpochDelta, Incarnation, KeyRequest, LoadedRow, ReadRequest, ScanRequest,
    StateControl, StateStore,
    page::{RowRef, RunBuilder},
};

pub(super) struct Check {
    pub(super) store: Arc<dyn StateStore>,
    pub(super) control: Arc<dyn StateControl>,
    pub(super) who: Incarnation,
    /// What was staged and not yet committed.
    pub(super) log: Mutex<BTreeMap<Epoch, BTreeSet<LogObject>>>,
    /// The newest committed epoch, at which reads are made.
    pub(super) committed: Mutex<Epoch>,
}

/// The epoch of this number in a history: not before the first one that a generation may use.
pub(super) fn epoch(number: u64) -> Epoch {
    Epoch(Epoch::GENERATION_GAP + number)
}

/// (namespace, hash, identity, value)
pub(super) type Change<'a> = (i64, u64, &'a [u8], Option<&'a [u8]>);

impl Check {
    pub(super) async fn begin((store, control): Pair) -> Check {
        let who = Incarnation {
            job: JOB,
            generation: Generation(1),
        };
        let begun = control.begin(who).await.expect("begun");
        assert_eq!(begun.restored, Epoch::ZERO);
        Check {
            store,
            control,
            who,
            log: Mutex::default(),
            committed: Mutex::default(),
        }
    }

    pub(super) fn changes(number: u64, changes: &[Change<'_>]) -> Changes {
        let groups = KeyGroupCount::DEFAULT;
        let mut sorted = changes.to_vec();
        sorted.sort_unstable_by_key(|c| (groups.of_hash(c.1), c.0, c.1, c.2));
        let mut runs: BTreeMap<_, RunBuilder> = BTreeMap::new();
        for (namespace, hash, identity, value) in sorted {
            let run = runs.entry((groups.of_hash(hash), namespace)).or_default();
            run.push(RowRef {
                hash,
                identity,
                epoch: epoch(number).0,
                value,
            });
        }
        let block = |((key_group, namespace), run): (_, RunBuilder)| Block {
            table: TABLE,
            key_group,
            namespace,
            run: run.finish(),
        };
        Changes {
            blocks: runs.into_iter().map(block).collect(),
            ..Changes::default()
        }
    }

    /// A task's delta; `tasks` of them make the epoch.
    pub(super) fn delta(&self, number: u64, task: u32, tasks: u32, changes: Changes) -> EpochDelta {
        let cut = Cut {
            key_groups: KeyGroupCount::DEFAULT,
            shards: SHARDS,
            tasks,
        };
        EpochDelta::new(self.who, epoch(number), TaskId(task), cut, changes)
    }

    /// Begins the generation of `who`; the epoch that it starts from.
    pub(super) async fn begin_next(&self) -> Epoch {
        let begun = self.control.begin(self.who).await.expect("begun");
        let again = self.control.begin(self.who).await;
        assert_eq!(again, Ok(begun), "asked again");
        assert!(begun.first.0 >= begun.restored.0 + Epoch::GENERATION_GAP);
        begun.restored
    }

    pub(super) async fn stage(&self, delta: EpochDelta) {
        let (epoch, empty) = (delta.epoch, delta.is_empty());
        let objects = self.store.stage(self.who, delta).await.expect("stage");
        let is_committed = epoch <= *self.committed.lock().expect("not poisoned");
        assert!(is_committed || empty == objects.is_empty());
        let mut log = self.log.lock().expect("not poisoned");
        log.entry(epoch).or_default().extend(objects);
    }

    pub(super) async fn commit(&self, number: u64) {
        let epoch = epoch(number);
        let objects = self.log.lock().expect("not poisoned").remove(&epoch);
        let objects = objects.unwrap_or_default().into_iter().collect();
        let committed = self.control.commit(self.who, epoch, objects, 0).await;
        committed.expect("commit");
        *self.committed.lock().expect("not poisoned") = epoch;
    }

    pub(super) fn committed(&self) -> Epoch {
        *self.committed.lock().expect("not poisoned")
    }

    pub(super) async fn apply(&self, number: u64, changes: &[Change<'_>]) {
        let changes = Self::changes(number, changes);
        self.stage(self.delta(number, 0, 1, changes)).await;
        self.commit(number).await;
    }

    pub(super) async fn read(&self, namespace: i64, hash: u64, sub: Option<u64>) -> Vec<LoadedRow> {
        let key = KeyRequest {
            table: TABLE,
            namespace,
            hash,
            sub,
        };
        let request = ReadRequest {
            min_epoch: self.committed(),
            keys: vec![key],
        };
        let mut reply = self.store.read(self.who, request).await.expect("read");
        assert_eq!(reply.rows.len(), 1);
        reply.rows.remove(0)
    }

    pub(super) async fn values(&self, namespace: i64, hash: u64) -> Vec<String> {
        let text = |row: LoadedRow| {
            let utf8 = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
            format!("{}={}", utf8(&row.identity), utf8(&row.value))
        };
        self.read(namespace, hash, None)
            .await
            .into_iter()
            .map(text)
            .collect()
    }

    pub(super) async fn scan(&self, hash: u64, bytes_max: usize) -> Vec<LoadedRow> {
        let mut rows = Vec::new();
        let mut cursor = None;
        loop {
            let request = ScanRequest {
                min_epoch: self.committed(),
                table: TABLE,
                key_group: KeyGroupCount::DEFAULT.of_hash(hash),
                namespace: None,
                cursor,
                bytes_max,
            };
            let reply = self.store.scan(self.who, request).await.expect("scan");
            rows.extend(reply.rows);
            cursor = reply.cursor;
            if cursor.is_none() {
                return rows;
            }
        }
    }
}
