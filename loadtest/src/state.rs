//! The state path alone: changed rows are frozen, staged, logged, committed, flushed and compacted on
//! a local directory, as a task and a state node in one process do it.

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use clap::Args;
use engine::{
    key::hash_u64,
    state::{FrozenRows, StateDelta, TableDelta},
};
use object_store::{ObjectStore, local::LocalFileSystem};
use proto::types::{Epoch, Generation, JobId, KeyGroupCount, TableId, TaskId};
use serde::Serialize;
use state_client::{
    Changes, Cut, EpochDelta, Incarnation, KeyRequest, ReadRequest, StateControl as _,
    StateStore as _,
};
use state_service::{
    EmbeddedStore, NodeStats, StateNode,
    testing::{FaultStore, NodeSetup, Request, RequestKind},
};

use crate::figures::{cpu_seconds, thread_cpu_seconds};

const JOB: JobId = JobId(1);
const TABLE: TableId = TableId(0);
/// An identity is a key of eight bytes; the rest of a row is its value.
const IDENTITY_BYTES: usize = 8;
/// Rows that are read back in the end.
const CHECKED_ROWS: u64 = 10_000;
const PATIENCE: Duration = Duration::from_secs(600);

/// A run over the state path.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Changed rows in all.
    #[arg(long, default_value_t = 5_000_000)]
    rows: u64,
    /// Bytes of a row: its identity (8) and its value.
    #[arg(long, default_value_t = 32)]
    row_bytes: usize,
    /// Keys, changed uniformly; 0: every row is a new key.
    #[arg(long, default_value_t = 0)]
    keys: u64,
    /// Changes per epoch.
    #[arg(long, default_value_t = 200_000)]
    epoch_rows: u64,
    /// Tasks that stage each epoch.
    #[arg(long, default_value_t = 2)]
    tasks: u32,
    /// Shards of the job.
    #[arg(long, default_value_t = 4)]
    shards: u32,
    /// Directory, which must not exist or be empty; a temporary one if not given.
    #[arg(long)]
    dir: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report {
    rows: u64,
    row_bytes: usize,
    keys: u64,
    epochs: u64,
    wall_seconds: f64,
    cpu_seconds: f64,
    cpu_seconds_per_million_rows: f64,
    /// Of making and sorting rows alone, which a task does.
    freeze_cpu_seconds_per_million_rows: f64,
    /// Wall time from staging to the commit's order, median and largest.
    stage_ms_p50: f64,
    stage_ms_max: f64,
    log_bytes_written: u64,
    shard_bytes_written: u64,
    requests: BTreeMap<&'static str, u64>,
    files: u64,
    file_bytes: u64,
    flushes: u64,
    compactions: u64,
    rewritten_pages: u64,
    checked_rows: u64,
}

/// Keys of the rows, in the order in which they change: the same at every call.
struct Keys {
    state: u64,
    keys: u64,
    next: u64,
}

impl Keys {
    fn new(keys: u64) -> Self {
        Keys {
            state: 1,
            keys,
            next: 0,
        }
    }

    fn next(&mut self) -> u64 {
        if self.keys == 0 {
            self.next += 1;
            return self.next;
        }
        self.state = hash_u64(self.state);
        self.state % self.keys
    }
}

/// A value that tells the key and the epoch.
fn value(key: u64, epoch: u64, out: &mut Vec<u8>, bytes: usize) {
    let start = out.len();
    out.extend_from_slice(&epoch.to_le_bytes());
    while out.len() - start < bytes {
        let word = hash_u64(key ^ (out.len() - start) as u64);
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.truncate(start + bytes);
}

struct Load<'a> {
    options: &'a Options,
    who: Incarnation,
    node: StateNode,
    setup: NodeSetup,
    keys: Keys,
    freeze_cpu_seconds: f64,
    stage_ms: Vec<f64>,
}

