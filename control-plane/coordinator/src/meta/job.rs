//! What is remembered of a job.

use std::{collections::BTreeMap, sync::Arc};

use proto::{
    control::JobOptions,
    log::{LogHolding, LogObject},
    plan::{Plan, RowType},
    state_control::{CommittedEpoch, LogReferences, OpenShard},
    types::{Epoch, Generation, JobId, KeyGroupCount, ShardId, SinkId, StateNodeId},
};
use serde::{Deserialize, Serialize};

use crate::{
    JobState,
    place::{Parallelism, Routing},
};

/// A job to run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct JobSpec {
    /// Name for people.
    pub name: String,
    /// The statement that it comes from.
    pub sql: String,
    /// What to run.
    #[serde(with = "proto::plan::shared")]
    pub plan: Arc<Plan>,
    /// How.
    pub options: JobOptions,
    /// For a bare SELECT: what its rows are.
    pub select: Option<SelectColumns>,
}

/// The rows of a bare SELECT.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SelectColumns {
    /// Columns.
    pub columns: RowType,
    /// Key by which the changelog folds, where it lacks old rows of updates.
    pub upsert_key: Option<Vec<usize>>,
}

/// What the user wants of a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Desired {
    /// To run.
    Run,
    /// To end.
    Cancel,
}

/// How a job ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// A terminal state.
    pub state: JobState,
    /// Why it failed.
    pub error: Option<String>,
    /// When, in ms since 1970.
    pub at_ms: u64,
}

/// A job and how far it is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct JobRecord {
    /// Number.
    pub id: JobId,
    /// What was submitted.
    pub spec: JobSpec,
    /// When, in ms since 1970.
    pub created_ms: u64,
    /// Tells it from every job of every cluster.
    pub run: u64,
    /// What the user wants.
    pub desired: Desired,
    /// How it ended; `None`: it has not.
    pub outcome: Option<Outcome>,
    /// Whether files of it may still be there.
    pub has_files: bool,
    /// The user wants it forgotten; it stays until its files are gone.
    #[serde(default)]
    pub forgotten: bool,
    /// Current generation; zero before the first.
    pub generation: Generation,
    /// First epoch of the current generation.
    pub first: Epoch,
    /// The last committed epoch.
    pub committed: Epoch,
    /// Objects with rows that some shard still needs, by epoch.
    pub log: BTreeMap<Epoch, Vec<LogObject>>,
    /// Objects with output that some sink has not published yet, by epoch.
    pub output: BTreeMap<Epoch, Vec<LogObject>>,
    /// Up to which epoch a shard needs no log.
    pub durable: BTreeMap<ShardId, Epoch>,
    /// Up to which epoch a sink's output is outside.
    pub published: BTreeMap<SinkId, Epoch>,
    /// How many tasks the user wants, where that was said after the job began.
    #[serde(default)]
    pub parallelism: Option<Parallelism>,
    /// The routing in force as of the last committed epoch, where it is not the first one.
    #[serde(default)]
    pub routing: Option<Routing>,
    /// The routing that is in force once this epoch is committed.
    #[serde(default)]
    pub next_routing: Option<(Epoch, Routing)>,
    /// The state node of each shard.
    pub owners: BTreeMap<ShardId, StateNodeId>,
    /// How often each shard was given an owner.
    #[serde(default)]
    pub ownerships: BTreeMap<ShardId, u64>,
}

impl JobRecord {
    pub(super) fn new(id: JobId, spec: JobSpec, created_ms: u64, run: u64) -> JobRecord {
        JobRecord {
            id,
            spec,
            created_ms,
            run,
            desired: Desired::Run,
            outcome: None,
            has_files: true,
            forgotten: false,
            generation: Generation::default(),
            first: Epoch::ZERO,
            committed: Epoch::ZERO,
            log: BTreeMap::new(),
            output: BTreeMap::new(),
            durable: BTreeMap::new(),
            published: BTreeMap::new(),
            parallelism: None,
            routing: None,
            next_routing: None,
            owners: BTreeMap::new(),
            ownerships: BTreeMap::new(),
        }
    }

    /// Its key groups.
    #[must_use]
    pub fn key_groups(&self) -> KeyGroupCount {
        KeyGroupCount::new(self.spec.plan.key_groups).unwrap_or(KeyGroupCount::DEFAULT)
    }

    /// Its shards.
    pub fn shards(&self) -> impl Iterator<Item = ShardId> {
        (0..self.spec.options.shards).map(ShardId)
    }

