//! What a job keeps of its own: the last flushes of each shard, and the log since then, so that any
//! epoch in between can be restored.
//!
//! ```text
//! shard 0   m────────m────────m─────▶      m: a manifest; with three kept, the oldest epoch that
//! shard 1      m──m──m──────────────▶         every shard can give is the floor
//!                 ▲ floor     committed
//! ```
//! Invariants: of each shard the newest manifest up to the floor stays, and all objects with rows
//! after it. What others hold of the job is not this file's.

use std::collections::{BTreeMap, BTreeSet};

use planted::Bug;
use proto::{
    log::{LogHolding, LogObject},
    state_control::{JobLine, ShardFiles, ShardManifest},
    types::{Epoch, ShardId, SinkId},
};

use super::{JobRecord, LoggedObjects, RestorePoint};

impl JobRecord {
    /// The line that the job is on.
    #[must_use]
    pub fn job_line(&self) -> JobLine {
        JobLine {
            job: self.id,
            line: self.line,
        }
    }

    /// Where every shard of a job begins that begins from nothing.
    pub(super) fn empty_manifests(&self) -> BTreeMap<ShardId, Vec<ShardManifest>> {
        let empty = ShardManifest {
            of: self.job_line(),
            epoch: Epoch::ZERO,
        };
        self.shards().map(|shard| (shard, vec![empty])).collect()
    }

    /// The oldest epoch that all shards can give; `None`: not known of one of them.
    fn floor(&self) -> Option<Epoch> {
        let retained = self.retained();
        let oldest = |shard: ShardId| {
            let kept = self.manifests.get(&shard)?;
            let oldest = kept.get(kept.len().saturating_sub(retained))?;
            Some(oldest.epoch)
        };
        let oldest: Option<Vec<Epoch>> = self.shards().map(oldest).collect();
        oldest?.into_iter().max()
    }

    fn retained(&self) -> usize {
        self.spec.options.retained_checkpoints.max(1) as usize
    }

    /// Committed epochs that the job can be taken back to, or copied at, oldest first. Not those whose
    /// barriers have overtaken anything: that is only for the tasks that saved it.
    #[must_use]
    pub fn restorable(&self) -> Vec<Epoch> {
        let Some(floor) = self.floor() else {
            return Vec::new();
        };
        // What was before belongs to the job that it was made from.
        let born = self.origin.as_ref().map(|origin| origin.epoch);
        let from = floor.max(born.unwrap_or_default());
        let mut epochs: BTreeSet<Epoch> = self.log.range(from..).map(|(epoch, _)| *epoch).collect();
        epochs.extend([from, self.committed]);
        epochs.remove(&Epoch::ZERO);
        epochs.retain(|epoch| !self.overtaken.contains_key(epoch));
        epochs.into_iter().collect()
    }

    /// All that one of the restorable epochs consists of.
    pub(super) fn point(&self, epoch: Epoch) -> Option<RestorePoint> {
        if !self.restorable().contains(&epoch) {
            return None;
        }
        let mut shards = BTreeMap::new();
        for (shard, kept) in &self.manifests {
            let newest = kept.iter().rev().find(|manifest| manifest.epoch <= epoch)?;
            shards.insert(*shard, *newest);
        }
        let inherited = self.inherited.range(..=epoch);
        let inherited = inherited.map(|(epoch, logged)| (*epoch, logged.job, &logged.objects));
        let own = self.log.range(..=epoch);
        let own = own.map(|(epoch, objects)| (*epoch, self.id, objects));
        let mut log = BTreeMap::new();
        for (epoch, job, objects) in inherited.chain(own) {
            let needed = |object: &&LogObject| RestorePoint::needs(&shards, epoch, object);
            let objects: Vec<LogObject> = objects.iter().filter(needed).cloned().collect();
            if !objects.is_empty() {
                log.insert(epoch, LoggedObjects { job, objects });
            }
        }
        Some(RestorePoint { epoch, shards, log })
    }

    /// Begins with what a restore point consists of, in databases of a line that has none yet.
    /// `ancestors`: by shard, the databases whose files its clone refers to.
    pub(super) fn adopt(
        &mut self,
        point: RestorePoint,
        ancestors: BTreeMap<ShardId, Vec<JobLine>>,
    ) {
        self.highest = self.highest.max(self.committed).max(point.epoch);
        self.committed = point.epoch;
        self.durable.clear();
        self.manifests = self.empty_manifests();
        for (shard, manifest) in point.shards {
            if manifest.epoch > Epoch::ZERO {
                self.manifests.insert(shard, vec![manifest]);
            }
        }
        let (own, inherited): (BTreeMap<_, _>, BTreeMap<_, _>) =
            (point.log.into_iter()).partition(|(_, logged)| logged.job == self.id);
        self.log = (own.into_iter())
            .map(|(epoch, logged)| (epoch, logged.objects))
            .collect();
        self.inherited = inherited;
        self.databases.insert(self.line, ancestors);
    }

