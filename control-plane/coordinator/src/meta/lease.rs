//! What holds files: jobs hold what they keep, savepoints and jobs that were made from others hold
//! files of these. A file is deleted only when nothing holds it.
//!
//! A manifest is held by its name; a database, by its manifests and by those whose own files are
//! clones of its; an object of the log, by whoever lists it.
//!
//! Invariant: something can be held anew only as long as it is held already, so what a look found
//! unheld never is again.

use std::collections::{BTreeMap, BTreeSet};

use planted::Bug;
use proto::{
    log::LogObject,
    plan::Plan,
    state_control::{DatabaseReference, JobLine, JobReferences, ShardManifest},
    transfer::StateShape,
    types::{Epoch, JobId, ShardId},
};

use super::{
    JobRecord, LoggedObjects, MetaState, Origin, OriginSpec, Refusal, RestoreAt, RestorePoint,
    Savepoint,
};
use crate::{caps::SAVEPOINTS_MAX, fit::new_sources};

impl MetaState {
    /// What of a job's files anything needs.
    ///
    /// # Errors
    /// When there is no such job.
    pub fn references(&self, job: JobId) -> Result<JobReferences, Refusal> {
        let record = self.job(job)?;
        let own = record.log.values().chain(record.output.values()).flatten();
        let others = self.logged().filter(|logged| logged.job == job);
        let others = others.flat_map(|logged| &logged.objects);
        let names = |object: &LogObject| object.name.clone();
        let objects: BTreeSet<String> = own.map(names).chain(others.map(names)).collect();
        Ok(JobReferences {
            generation: record.generation,
            committed: record.committed,
            ended: record.outcome.is_some(),
            objects: objects.into_iter().collect(),
            databases: self.databases(record),
        })
    }

    /// Whether something needs files of a job, though it may have ended.
    #[must_use]
    pub fn is_held(&self, job: JobId) -> bool {
        let Ok(references) = self.references(job) else {
            return false;
        };
        let savepoints = self
            .jobs
            .get(&job)
            .is_some_and(|job| !job.savepoints.is_empty());
        savepoints || !references.objects.is_empty() || !references.databases.is_empty()
    }

    /// Objects of all logs that are held by others than the job that wrote them and keeps them.
    fn logged(&self) -> impl Iterator<Item = &LoggedObjects> {
        self.jobs.values().flat_map(|record| {
            let savepoints = record.savepoints.values();
            let saved = savepoints.flat_map(|savepoint| savepoint.point.log.values());
            let saved = saved.filter(|_| !planted::is(Bug::CollectSaved));
            let inherited = record.inherited.values();
            let inherited = inherited.filter(|_| !planted::is(Bug::CollectInherited));
            inherited.chain(saved)
        })
    }

    /// Manifests that are held, by shard.
    fn manifests(&self) -> impl Iterator<Item = (ShardId, ShardManifest)> {
        let held = self.jobs.values().flat_map(|record| {
            let kept = record.manifests.iter();
            let kept = kept.flat_map(|(shard, kept)| kept.iter().map(|kept| (*shard, *kept)));
            let savepoints = record.savepoints.values();
            let saved = savepoints.flat_map(|savepoint| &savepoint.point.shards);
            let saved = saved.filter(|_| !planted::is(Bug::CollectSaved));
            kept.chain(saved.map(|(shard, manifest)| (*shard, *manifest)))
        });
        // There are no files of an empty database.
        held.filter(|(_, manifest)| manifest.epoch > Epoch::ZERO)
    }

    /// Databases of a job that something needs.
    fn databases(&self, record: &JobRecord) -> Vec<DatabaseReference> {
        let mut needed: BTreeMap<(u64, ShardId), BTreeSet<Epoch>> = BTreeMap::new();
        let mut roots: BTreeSet<(JobLine, ShardId)> = BTreeSet::new();
        let has_open = |other: &&JobRecord| other.outcome.is_none() || other.is_importing();
        for other in self.jobs.values().filter(has_open) {
            roots.extend(other.shards().map(|shard| (other.job_line(), shard)));
        }
        for (shard, manifest) in self.manifests() {
            roots.insert((manifest.of, shard));
            if manifest.of.job == record.id {
                let epochs = needed.entry((manifest.of.line, shard)).or_default();
                epochs.insert(manifest.epoch);
            }
        }
        for (parent, shard) in self.parents_of_ended() {
            if parent.job == record.id {
                needed.entry((parent.line, shard)).or_default();
            }
        }
        for (of, shard) in roots {
            for database in self.ancestors(of, shard) {
                if database.job == record.id {
                    needed.entry((database.line, shard)).or_default();
                }
            }
        }
        let reference =
            |((line, shard), manifests): ((u64, ShardId), BTreeSet<Epoch>)| DatabaseReference {
                line,
                shard,
                manifests: manifests.into_iter().collect(),
            };
        needed.into_iter().map(reference).collect()
    }

