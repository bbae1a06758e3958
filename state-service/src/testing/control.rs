//! A control plane of one node, in memory: what a node is told and asked, as Raft would.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use proto::{
    log::{LogHolding, LogObject},
    state_control::{
        CommittedEpoch, DatabaseReference, InheritedEpoch, JobLine, JobReferences, OpenShard,
        ShardFiles, ShardManifest, StateOrder, StateReport,
    },
    types::{Epoch, Generation, JobId, KeyGroupCount, ShardId, SinkId},
};
use state_client::{Begun, Dropped, Incarnation, StateControl, StateError};
use tokio::{sync::watch, task::JoinHandle};

use crate::{ControlView, ReportReceiver, StateNode};

/// How long a report is waited for that must come.
const REPORT_WAIT: Duration = Duration::from_secs(60);

/// A control plane of one node. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct TestControl {
    shards: u32,
    inner: Arc<Mutex<Inner>>,
    heard: watch::Sender<()>,
}

#[derive(Default)]
struct Inner {
    node: Option<StateNode>,
    listener: Option<JoinHandle<()>>,
    jobs: BTreeMap<JobId, Record>,
    reports: Vec<StateReport>,
    /// How often the shards were given to a node.
    ownership: u64,
    disowned: bool,
    trimming: bool,
}

#[derive(Default)]
struct Record {
    generation: Generation,
    committed: Epoch,
    /// First epoch of the generation.
    first: Epoch,
    /// Epochs with objects that something needs.
    log: Vec<CommittedEpoch>,
    /// How often it went back.
    line: u64,
    /// What shards are cloned from.
    bases: BTreeMap<ShardId, ShardManifest>,
    inherited: Vec<InheritedEpoch>,
    /// Manifests of the line that were reported, oldest first.
    manifests: BTreeMap<ShardId, Vec<Epoch>>,
    /// The newest manifest that is not needed, if there are newer ones.
    unpinned: Epoch,
    parents: BTreeMap<ShardId, Vec<JobLine>>,
    durable: BTreeMap<ShardId, Epoch>,
    published: BTreeMap<SinkId, Epoch>,
}

