//! What is remembered of a job.

use std::{collections::BTreeMap, sync::Arc};

use planted::Bug;
use proto::{
    control::JobOptions,
    log::{LogHolding, LogObject},
    plan::{Plan, RowType},
    state_control::{CommittedEpoch, InheritedEpoch, JobLine, OpenShard, ShardManifest},
    transfer::StateShape,
    types::{Epoch, Generation, JobId, KeyGroupCount, ShardId, SinkId, StateNodeId},
};
use serde::{Deserialize, Serialize};

use super::{Imported, LoggedObjects, Origin, OriginSpec, Quarantine, Savepoint, Upgrade};
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
    /// The state that it begins with; `None`: with none.
    #[serde(default)]
    pub origin: Option<OriginSpec>,
    /// The highest number that a table of this state ever had, of earlier plans too.
    #[serde(default)]
    pub tables_max: u32,
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
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Desired {
    /// To run.
    Run,
    /// To end.
    Cancel,
    /// To end with a last checkpoint, whose output is outside.
    Stop(Stop),
}

impl Desired {
    /// Name of the savepoint that is to be made at the end.
    #[must_use]
    pub fn savepoint(&self) -> Option<&String> {
        match self {
            Desired::Stop(stop) => stop.savepoint.as_ref(),
            Desired::Run | Desired::Cancel => None,
        }
    }
}

/// How a job is to end with a last checkpoint.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Stop {
    /// The last checkpoint becomes a savepoint of this name.
    pub savepoint: Option<String>,
    /// The sources end first, so that nothing is held back: windows fire.
    pub drain: bool,
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
    /// Epochs whose barriers have overtaken anything, and how many bytes, as far back as any epoch
    /// can be restored.
    #[serde(default)]
    pub overtaken: BTreeMap<Epoch, u64>,
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
    /// How often it was taken back to an older checkpoint.
    #[serde(default)]
    pub line: u64,
    /// The highest epoch that it ever committed before it was taken back, or began with.
    #[serde(default)]
    pub highest: Epoch,
    /// Rows of other jobs' logs that some shard still needs, by epoch. All are before its own.
    #[serde(default)]
    pub inherited: BTreeMap<Epoch, LoggedObjects>,
    /// Manifests of each shard that are kept, oldest first. Nothing of a shard: it has not been
    /// heard of.
    #[serde(default)]
    pub manifests: BTreeMap<ShardId, Vec<ShardManifest>>,
    /// By line and shard, the databases whose files its own refers to.
    #[serde(default)]
    pub databases: BTreeMap<u64, BTreeMap<ShardId, Vec<JobLine>>>,
    /// Its savepoints by name.
    #[serde(default)]
    pub savepoints: BTreeMap<String, Savepoint>,
    /// What it began with.
    #[serde(default)]
    pub origin: Option<Origin>,
    /// Whether another job is to take its place, or has.
    #[serde(default)]
    pub upgrade: Option<Upgrade>,
    /// What it was imported from: it never ran here.
    #[serde(default)]
    pub imported: Option<Imported>,
    /// Ids of its sources of which that knew nothing.
    #[serde(default)]
    pub new_sources: Vec<String>,
    /// Why it is not run until its user says so.
    #[serde(default)]
    pub quarantine: Option<Quarantine>,
}

impl JobRecord {
    pub(super) fn new(id: JobId, spec: JobSpec, created_ms: u64, run: u64) -> JobRecord {
        let mut record = JobRecord {
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
            overtaken: BTreeMap::new(),
            output: BTreeMap::new(),
            durable: BTreeMap::new(),
            published: BTreeMap::new(),
            parallelism: None,
            routing: None,
            next_routing: None,
            owners: BTreeMap::new(),
            ownerships: BTreeMap::new(),
            line: 0,
            highest: Epoch::ZERO,
            inherited: BTreeMap::new(),
            manifests: BTreeMap::new(),
            databases: BTreeMap::new(),
            savepoints: BTreeMap::new(),
            origin: None,
            upgrade: None,
            imported: None,
            new_sources: Vec::new(),
            quarantine: None,
        };
        record.manifests = record.empty_manifests();
        record
    }

    /// When its sources began, which is when the first job was created of those whose state it goes
    /// on with; in ms since 1970.
    #[must_use]
    pub fn sources_since_ms(&self) -> u64 {
        match (&self.origin, &self.imported) {
            (Some(origin), _) => origin.created_ms,
            (None, Some(imported)) => imported.source.sources_since_ms,
            (None, None) => self.created_ms,
        }
    }