    /// Databases of other jobs that those of ended ones refer to which may still be there: whoever
    /// deletes these lets go of those first, by a write to each.
    fn parents_of_ended(&self) -> impl Iterator<Item = (JobLine, ShardId)> {
        let jobs = self.jobs.values();
        let ended = jobs.filter(|job| job.outcome.is_some() && job.has_files);
        let parents = ended.flat_map(|job| {
            let databases = job.databases.values().flatten();
            databases.flat_map(|(shard, parents)| {
                let others = parents.iter().filter(|parent| parent.job != job.id);
                others.map(|parent| (*parent, *shard))
            })
        });
        parents.filter(|_| !planted::is(Bug::CollectInherited))
    }

    /// A database of a shard, and those whose files it refers to.
    fn ancestors(&self, of: JobLine, shard: ShardId) -> BTreeSet<JobLine> {
        let record = self.jobs.get(&of.job);
        let parents = record.and_then(|record| record.databases.get(&of.line)?.get(&shard));
        let parents = parents.into_iter().flatten().copied();
        let parents = parents.filter(|_| !planted::is(Bug::CollectInherited));
        parents.chain([of]).collect()
    }

    /// What is meant by a state of a job.
    pub(super) fn resolve(&self, origin: &OriginSpec) -> Result<RestorePoint, Refusal> {
        let job = origin.job;
        let record = self.job(job)?;
        if record.forgotten {
            return Err(Refusal::UnknownJob(job));
        }
        if record.spec.select.is_some() {
            return Err(Refusal::IsSelect(job));
        }
        let epoch = match &origin.at {
            RestoreAt::Savepoint(name) => {
                let savepoint = record.savepoints.get(name);
                let point = savepoint.map(|savepoint| savepoint.point.clone());
                let name = name.clone();
                return point.ok_or(Refusal::UnknownSavepoint { job, name });
            }
            _ if record.outcome.is_some() => return Err(Refusal::NothingKept(job)),
            RestoreAt::Newest if record.committed == Epoch::ZERO => {
                return Err(Refusal::NoCheckpoint(job));
            }
            RestoreAt::Newest => {
                let newest = record.restorable().last().copied();
                newest.unwrap_or(record.committed)
            }
            RestoreAt::Checkpoint(epoch) => *epoch,
        };
        if record.overtaken.contains_key(&epoch) {
            return Err(Refusal::Overtaken { job, epoch });
        }
        record.point(epoch).ok_or_else(|| {
            let restorable = record.restorable();
            let range = restorable.first().copied().zip(restorable.last().copied());
            Refusal::NotRestorable { job, epoch, range }
        })
    }

    /// What a state of a job consists of, for who reads it: how it is cut, and its files. They stay as
    /// long as the same question has an answer.
    ///
    /// # Errors
    /// When there is no such state.
    pub fn kept(&self, job: JobId, at: RestoreAt) -> Result<(StateShape, RestorePoint), Refusal> {
        let point = self.resolve(&OriginSpec { job, at })?;
        Ok((self.job(job)?.shape(point.epoch), point))
    }

    /// Has a job begin with a restore point, in databases of its present line.
    pub(super) fn adopt(&mut self, job: JobId, point: RestorePoint) {
        let ancestors = point.shards.iter();
        let ancestors = ancestors.filter(|(_, manifest)| manifest.epoch > Epoch::ZERO);
        let ancestors = ancestors
            .map(|(shard, manifest)| {
                let ancestors = self.ancestors(manifest.of, *shard);
                (*shard, ancestors.into_iter().collect())
            })
            .collect();
        if let Some(record) = self.jobs.get_mut(&job) {
            record.adopt(point, ancestors);
        }
    }