impl TestControl {
    /// No job yet; jobs have `shards` shards.
    #[must_use]
    pub fn new(shards: u32) -> Self {
        TestControl {
            shards,
            inner: Arc::new(Mutex::new(Inner {
                trimming: true,
                ..Inner::default()
            })),
            heard: watch::channel(()).0,
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on this node has all shards.
    pub fn connect(&self, node: &StateNode, mut reports: ReportReceiver) {
        let control = self.clone();
        let listener = tokio::spawn(async move {
            loop {
                control.hear(reports.recv().await);
            }
        });
        let mut inner = self.inner();
        inner.node = Some(node.clone());
        inner.ownership += 1;
        if let Some(before) = inner.listener.replace(listener) {
            before.abort();
        }
        let jobs: Vec<JobId> = inner.jobs.keys().copied().collect();
        jobs.into_iter()
            .for_each(|job| inner.open(job, self.shards));
    }

    /// Lets go of the node.
    pub fn disconnect(&self) -> Option<StateNode> {
        let mut inner = self.inner();
        if let Some(listener) = inner.listener.take() {
            listener.abort();
        }
        inner.node.take()
    }

    /// Reports of the node do not arrive any more.
    pub fn deafen(&self) {
        if let Some(listener) = self.inner().listener.take() {
            listener.abort();
        }
    }

    /// Whether the node is told that its shards are another's when it asks.
    pub fn set_disowned(&self, disowned: bool) {
        self.inner().disowned = disowned;
    }

    /// Whether objects of the log are deleted when nothing needs them.
    pub fn set_trimming(&self, trimming: bool) {
        self.inner().trimming = trimming;
    }

    /// A job of the number begins with the newest state of another.
    pub fn fork(&self, source: JobId, fork: JobId) {
        let mut inner = self.inner();
        let Some(of) = inner.jobs.get(&source) else {
            return;
        };
        let inherit = |committed: &CommittedEpoch| InheritedEpoch {
            job: source,
            committed: committed.clone(),
        };
        let record = Record {
            committed: of.committed,
            bases: of.newest(source, of.committed),
            inherited: of.log.iter().map(inherit).collect(),
            ..Record::default()
        };
        inner.jobs.insert(fork, record);
    }

    /// What a copy of the job's newest state begins with, and the rows after it.
    #[must_use]
    pub fn newest(&self, job: JobId) -> (BTreeMap<ShardId, ShardManifest>, Vec<InheritedEpoch>) {
        let inner = self.inner();
        let Some(record) = inner.jobs.get(&job) else {
            return Default::default();
        };
        let committed = record.log.iter().cloned();
        let log = committed.map(|committed| InheritedEpoch { job, committed });
        (record.newest(job, record.committed), log.collect())
    }

    /// A job of the number begins with what was imported as another one's.
    pub fn begin_with(&self, imported: JobId, job: JobId, epoch: Epoch) {
        let manifest = ShardManifest {
            of: JobLine {
                job: imported,
                line: 0,
            },
            epoch,
        };
        let record = Record {
            committed: epoch,
            bases: (0..self.shards)
                .map(|shard| (ShardId(shard), manifest))
                .collect(),
            ..Record::default()
        };
        self.inner().jobs.insert(job, record);
    }

    /// A job goes back to an epoch.
    pub fn take_back(&self, job: JobId, epoch: Epoch) {
        let mut inner = self.inner();
        inner.ownership += 1;
        if let Some(record) = inner.jobs.get_mut(&job) {
            record.bases = record.newest(job, epoch);
            record.log.retain(|entry| entry.epoch <= epoch);
            record.first = record.first.max(record.committed);
            record.committed = epoch;
            record.line += 1;
            record.durable.clear();
            record.manifests.clear();
        }
    }

    /// Manifests up to the epoch are needed no more, if there are newer ones.
    pub fn unpin(&self, job: JobId, epoch: Epoch) {
        if let Some(record) = self.inner().jobs.get_mut(&job) {
            record.unpinned = epoch;
        }
    }

    /// Databases whose files a job's shards refer to, as was reported.
    #[must_use]
    pub fn parents(&self, job: JobId) -> BTreeMap<ShardId, Vec<JobLine>> {
        let inner = self.inner();
        let record = inner.jobs.get(&job);
        record
            .map(|record| record.parents.clone())
            .unwrap_or_default()
    }

    /// Gives the orders to open a job's shards again.
    pub fn open(&self, job: JobId) {
        self.inner().open(job, self.shards);
    }

    /// Gives an order.
    pub fn order(&self, order: StateOrder) {
        self.inner().order(order);
    }

    /// Everything that was reported.
    #[must_use]
    pub fn reports(&self) -> Vec<StateReport> {
        self.inner().reports.clone()
    }

    /// What the job's log still consists of.
    #[must_use]
    pub fn log(&self, job: JobId) -> Vec<CommittedEpoch> {
        let inner = self.inner();
        inner
            .jobs
            .get(&job)
            .map(|job| job.log.clone())
            .unwrap_or_default()
    }

    /// Waits for a report; those from before count.
    ///
    /// # Panics
    /// When it does not come within a minute.
    pub async fn reported(&self, wanted: impl Fn(&StateReport) -> bool) {
        let reported = tokio::time::timeout(REPORT_WAIT, self.heard_of(wanted)).await;
        let reports = || self.reports();
        assert!(reported.is_ok(), "no such report came: {:?}", reports());
    }

    async fn heard_of(&self, wanted: impl Fn(&StateReport) -> bool) {
        let mut heard = self.heard.subscribe();
        loop {
            heard.mark_unchanged();
            if self.inner().reports.iter().any(&wanted) {
                return;
            }
            // The sender is ours.
            drop(heard.changed().await);
        }
    }

    fn hear(&self, report: StateReport) {
        let mut inner = self.inner();
        match &report {
            StateReport::Opened {
                job,
                shard,
                durable: epoch,
                files,
                ..
            }
            | StateReport::Durable {
                job,
                shard,
                epoch,
                files,
            } => {
                if let Some(record) = inner.jobs.get_mut(job) {
                    record.hear(*shard, *epoch, files);
                }
                inner.trim(*job);
            }
            StateReport::Failed { .. }
            | StateReport::Dropped { .. }
            | StateReport::Transfer { .. }
            | StateReport::Degraded { .. } => {}
        }
        inner.reports.push(report);
        drop(inner);
        self.heard.send_replace(());
    }

    fn with<T>(
        &self,
        who: Incarnation,
        act: impl FnOnce(&mut Inner) -> T,
    ) -> Result<T, StateError> {
        let mut inner = self.inner();
        let job = inner.jobs.get(&who.job);
        let current = job.ok_or(StateError::UnknownJob(who.job))?.generation;
        if who.generation != current {
            return Err(StateError::Fenced {
                job: who.job,
                caller: who.generation,
                current,
            });
        }
        Ok(act(&mut inner))
    }
}

impl Record {
    /// The newest manifest of each shard up to an epoch.
    fn newest(&self, job: JobId, up_to: Epoch) -> BTreeMap<ShardId, ShardManifest> {
        let line = self.line;
        let mut newest = self.bases.clone();
        for (shard, manifests) in &self.manifests {
            let found = manifests.iter().rev().find(|epoch| **epoch <= up_to);
            if let Some(epoch) = found.copied() {
                let of = JobLine { job, line };
                newest.insert(*shard, ShardManifest { of, epoch });
            }
        }
        newest
    }

    fn hear(&mut self, shard: ShardId, epoch: Epoch, files: &ShardFiles) {
        if files.line != self.line {
            return;
        }
        let durable = self.durable.entry(shard).or_default();
        *durable = (*durable).max(epoch);
        self.parents.insert(shard, files.parents.clone());
        let known = self.manifests.entry(shard).or_default();
        if files.manifest > known.last().copied().unwrap_or_default() {
            known.push(files.manifest);
        }
    }

    /// Manifests that are needed: the newest one in any case.
    fn pinned(&self, shard: ShardId) -> Vec<Epoch> {
        let known = self.manifests.get(&shard).map(Vec::as_slice);
        let Some([older @ .., newest]) = known else {
            return Vec::new();
        };
        let older = older.iter().filter(|epoch| **epoch > self.unpinned);
        older.chain([newest]).copied().collect()
    }
}

impl Inner {
    /// Databases of a job that something needs.
    fn databases(&self, job: JobId, shards: u32) -> Vec<DatabaseReference> {
        let Some(record) = self.jobs.get(&job) else {
            return Vec::new();
        };
        let mut needed: BTreeMap<(u64, ShardId), Vec<Epoch>> = BTreeMap::new();
        for shard in (0..shards).map(ShardId) {
            needed.insert((record.line, shard), record.pinned(shard));
        }
        for other in self.jobs.values() {
            for (shard, base) in other.bases.iter().filter(|(_, base)| base.of.job == job) {
                let manifests = needed.entry((base.of.line, *shard)).or_default();
                manifests.push(base.epoch);
                manifests.sort_unstable();
            }
            for (shard, parents) in &other.parents {
                for parent in parents.iter().filter(|parent| parent.job == job) {
                    needed.entry((parent.line, *shard)).or_default();
                }
            }
        }
        let needed = needed.into_iter();
        let reference = |((line, shard), manifests)| DatabaseReference {
            line,
            shard,
            manifests,
        };
        needed.map(reference).collect()
    }

    fn order(&self, order: StateOrder) {
        if let Some(node) = &self.node {
            node.order(order);
        }
    }

    fn open(&mut self, job: JobId, shards: u32) {
        let Some(record) = self.jobs.get(&job) else {
            return;
        };
        let holding = |wanted: fn(&LogObject) -> bool| -> Vec<CommittedEpoch> {
            let of_epoch = |entry: &CommittedEpoch| CommittedEpoch {
                epoch: entry.epoch,
                objects: entry
                    .objects
                    .iter()
                    .filter(|o| wanted(o))
                    .cloned()
                    .collect(),
            };
            let entries = record.log.iter().map(of_epoch);
            entries.filter(|entry| !entry.objects.is_empty()).collect()
        };
        let rows = holding(|object| matches!(object.holds, LogHolding::Rows(_)));
        let output = holding(|object| matches!(object.holds, LogHolding::Output(_)));
        for shard in 0..shards {
            self.order(StateOrder::Open(OpenShard {
                job,
                shard: ShardId(shard),
                ownership: self.ownership,
                generation: record.generation,
                key_groups: KeyGroupCount::DEFAULT,
                shards,
                line: record.line,
                base: record.bases.get(&ShardId(shard)).copied(),
                committed: record.committed,
                inherited: record.inherited.clone(),
                log: rows.clone(),
                output: if shard == 0 {
                    output.clone()
                } else {
                    Vec::new()
                },
            }));
        }
        for (sink, epoch) in record.published.clone() {
            self.order(StateOrder::Published { job, sink, epoch });
        }
    }

    /// Deletes what nothing needs any more.
    fn trim(&mut self, job: JobId) {
        if !self.trimming {
            return;
        }
        let Some(record) = self.jobs.get_mut(&job) else {
            return;
        };
        let (durable, published) = (&record.durable, &record.published);
        let needed = |epoch: Epoch, object: &LogObject| match &object.holds {
            LogHolding::Rows(shards) => shards
                .iter()
                .any(|shard| durable.get(shard).is_none_or(|done| *done < epoch)),
            LogHolding::Output(sinks) => sinks
                .iter()
                .any(|sink| published.get(sink).is_none_or(|done| *done < epoch)),
        };
        let mut objects = Vec::new();
        for entry in &mut record.log {
            let epoch = entry.epoch;
            let gone = entry
                .objects
                .extract_if(.., |object| !needed(epoch, object));
            objects.extend(gone.map(|object| object.name));
        }
        record.log.retain(|entry| !entry.objects.is_empty());
        if !objects.is_empty() {
            self.order(StateOrder::Trim { job, objects });
        }
    }
}

impl StateControl for TestControl {
    fn begin(&self, who: Incarnation) -> BoxFuture<'static, Result<Begun, StateError>> {
        let control = self.clone();
        async move {
            let mut inner = control.inner();
            let record = inner.jobs.entry(who.job).or_default();
            if who.generation < record.generation {
                return Err(StateError::Fenced {
                    job: who.job,
                    caller: who.generation,
                    current: record.generation,
                });
            }
            if who.generation > record.generation {
                record.generation = who.generation;
                let (committed, first) = (record.committed, record.first);
                record.first = Epoch::first_of_generation(committed, first, committed);
            }
            let begun = Begun {
                restored: record.committed,
                first: record.first,
            };
            inner.open(who.job, control.shards);
            Ok(begun)
        }
        .boxed()
    }

    fn commit(
        &self,
        who: Incarnation,
        epoch: Epoch,
        objects: Vec<LogObject>,
        _overtaken_bytes: u64,
    ) -> BoxFuture<'static, Result<(), StateError>> {
        let control = self.clone();
        async move {
            control.with(who, |inner| {
                let Some(record) = inner.jobs.get_mut(&who.job) else {
                    return;
                };
                if epoch <= record.committed {
                    return;
                }
                let previous = std::mem::replace(&mut record.committed, epoch);
                let committed = CommittedEpoch { epoch, objects };
                if !committed.objects.is_empty() {
                    record.log.push(committed.clone());
                }
                inner.order(StateOrder::Committed {
                    job: who.job,
                    generation: who.generation,
                    previous,
                    committed,
                    traceparent: None,
                });
            })
        }
        .boxed()
    }