impl Load<'_> {
    /// What each task changes in an epoch.
    fn changes(&mut self, epoch: u64, rows: u64) -> Vec<Changes> {
        let before = thread_cpu_seconds();
        let tasks = u64::from(self.options.tasks);
        let mut frozen: Vec<FrozenRows> = (0..tasks).map(|_| FrozenRows::default()).collect();
        let value_bytes = self.options.row_bytes - IDENTITY_BYTES;
        for _ in 0..rows {
            let key = self.keys.next();
            let hash = hash_u64(key);
            // A task owns a range of key groups.
            let task = ((u128::from(hash) * u128::from(tasks)) >> 64) as usize;
            let identity = |out: &mut Vec<u8>| out.extend_from_slice(&key.to_be_bytes());
            let value = |out: &mut Vec<u8>| value(key, epoch, out, value_bytes);
            frozen[task].push(hash, identity, Some(value));
        }
        let changes = frozen.into_iter().map(|rows| {
            let (table, namespace) = (TABLE, 0);
            let tables = vec![TableDelta {
                table,
                namespace,
                rows,
            }];
            let delta = StateDelta {
                tables,
                ..StateDelta::default()
            };
            delta.into_changes(Epoch(epoch), KeyGroupCount::DEFAULT)
        });
        let changes = changes.collect();
        self.freeze_cpu_seconds += thread_cpu_seconds() - before;
        changes
    }

    async fn epoch(&mut self, epoch: u64, rows: u64) -> anyhow::Result<()> {
        let changes = self.changes(epoch, rows);
        let tasks = self.options.tasks;
        let cut = Cut {
            key_groups: KeyGroupCount::DEFAULT,
            shards: self.options.shards,
            tasks,
        };
        let started = tokio::time::Instant::now();
        let mut staging = tokio::task::JoinSet::new();
        for (task, changes) in (0..tasks).zip(changes) {
            let delta = EpochDelta::new(self.who, Epoch(epoch), TaskId(task), cut, changes);
            let (node, who) = (self.node.clone(), self.who);
            staging.spawn(async move { node.stage(who, delta).await });
        }
        let mut objects = Vec::new();
        for staged in staging.join_all().await {
            objects.extend(staged?);
        }
        objects.sort();
        objects.dedup();
        let control = &self.setup.control;
        control.commit(self.who, Epoch(epoch), objects, 0).await?;
        self.stage_ms.push(started.elapsed().as_secs_f64() * 1e3);
        Ok(())
    }

    /// Reads rows back and compares them with what was written last.
    async fn check(&self, epochs: u64) -> anyhow::Result<u64> {
        let mut keys = Keys::new(self.options.keys);
        let step = (self.options.rows / CHECKED_ROWS).max(1);
        let mut wanted: BTreeMap<u64, u64> = BTreeMap::new();
        for row in 0..self.options.rows {
            let (key, epoch) = (keys.next(), 1 + row / self.options.epoch_rows);
            let sampled = hash_u64(key ^ 77).is_multiple_of(step);
            if sampled {
                wanted.insert(key, epoch);
            }
        }
        let store = EmbeddedStore::new(self.node.clone());
        let checked: Vec<(u64, u64)> = wanted.into_iter().collect();
        for part in checked.chunks(1000) {
            let request = ReadRequest {
                min_epoch: Epoch(epochs),
                keys: part
                    .iter()
                    .map(|(key, _)| KeyRequest {
                        table: TABLE,
                        namespace: 0,
                        hash: hash_u64(*key),
                        sub: None,
                    })
                    .collect(),
            };
            let reply = store.read(self.who, request).await?;
            for ((key, epoch), rows) in part.iter().zip(reply.rows) {
                let mut expected = Vec::new();
                value(
                    *key,
                    *epoch,
                    &mut expected,
                    self.options.row_bytes - IDENTITY_BYTES,
                );
                let right = rows.len() == 1 && rows[0].value == expected;
                ensure!(
                    right,
                    "key {key} is not what epoch {epoch} made it: {rows:?}"
                );
            }
        }
        Ok(checked.len() as u64)
    }
}

