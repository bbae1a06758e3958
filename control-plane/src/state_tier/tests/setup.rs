//! A tier, its metadata, and nodes that check what they are told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use coordinator::{
    JobState,
    meta::{Answer, Change, Command, JobRecord, JobSpec, Outcome},
};
use futures::FutureExt as _;
use proto::{
    control::JobOptions,
    log::{LogHolding, LogObject},
    plan::Plan,
    state_control::{CommittedEpoch, StateOrder, StateReport},
    types::{Epoch, Generation, JobId, ShardId, SinkId, StateNodeId},
};
use state_client::{Begun, Incarnation, StateControl as _, StateError};
use tokio::task::JoinHandle;

use super::metadata::TestMetadata;
use crate::{
    StateNodeLink,
    caps::STATE_NODE_RETURN,
    metadata::{Metadata as _, look},
    state_tier::{StateNodeSession, StateTier, StateTierStatus},
};

pub(super) const JOB: JobId = JobId(1);

/// A tier under test. Its first job is [`JOB`].
pub(super) struct Bed {
    pub(super) metadata: TestMetadata,
    pub(super) tier: StateTier,
    pub(super) driver: JoinHandle<()>,
}

/// Requests of tests to the log, whichever tier they go past.
static REQUESTS: AtomicU64 = AtomicU64::new(0);

impl Bed {
    /// A tier and a job of `shards` shards.
    pub(super) async fn new(shards: u32) -> Bed {
        let metadata = TestMetadata::new();
        let bed = Bed::over(metadata, 1);
        assert_eq!(bed.accept(shards).await, JOB);
        bed
    }

    /// Another leader's tier over the same metadata.
    pub(super) fn over(metadata: TestMetadata, seed: u64) -> Bed {
        let (tier, driver) = StateTier::new(Arc::new(metadata.clone()), seed);
        let driver = tokio::spawn(driver.run());
        Bed {
            metadata,
            tier,
            driver,
        }
    }

    pub(super) async fn change(&self, change: Change) -> Answer {
        let request = REQUESTS.fetch_add(1, Ordering::Relaxed);
        let command = Command { request, change };
        self.metadata.log.propose(command).await.expect("a log")
    }