    /// What the owner of a shard is told when it is to serve it.
    #[must_use]
    pub fn open_shard(&self, shard: ShardId) -> OpenShard {
        let durable = self.durable.get(&shard).copied().unwrap_or_default();
        let holds = |object: &&LogObject| match &object.holds {
            LogHolding::Rows(shards) => shards.contains(&shard),
            LogHolding::Output(_) => false,
        };
        let log = self.log.range(durable.next()..).map(|(epoch, objects)| {
            let objects = objects.iter().filter(holds).cloned().collect();
            CommittedEpoch {
                epoch: *epoch,
                objects,
            }
        });
        let output = self.output.iter().map(|(epoch, objects)| CommittedEpoch {
            epoch: *epoch,
            objects: objects.clone(),
        });
        OpenShard {
            job: self.id,
            shard,
            ownership: self.ownerships.get(&shard).copied().unwrap_or_default(),
            generation: self.generation,
            key_groups: self.key_groups(),
            shards: self.spec.options.shards,
            committed: self.committed,
            log: log.filter(|epoch| !epoch.objects.is_empty()).collect(),
            output: if shard == ShardId(0) {
                output.collect()
            } else {
                Vec::new()
            },
        }
    }

    /// What of the job's log is needed, for whoever looks for what is not.
    #[must_use]
    pub fn references(&self) -> LogReferences {
        let objects = self.log.values().chain(self.output.values()).flatten();
        LogReferences {
            generation: self.generation,
            committed: self.committed,
            objects: objects.map(|object| object.name.clone()).collect(),
        }
    }

    /// The next generation begins from the last committed epoch. Its epochs start above everything
    /// that an earlier one, with or without commits, may have named.
    pub(super) fn begin(&mut self, generation: Generation) {
        self.generation = generation;
        self.next_routing = None;
        self.first = Epoch::first_of_generation(self.committed, self.first, self.committed);
    }

    /// Shards belong to these nodes from now on.
    pub(super) fn own(&mut self, owners: BTreeMap<ShardId, StateNodeId>) {
        for shard in owners.keys() {
            *self.ownerships.entry(*shard).or_default() += 1;
        }
        self.owners.extend(owners);
    }

    pub(super) fn commit(&mut self, epoch: Epoch, objects: Vec<LogObject>) {
        self.committed = epoch;
        if let Some((_, routing)) = self.next_routing.take_if(|(with, _)| *with == epoch) {
            self.routing = Some(routing);
        }
        for object in objects {
            let list = match object.holds {
                LogHolding::Rows(_) => &mut self.log,
                LogHolding::Output(_) => &mut self.output,
            };
            list.entry(epoch).or_default().push(object);
        }
    }

    /// Takes note of what shards and sinks are done with; the objects that nothing needs any more.
    pub(super) fn trim(
        &mut self,
        durable: &BTreeMap<ShardId, Epoch>,
        published: &BTreeMap<SinkId, Epoch>,
    ) -> Vec<String> {
        raise(&mut self.durable, durable, self.committed);
        raise(&mut self.published, published, self.committed);
        let (durable, published) = (&self.durable, &self.published);
        let needed = |epoch: Epoch, object: &LogObject| match &object.holds {
            LogHolding::Rows(shards) => !shards.iter().all(|of| reached(durable, of, epoch)),
            LogHolding::Output(sinks) => !sinks.iter().all(|of| reached(published, of, epoch)),
        };
        let mut names = Vec::new();
        for list in [&mut self.log, &mut self.output] {
            list.retain(|epoch, objects| {
                objects.retain(|object| {
                    let needed = needed(*epoch, object);
                    if !needed {
                        names.push(object.name.clone());
                    }
                    needed
                });
                !objects.is_empty()
            });
        }
        names
    }

    /// It is over: nothing of its state is needed.
    pub(super) fn end(&mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
        self.log.clear();
        self.output.clear();
    }
}

/// Nobody can be further than what is committed.
fn raise<K: Copy + Ord>(
    reached: &mut BTreeMap<K, Epoch>,
    news: &BTreeMap<K, Epoch>,
    committed: Epoch,
) {
    for (of, epoch) in news {
        let known = reached.entry(*of).or_default();
        *known = (*known).max((*epoch).min(committed));
    }
}

fn reached<K: Ord>(reached: &BTreeMap<K, Epoch>, of: &K, epoch: Epoch) -> bool {
    reached.get(of).is_some_and(|known| *known >= epoch)
}
