//! A control plane of one node, in memory: what a node is told and asked, as Raft would.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use proto::{
    log::{LogHolding, LogObject},
    state_control::{CommittedEpoch, LogReferences, OpenShard, StateOrder, StateReport},
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

    /// Whether the node is told that its shards are another's when it asks.
    pub fn set_disowned(&self, disowned: bool) {
        self.inner().disowned = disowned;
    }

    /// Whether objects of the log are deleted when nothing needs them.
    pub fn set_trimming(&self, trimming: bool) {
        self.inner().trimming = trimming;
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
                ..
            }
            | StateReport::Durable { job, shard, epoch } => {
                if let Some(record) = inner.jobs.get_mut(job) {
                    let durable = record.durable.entry(*shard).or_default();
                    *durable = (*durable).max(*epoch);
                }
                inner.trim(*job);
            }
            StateReport::Failed { .. }
            | StateReport::Dropped { .. }
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

impl Inner {
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
                committed: record.committed,
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

    fn log_references(&self, job: JobId) -> BoxFuture<'static, Result<LogReferences, String>> {
        let control = self.clone();
        // The answer is as new as the moment in which it is waited for.
        async move {
            let inner = control.inner();
            let record = inner.jobs.get(&job).ok_or("no such job")?;
            let objects = record.log.iter().flat_map(|entry| &entry.objects);
            Ok(LogReferences {
                generation: record.generation,
                committed: record.committed,
                objects: objects.map(|object| object.name.clone()).collect(),
            })
        }
        .boxed()
    }
}