    /// Whether it is still being copied into the store.
    #[must_use]
    pub fn is_importing(&self) -> bool {
        self.imported.as_ref().is_some_and(|from| from.pending)
    }

    /// Its key groups.
    #[must_use]
    pub fn key_groups(&self) -> KeyGroupCount {
        KeyGroupCount::new(self.spec.plan.key_groups).unwrap_or(KeyGroupCount::DEFAULT)
    }

    /// How its state is cut, as of an epoch.
    pub(super) fn shape(&self, epoch: Epoch) -> StateShape {
        StateShape {
            key_groups: self.key_groups(),
            shards: self.spec.options.shards,
            epoch,
        }
    }

    /// Its shards.
    pub fn shards(&self) -> impl Iterator<Item = ShardId> {
        (0..self.spec.options.shards).map(ShardId)
    }

    /// What the owner of a shard is told when it is to serve it.
    #[must_use]
    pub fn open_shard(&self, shard: ShardId) -> OpenShard {
        let newest = self.manifests.get(&shard).and_then(|kept| kept.last());
        let base = newest.filter(|newest| newest.of != self.job_line());
        let durable = self.durable.get(&shard).copied().unwrap_or_default();
        let durable = durable.max(newest.map(|newest| newest.epoch).unwrap_or_default());
        let holds = |object: &&LogObject| match &object.holds {
            LogHolding::Rows(shards) => shards.contains(&shard),
            LogHolding::Output(_) => false,
        };
        let of_shard = |(epoch, objects): (&Epoch, &Vec<LogObject>)| {
            let objects: Vec<_> = objects.iter().filter(holds).cloned().collect();
            let epoch = *epoch;
            (!objects.is_empty()).then_some(CommittedEpoch { epoch, objects })
        };
        let log = self.log.range(durable.next()..).filter_map(of_shard);
        let inherited = self.inherited.range(durable.next()..);
        let inherited = inherited.filter_map(|(epoch, logged)| {
            let committed = of_shard((epoch, &logged.objects))?;
            let job = logged.job;
            Some(InheritedEpoch { job, committed })
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
            line: self.line,
            base: base.copied(),
            committed: self.committed,
            inherited: inherited.collect(),
            log: log.collect(),
            output: if shard == ShardId(0) {
                output.collect()
            } else {
                Vec::new()
            },
        }
    }

    /// The next generation begins from the last committed epoch. Its epochs start above everything
    /// that an earlier one, with or without commits, may have named.
    pub(super) fn begin(&mut self, generation: Generation) {
        self.generation = generation;
        self.next_routing = None;
        let highest = self.highest.max(self.committed);
        self.first = match planted::is(Bug::ReuseEpochs) {
            true => self.committed.next(),
            false => Epoch::first_of_generation(highest, self.first, self.committed),
        };
    }

    /// Shards belong to these nodes from now on.
    pub(super) fn own(&mut self, owners: BTreeMap<ShardId, StateNodeId>) {
        for shard in owners.keys() {
            *self.ownerships.entry(*shard).or_default() += 1;
        }
        self.owners.extend(owners);
    }

    pub(super) fn commit(&mut self, epoch: Epoch, objects: Vec<LogObject>, overtaken_bytes: u64) {
        self.committed = epoch;
        if overtaken_bytes > 0 {
            self.overtaken.insert(epoch, overtaken_bytes);
        }
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

    /// It goes back to an older state, which becomes the last committed one. Epochs after it count
    /// no more, and their output that is not outside yet never will be. Whatever is still under way
    /// of the present generation is refused.
    pub(super) fn take_back(&mut self, epoch: Epoch) {
        self.line += 1;
        self.overtaken.retain(|other, _| *other <= epoch);
        self.output.retain(|other, _| *other <= epoch);
        // Whoever has a shard open has it open in the line before.
        for shard in self.owners.keys() {
            *self.ownerships.entry(*shard).or_default() += 1;
        }
    }

    /// It is not run any more until its user says so.
    pub(super) fn give_up(&mut self, quarantine: Quarantine) {
        self.quarantine = Some(quarantine);
        self.keep_place("the job is in quarantine: it could not be stopped with a savepoint");
        // It is not to be stopped as soon as it is resumed.
        if self.desired != Desired::Cancel {
            self.desired = Desired::Run;
        }
    }

    /// It is over: nothing of its state is needed but what savepoints and other jobs hold.
    pub(super) fn end(&mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
        self.quarantine = None;
        self.log.clear();
        self.overtaken.clear();
        self.output.clear();
        self.manifests.clear();
        self.inherited.clear();
    }
}