    fn published(
        &self,
        who: Incarnation,
        sink: SinkId,
        epoch: Epoch,
    ) -> BoxFuture<'static, Result<(), StateError>> {
        let control = self.clone();
        async move {
            control.with(who, |inner| {
                if let Some(record) = inner.jobs.get_mut(&who.job) {
                    let published = record.published.entry(sink).or_default();
                    *published = (*published).max(epoch);
                }
                let job = who.job;
                inner.order(StateOrder::Published { job, sink, epoch });
                inner.trim(job);
            })
        }
        .boxed()
    }

    fn drop_job(&self, job: JobId) -> BoxFuture<'static, Result<Dropped, StateError>> {
        let control = self.clone();
        async move {
            let mut inner = control.inner();
            inner.jobs.remove(&job);
            let shards = control.shards;
            inner.order(StateOrder::Drop { job, shards });
            Ok(Dropped::Files)
        }
        .boxed()
    }
}

impl ControlView for TestControl {
    fn owns(&self, job: JobId, _shard: ShardId) -> BoxFuture<'static, Result<bool, String>> {
        let inner = self.inner();
        let owns = !inner.disowned && inner.jobs.contains_key(&job);
        async move { Ok(owns) }.boxed()
    }

    fn references(&self, job: JobId) -> BoxFuture<'static, Result<JobReferences, String>> {
        let control = self.clone();
        // The answer is as new as the moment in which it is waited for.
        async move {
            let inner = control.inner();
            let record = inner.jobs.get(&job).ok_or("no such job")?;
            let objects = record.log.iter().flat_map(|entry| &entry.objects);
            Ok(JobReferences {
                generation: record.generation,
                committed: record.committed,
                ended: false,
                objects: objects.map(|object| object.name.clone()).collect(),
                databases: inner.databases(job, control.shards),
            })
        }
        .boxed()
    }
}