    /// What a job that begins so has begun with.
    pub(super) fn origin_of(&self, origin: &OriginSpec, epoch: Epoch) -> Option<Origin> {
        let source = self.jobs.get(&origin.job)?;
        Some(Origin {
            job: origin.job,
            savepoint: match &origin.at {
                RestoreAt::Savepoint(name) => Some(name.clone()),
                RestoreAt::Newest | RestoreAt::Checkpoint(_) => None,
            },
            epoch,
            created_ms: source.sources_since_ms(),
        })
    }

    /// Sources of a plan of which a job's state as of an epoch knows nothing.
    pub(super) fn unknown_sources(&self, of: JobId, epoch: Epoch, plan: &Plan) -> Vec<String> {
        let Some(source) = self.jobs.get(&of) else {
            return Vec::new();
        };
        let mut unknown = new_sources(&source.spec.plan, plan);
        let born = source.origin.as_ref().map(|origin| origin.epoch);
        if born == Some(epoch) {
            // Nor does the state that it began with.
            unknown.extend(source.new_sources.iter().cloned());
        }
        unknown
    }

    /// Makes a savepoint of a job; its epoch.
    pub(super) fn save(
        &mut self,
        job: JobId,
        name: String,
        at: RestoreAt,
        created_ms: u64,
    ) -> Result<Epoch, Refusal> {
        self.check_savepoint(job, &name)?;
        let point = self.resolve(&OriginSpec { job, at })?;
        let epoch = point.epoch;
        let savepoint = Savepoint { created_ms, point };
        self.any(job)?.savepoints.insert(name, savepoint);
        Ok(epoch)
    }

    /// Whether a savepoint of the name can be made.
    pub(super) fn check_savepoint(&self, job: JobId, name: &str) -> Result<(), Refusal> {
        let record = self.job(job)?;
        if record.spec.select.is_some() {
            return Err(Refusal::IsSelect(job));
        }
        let name = name.to_owned();
        if record.savepoints.contains_key(&name) || record.desired.savepoint() == Some(&name) {
            return Err(Refusal::SavepointExists { job, name });
        }
        let pending = usize::from(record.desired.savepoint().is_some());
        if record.savepoints.len() + pending >= SAVEPOINTS_MAX {
            return Err(Refusal::TooManySavepoints(job));
        }
        Ok(())
    }

    /// Drops a savepoint; objects of the job's own log that nothing needs any more. What else it
    /// held, a sweep finds.
    pub(super) fn drop_savepoint(
        &mut self,
        job: JobId,
        name: &str,
    ) -> Result<Vec<String>, Refusal> {
        self.check_uncopied(job, name)?;
        let dropped = self.any(job)?.savepoints.remove(name);
        let name = name.to_owned();
        let dropped = dropped.ok_or(Refusal::UnknownSavepoint { job, name })?;
        let logged = dropped.point.log.into_values();
        let own = logged.filter(|logged| logged.job == job);
        let names = own.flat_map(|logged| logged.objects);
        let names = names.map(|object| object.name).collect();
        self.forget_databases(job);
        Ok(self.unneeded(job, names))
    }

    /// Those of a job's objects that nothing needs.
    pub(super) fn unneeded(&self, job: JobId, mut names: Vec<String>) -> Vec<String> {
        if names.is_empty() {
            return names;
        }
        let record = self.jobs.get(&job);
        let own = record.map(|record| record.log.values().chain(record.output.values()));
        let others = self.logged().filter(|logged| logged.job == job);
        let others = others.flat_map(|logged| &logged.objects);
        let listed = own.into_iter().flatten().flatten().chain(others);
        let listed: BTreeSet<&String> = listed.map(|object| &object.name).collect();
        names.retain(|name| !listed.contains(name));
        names
    }

    /// Forgets what databases refer to that nothing needs any more.
    pub(super) fn forget_databases(&mut self, job: JobId) {
        let held: BTreeSet<u64> = (self.manifests())
            .filter(|(_, manifest)| manifest.of.job == job)
            .map(|(_, manifest)| manifest.of.line)
            .collect();
        if let Some(record) = self.jobs.get_mut(&job) {
            let current = (record.outcome.is_none() || record.has_files).then_some(record.line);
            record
                .databases
                .retain(|line, _| Some(*line) == current || held.contains(line));
        }
    }
}