/// Runs the state path; its figures.
pub(crate) fn run(options: &Options) -> anyhow::Result<String> {
    let least = IDENTITY_BYTES + 8;
    ensure!(
        options.row_bytes >= least,
        "a row has at least {least} bytes"
    );
    ensure!(
        options.epoch_rows > 0 && options.tasks > 0,
        "there must be rows and tasks"
    );
    let temporary = tempfile::tempdir().context("a temporary directory")?;
    let folder = options.dir.as_deref().unwrap_or(temporary.path());
    fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
    let threads = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let store = FaultStore::new(Arc::new(LocalFileSystem::new_with_prefix(folder)?));
    let report = threads.block_on(drive(options, store, folder))?;
    Ok(serde_json::to_string_pretty(&report)?)
}

async fn drive(
    options: &Options,
    store: FaultStore,
    folder: &std::path::Path,
) -> anyhow::Result<Report> {
    let shared: Arc<dyn ObjectStore> = Arc::new(store.clone());
    let setup = NodeSetup::new(shared, options.shards);
    let who = Incarnation {
        job: JOB,
        generation: Generation(1),
    };
    let node = setup.start();
    setup.control.begin(who).await?;
    let mut load = Load {
        options,
        who,
        node: node.clone(),
        setup,
        keys: Keys::new(options.keys),
        freeze_cpu_seconds: 0.0,
        stage_ms: Vec::new(),
    };
    let (started, cpu_before) = (tokio::time::Instant::now(), cpu_seconds("self"));
    let epochs = options.rows.div_ceil(options.epoch_rows);
    for epoch in 1..=epochs {
        let before = (epoch - 1) * options.epoch_rows;
        load.epoch(epoch, options.epoch_rows.min(options.rows - before))
            .await?;
    }
    node.settle(PATIENCE).await?;
    let (wall_seconds, cpu_used) = (
        started.elapsed().as_secs_f64(),
        cpu_seconds("self") - cpu_before,
    );
    let stats: NodeStats = node.stats();
    let count = |kind, path| store.count(Request { kind, path });
    let (log, shards) = (
        count(RequestKind::Put, "/log/"),
        count(RequestKind::Put, "/shards/"),
    );
    let (files, file_bytes) = files(folder)?;
    let checked_rows = load.check(epochs).await?;
    node.stop().await;
    load.stage_ms.sort_by(f64::total_cmp);
    let per_million = |seconds: f64| seconds * 1e6 / options.rows as f64;
    Ok(Report {
        rows: options.rows,
        row_bytes: options.row_bytes,
        keys: options.keys,
        epochs,
        wall_seconds,
        cpu_seconds: cpu_used,
        cpu_seconds_per_million_rows: per_million(cpu_used),
        freeze_cpu_seconds_per_million_rows: per_million(load.freeze_cpu_seconds),
        stage_ms_p50: load.stage_ms[load.stage_ms.len() / 2],
        stage_ms_max: load.stage_ms.last().copied().unwrap_or_default(),
        log_bytes_written: log.1,
        shard_bytes_written: shards.1,
        requests: requests(&store),
        files,
        file_bytes,
        flushes: stats.flushes,
        compactions: stats.compactions,
        rewritten_pages: stats.rewritten_pages,
        checked_rows,
    })
}

/// Requests by what they were for.
fn requests(store: &FaultStore) -> BTreeMap<&'static str, u64> {
    let count = |kind, path| store.count(Request { kind, path }).0;
    BTreeMap::from([
        ("log_put", count(RequestKind::Put, "/log/")),
        ("log_get", count(RequestKind::Get, "/log/")),
        ("shard_put", count(RequestKind::Put, "/shards/")),
        ("shard_get", count(RequestKind::Get, "/shards/")),
        ("list", count(RequestKind::List, "")),
        ("delete", count(RequestKind::Delete, "")),
    ])
}

/// Files below a folder and their bytes.
fn files(folder: &std::path::Path) -> anyhow::Result<(u64, u64)> {
    let mut sum = (0, 0);
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            let (files, bytes) = files(&entry.path())?;
            sum = (sum.0 + files, sum.1 + bytes);
        } else if let Ok(metadata) = entry.metadata() {
            // It may have been deleted in between.
            sum = (sum.0 + 1, sum.1 + metadata.len());
        }
    }
    Ok(sum)
}