    pub(super) async fn accept(&self, shards: u32) -> JobId {
        let plan = Plan {
            key_groups: 256,
            ..Plan::default()
        };
        let spec = JobSpec {
            name: "job".into(),
            sql: "SELECT 1".into(),
            plan: Arc::new(plan),
            options: JobOptions {
                shards,
                retained_checkpoints: 1,
                ..JobOptions::default()
            },
            select: None,
            origin: None,
            tables_max: 0,
        };
        let accept = Change::Accept {
            catalog: None,
            statements: None,
            jobs: vec![spec],
            now_ms: 0,
            seed: 0,
        };
        match self.change(accept).await {
            Answer::Accepted { jobs } => jobs[0],
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn end(&self, job: JobId) {
        let outcome = Outcome {
            state: JobState::Finished,
            error: None,
            at_ms: 0,
        };
        let ended = self.change(Change::End { job, outcome }).await;
        assert_eq!(ended, Answer::Done);
    }

    /// A node that is connected.
    pub(super) async fn node(&self, id: u64) -> FakeNode {
        let node = FakeNode::new(id);
        self.join(&node).await;
        node
    }

    /// The node connects, and knows what it knew.
    pub(super) async fn join(&self, node: &FakeNode) -> StateNodeSession {
        node.connect();
        let address = format!("sn-{}:1", node.id.0);
        let link = Arc::new(node.clone());
        let session = self.tier.join(node.id, address, link).await;
        node.seen().session = Some(session);
        settle().await;
        session
    }

    /// The node's stream breaks.
    pub(super) async fn leave(&self, node: &FakeNode) {
        node.seen().up = false;
        let session = node.seen().session.take().expect("joined");
        self.tier.leave(session).await;
        settle().await;
    }

    /// The process dies, with all that it knew.
    pub(super) async fn kill(&self, node: &FakeNode) {
        self.leave(node).await;
        let mut seen = node.seen();
        seen.heard.clear();
        seen.jobs.clear();
    }

    pub(super) async fn report(&self, node: &FakeNode, report: StateReport) {
        let session = node.seen().session.expect("joined");
        self.tier.report(session, report).await;
        settle().await;
    }

    pub(super) async fn begin(&self, generation: u64) -> Result<Begun, StateError> {
        self.tier.begin(who(generation)).await
    }

    /// Commits an epoch whose objects are named after it: rows of shards 0 and 1, output of sink 0.
    pub(super) async fn commit(&self, generation: u64, epoch: u64) -> Result<(), StateError> {
        let committed = self
            .tier
            .commit(who(generation), Epoch(epoch), objects(epoch), 0);
        committed.await
    }

    /// A request that nobody waits for at once.
    pub(super) fn commit_later(
        &self,
        generation: u64,
        epoch: u64,
    ) -> JoinHandle<Result<(), StateError>> {
        let committed = self
            .tier
            .commit(who(generation), Epoch(epoch), objects(epoch), 0);
        tokio::spawn(committed)
    }

    pub(super) fn begin_later(&self, generation: u64) -> JoinHandle<Result<Begun, StateError>> {
        tokio::spawn(self.tier.begin(who(generation)))
    }

    pub(super) async fn record(&self, job: JobId) -> Option<JobRecord> {
        let record = look(&self.metadata.log, move |state| {
            state.jobs.get(&job).cloned()
        });
        record.await.expect("a log")
    }

    /// Owners of the job's shards in the metadata, by number.
    pub(super) async fn owners(&self) -> Vec<u64> {
        let record = self.record(JOB).await.expect("the job");
        record.owners.values().map(|node| node.0).collect()
    }

    pub(super) async fn status(&self) -> StateTierStatus {
        self.tier.status().await.expect("the tier lives")
    }

    pub(super) async fn degraded(&self) -> String {
        let degraded = self.status().await.degraded;
        degraded.get(&JOB).cloned().unwrap_or_default()
    }

    /// As long as shards wait for a node whose stream has broken.
    pub(super) async fn pass_return(&self) {
        pass(STATE_NODE_RETURN).await;
    }

    /// What connected owners know is what the metadata says.
    pub(super) async fn check_knowledge(&self, nodes: &[&FakeNode]) {
        let record = self.record(JOB).await.expect("the job");
        for node in nodes.iter().filter(|node| node.seen().up) {
            let seen = node.seen();
            let shards = record.owners.iter().filter(|(_, owner)| **owner == node.id);
            for (shard, _) in shards {
                let job = seen.jobs.get(&JOB).expect("told of the job");
                let known = job.shards.get(shard).expect("told to open");
                assert_eq!(job.generation, record.generation, "{}", node.id);
                assert_eq!(known.committed, record.committed, "{} {shard}", node.id);
                let needed = record.open_shard(*shard).log;
                let needed = needed.iter().flat_map(|epoch| &epoch.objects);
                for object in needed {
                    assert!(known.objects.contains(&object.name), "{}", object.name);
                }
            }
        }
    }
}

/// Lets everybody do what can be done.
pub(super) async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

pub(super) async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
    settle().await;
}

pub(super) fn who(generation: u64) -> Incarnation {
    Incarnation {
        job: JOB,
        generation: Generation(generation),
    }
}

pub(super) fn objects(epoch: u64) -> Vec<LogObject> {
    let object = |ending: &str, holds| LogObject {
        name: format!("{epoch}.{ending}"),
        bytes: 1,
        holds,
    };
    vec![
        object("rows", LogHolding::Rows(vec![ShardId(0), ShardId(1)])),
        object("out", LogHolding::Output(vec![SinkId(0)])),
    ]
}

/// A node that records orders, and panics in the test when it is told something that does not
/// follow from what it was told before.
#[derive(Clone)]
pub(super) struct FakeNode {
    pub(super) id: StateNodeId,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
pub(super) struct Seen {
    pub(super) up: bool,
    pub(super) session: Option<StateNodeSession>,
    orders: Vec<StateOrder>,
    /// All that the process has heard, and how much of it by earlier streams.
    heard: Vec<StateOrder>,
    heard_before: usize,
    pub(super) jobs: BTreeMap<JobId, SeenJob>,
    wrong: Vec<String>,
}

#[derive(Default)]
pub(super) struct SeenJob {
    pub(super) generation: Generation,
    pub(super) shards: BTreeMap<ShardId, SeenShard>,
}

#[derive(Default)]
pub(super) struct SeenShard {
    pub(super) ownership: u64,
    pub(super) committed: Epoch,
    pub(super) objects: BTreeSet<String>,
}

impl FakeNode {
    pub(super) fn new(id: u64) -> Self {
        FakeNode {
            id: StateNodeId(id),
            seen: Arc::default(),
        }
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(&self) {
        let mut seen = self.seen();
        seen.up = true;
        seen.heard_before = seen.heard.len();
    }

    /// The last orders of this stream got lost on their way.
    pub(super) fn miss(&self, orders: usize) {
        let mut seen = self.seen();
        let kept = seen.heard.len().saturating_sub(orders);
        let kept = kept.max(seen.heard_before);
        seen.heard.truncate(kept);
        seen.jobs.clear();
        for order in seen.heard.clone() {
            seen.follow(&order);
        }
    }

    /// The process dies without anybody knowing yet.
    pub(super) fn die_silently(&self) {
        self.seen().up = false;
    }

    /// Orders since the last call, a line each.
    pub(super) fn take(&self) -> Vec<String> {
        let mut seen = self.seen();
        assert!(seen.wrong.is_empty(), "{:#?}", seen.wrong);
        std::mem::take(&mut seen.orders).iter().map(shown).collect()
    }
}

impl StateNodeLink for FakeNode {
    fn order(&self, order: StateOrder) -> bool {
        let mut seen = self.seen();
        if !seen.up {
            return false;
        }
        seen.follow(&order);
        seen.heard.push(order.clone());
        seen.orders.push(order);
        true
    }
}

impl Seen {
    fn follow(&mut self, order: &StateOrder) {
        match order {
            StateOrder::Open(open) => {
                let job = self.jobs.entry(open.job).or_default();
                let shard = job.shards.entry(open.shard).or_default();
                if open.generation < job.generation
                    || open.committed < shard.committed
                    || open.ownership < shard.ownership
                {
                    self.wrong.push(format!("goes back: {}", shown(order)));
                    return;
                }
                job.generation = open.generation;
                shard.committed = open.committed;
                shard.ownership = open.ownership;
                let objects = open.log.iter().flat_map(|epoch| &epoch.objects);
                shard
                    .objects
                    .extend(objects.map(|object| object.name.clone()));
            }
            StateOrder::Committed {
                job,
                generation,
                previous,
                committed: CommittedEpoch { epoch, objects },
                ..
            } => {
                let Some(job) = self.jobs.get_mut(job) else {
                    return;
                };
                for shard in job.shards.values_mut() {
                    if shard.committed != *previous || job.generation != *generation {
                        let known = (shard.committed, job.generation);
                        let wrong = format!("knows {known:?}: {}", shown(order));
                        self.wrong.push(wrong);
                    }
                    shard.committed = *epoch;
                    let names = objects.iter().map(|object| object.name.clone());
                    shard.objects.extend(names);
                }
            }
            StateOrder::Close { job, shard } => {
                if let Some(job) = self.jobs.get_mut(job) {
                    job.shards.remove(shard);
                }
            }
            StateOrder::Drop { job, .. } | StateOrder::Collect { job, .. } => {
                drop(self.jobs.remove(job));
            }
            StateOrder::Published { .. }
            | StateOrder::Trim { .. }
            | StateOrder::Transfer(_)
            | StateOrder::StopTransfer { .. }
            | StateOrder::ForgetTransfer { .. } => {}
        }
    }
}

/// An order in short.
fn shown(order: &StateOrder) -> String {
    let epochs = |epochs: &[CommittedEpoch]| {
        let epochs = epochs.iter().map(|epoch| epoch.epoch.0);
        format!("{:?}", epochs.collect::<Vec<_>>())
    };
    match order {
        StateOrder::Open(open) => format!(
            "open {} {} at {} log {} out {}",
            open.shard,
            open.generation,
            open.committed,
            epochs(&open.log),
            epochs(&open.output)
        ),
        StateOrder::Committed {
            generation,
            previous,
            committed,
            ..
        } => {
            let names = committed.objects.iter().map(|object| object.name.as_str());
            let names: Vec<&str> = names.collect();
            let epoch = committed.epoch;
            format!("committed {epoch} after {previous} {generation} {names:?}")
        }
        StateOrder::Published { sink, epoch, .. } => format!("published {sink} {epoch}"),
        StateOrder::Close { shard, .. } => format!("close {shard}"),
        StateOrder::Drop { job, .. } => format!("drop {job}"),
        StateOrder::Collect { job, .. } => format!("collect {job}"),
        StateOrder::Trim { objects, .. } => format!("trim {objects:?}"),
        StateOrder::Transfer(order) => format!("transfer {} {}", order.transfer, order.attempt),
        StateOrder::StopTransfer { transfer } => format!("stop {transfer}"),
        StateOrder::ForgetTransfer { transfer } => format!("forget {transfer}"),
    }
}

/// Whether a request is still under way.
pub(super) fn is_pending<T>(request: &mut JoinHandle<T>) -> bool {
    request.now_or_never().is_none()
}