    /// Takes note of what shards and sinks are done with; the objects of its log that it needs no
    /// more itself.
    pub(super) fn trim(
        &mut self,
        durable: &BTreeMap<ShardId, Epoch>,
        files: &BTreeMap<ShardId, ShardFiles>,
        published: &BTreeMap<SinkId, Epoch>,
    ) -> Vec<String> {
        let line = |shard: &ShardId| files.get(shard).map_or(0, |files| files.line);
        // What a database of another line has says nothing of this one's.
        let durable = durable.iter().filter(|(shard, _)| line(shard) == self.line);
        raise(&mut self.durable, durable, self.committed);
        raise(&mut self.published, published, self.committed);
        for (shard, files) in files {
            self.see_files(*shard, files);
        }
        self.forget_manifests();
        let published = &self.published;
        let owed = |epoch: Epoch, object: &LogObject| match &object.holds {
            LogHolding::Output(sinks) => !sinks.iter().all(|of| reached(published, of, epoch)),
            LogHolding::Rows(_) => false,
        };
        let begins: BTreeMap<ShardId, Epoch> =
            self.shards().map(|s| (s, self.begin_of(s))).collect();
        let needed = |epoch: Epoch, object: &LogObject| match &object.holds {
            LogHolding::Rows(of) if planted::is(Bug::TrimEarly) => {
                of.iter().all(|shard| !reached(&begins, shard, epoch))
            }
            LogHolding::Rows(of) => of.iter().any(|shard| !reached(&begins, shard, epoch)),
            LogHolding::Output(_) => false,
        };
        self.inherited.retain(|epoch, logged| {
            logged.objects.retain(|object| needed(*epoch, object));
            !logged.objects.is_empty()
        });
        let mut names = Vec::new();
        drop_objects(&mut self.log, needed, &mut names);
        // What is older cannot be restored, whatever its barrier did.
        let floor = self.floor().unwrap_or_default();
        self.overtaken.retain(|epoch, _| *epoch >= floor);
        drop_objects(&mut self.output, owed, &mut names);
        names
    }

    /// After which epoch the job keeps rows of a shard.
    fn begin_of(&self, shard: ShardId) -> Epoch {
        let oldest = self.manifests.get(&shard).and_then(|kept| kept.first());
        // A build that did not know of manifests kept what was not durable.
        let known = oldest.map(|manifest| manifest.epoch);
        known.unwrap_or_else(|| self.durable.get(&shard).copied().unwrap_or_default())
    }

    /// A node tells of the database that it has open.
    fn see_files(&mut self, shard: ShardId, files: &ShardFiles) {
        let line = self.job_line();
        if files.line != line.line || self.outcome.is_some() {
            return;
        }
        // Nothing new is ever referred to, so what was reported earlier and came late does no harm.
        let parents = self.databases.get_mut(&line.line);
        if let Some(parents) = parents.and_then(|by_shard| by_shard.get_mut(&shard)) {
            parents.retain(|parent| files.parents.contains(parent));
        }
        let manifest = ShardManifest {
            of: line,
            epoch: files.manifest,
        };
        if manifest.epoch > self.committed {
            return;
        }
        let kept = self.manifests.entry(shard).or_default();
        if manifest.epoch == Epoch::ZERO {
            // Nothing was ever flushed, so all rows are in the log.
            if kept.is_empty() {
                kept.push(manifest);
            }
            return;
        }
        // The database is there, with a manifest of its own that is the one it was cloned from.
        kept.iter_mut().for_each(|manifest| manifest.of = line);
        // Older ones that nobody heard of may be gone.
        if kept.last().is_none_or(|last| last.epoch < manifest.epoch) {
            kept.push(manifest);
        }
    }

    fn forget_manifests(&mut self) {
        let (floor, retained) = (self.floor(), self.retained());
        for kept in self.manifests.values_mut() {
            let first = match floor {
                Some(floor) => kept.iter().rposition(|manifest| manifest.epoch <= floor),
                None => kept.len().checked_sub(retained),
            };
            kept.drain(..first.unwrap_or_default());
        }
    }
}

fn drop_objects(
    list: &mut BTreeMap<Epoch, Vec<LogObject>>,
    needed: impl Fn(Epoch, &LogObject) -> bool,
    names: &mut Vec<String>,
) {
    list.retain(|epoch, objects| {
        let gone = objects.extract_if(.., |object| !needed(*epoch, object));
        names.extend(gone.map(|object| object.name));
        !objects.is_empty()
    });
}

/// Nobody can be further than what is committed.
fn raise<'a, K: Copy + Ord + 'a>(
    reached: &mut BTreeMap<K, Epoch>,
    news: impl IntoIterator<Item = (&'a K, &'a Epoch)>,
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
