//! What is seen of the metadata: what may never happen to a job, and that all that a job or a savepoint
//! can be restored from is in the store for as long as it is.

use std::collections::{BTreeMap, BTreeSet};

use coordinator::meta::{JobRecord, MetaState, Origin};
use proto::{
    log::LogObject,
    state_control::ShardManifest,
    types::{Epoch, Generation, JobId, ShardId},
};

use crate::world::World;

/// The newest metadata that any node has applied.
#[derive(Default)]
pub(crate) struct Seen {
    index: u64,
    state: MetaState,
    /// Jobs as they were before they were forgotten.
    forgotten: BTreeMap<JobId, JobRecord>,
}

impl World {
    /// A node has applied so many commands, and this is what they came to.
    pub fn observe(&self, index: u64, state: &MetaState) {
        let mut inner = self.lock();
        if index <= inner.seen.index {
            return;
        }
        let before = std::mem::replace(
            &mut inner.seen,
            Seen {
                index,
                state: state.clone(),
                forgotten: BTreeMap::new(),
            },
        );
        let gone = before.state.jobs.iter();
        let gone = gone.filter(|(id, _)| !state.jobs.contains_key(id));
        let gone: Vec<_> = gone.map(|(id, job)| (*id, job.clone())).collect();
        inner.seen.forgotten = before.forgotten;
        inner.seen.forgotten.extend(gone);
        drop(inner);
        for (id, job) in &state.jobs {
            self.compare(*id, before.state.jobs.get(id), job);
        }
        for id in before.state.jobs.keys() {
            if !state.jobs.contains_key(id) {
                self.trace.line(format_args!("meta {id} is forgotten"));
            }
        }
    }

    /// Looks at the newest metadata.
    pub fn metadata<R>(&self, look: impl FnOnce(&MetaState) -> R) -> R {
        look(&self.lock().seen.state)
    }

    fn compare(&self, id: JobId, before: Option<&JobRecord>, now: &JobRecord) {
        let generation = before.map_or(Generation::default(), |job| job.generation);
        let committed = before.map_or(Epoch::ZERO, |job| job.committed);
        if now.generation < generation || now.committed < committed {
            let (g, c) = (now.generation, now.committed);
            self.violate(format!("{id} went back to {g}, epoch {c}"));
        }
        if now.generation > generation {
            let (g, first) = (now.generation, now.first);
            self.trace
                .line(format_args!("meta {id} begins {g} at epoch {first}"));
            self.check_first(id, now);
        }
        if now.committed > committed {
            let (g, c) = (now.generation, now.committed);
            self.trace
                .line(format_args!("meta {id} commits {c} of {g}"));
            self.check_objects(id, committed, now);
        }
        if let Some((epoch, routing)) = &now.next_routing
            && before.is_none_or(|job| job.next_routing != now.next_routing)
        {
            let version = routing.version;
            self.trace.line(format_args!(
                "meta {id} notes routing {version} with {epoch}"
            ));
            self.spring();
        }
        self.compare_states(id, before, now);
        if before.is_some_and(|job| job.owners != now.owners) {
            self.trace
                .line(format_args!("meta {id} owners {:?}", now.owners));
        }
        if let Some(outcome) = &now.outcome
            && before.is_none_or(|job| job.outcome.is_none())
        {
            self.trace.line(format_args!(
                "meta {id} ends {:?} {:?}",
                outcome.state, outcome.error
            ));
        }
    }

    fn compare_states(&self, id: JobId, before: Option<&JobRecord>, now: &JobRecord) {
        let nothing = BTreeMap::new();
        let saved = before.map_or(&nothing, |job| &job.savepoints);
        for (name, savepoint) in &now.savepoints {
            if !saved.contains_key(name) {
                let epoch = savepoint.point.epoch;
                self.trace
                    .line(format_args!("meta {id} saves {name}, epoch {epoch}"));
            }
        }
        if let Some(origin) = &now.origin
            && before.is_none()
        {
            let Origin { job, epoch, .. } = origin;
            self.trace
                .line(format_args!("meta {id} begins with {epoch} of {job}"));
        }
    }

    /// A generation's epochs lie above all that an older one has named.
    fn check_first(&self, id: JobId, job: &JobRecord) {
        let folder = format!("jobs/{}/log/", id.0);
        let origin = |name: &String| {
            let mut parts = name.split_once(&folder)?.1.split('/');
            let generation: u64 = parts.next()?.parse().ok()?;
            let epoch: u64 = parts.next()?.parse().ok()?;
            Some((generation, epoch))
        };
        let objects = self.bucket.objects();
        let named = objects.keys().filter_map(origin);
        let of_older = named.filter(|(generation, _)| *generation < job.generation.0);
        let highest = of_older.map(|(_, epoch)| epoch).max();
        if highest.is_some_and(|highest| highest >= job.first.0) {
            let (g, first) = (job.generation, job.first);
            self.violate(format!(
                "{id}: {g} begins at epoch {first}, and an older one has named {highest:?}"
            ));
        }
    }

    /// What is committed is in the store.
    fn check_objects(&self, id: JobId, after: Epoch, job: &JobRecord) {
        let objects = self.bucket.objects();
        let new = |log: &BTreeMap<Epoch, Vec<LogObject>>| {
            let new = log.range(after.next()..).flat_map(|(_, objects)| objects);
            new.cloned().collect::<Vec<_>>()
        };
        for object in new(&job.log).into_iter().chain(new(&job.output)) {
            let path = format!("jobs/{}/log/{}", id.0, object.name);
            let there = objects.iter().find(|(name, _)| name.ends_with(&path));
            if there.is_none_or(|(_, bytes)| *bytes != object.bytes) {
                let committed = job.committed;
                self.violate(format!(
                    "{id}: epoch {committed} is committed without {}",
                    object.name
                ));
            }
        }
    }

    /// All jobs that there ever were.
    #[must_use]
    pub fn all_jobs(&self) -> BTreeMap<JobId, JobRecord> {
        let inner = self.lock();
        let mut jobs = inner.seen.forgotten.clone();
        jobs.extend(inner.seen.state.jobs.clone());
        jobs
    }

    /// Nothing is missing of what jobs and savepoints can be restored from. Files go only after the
    /// metadata have let go of them, so this holds at every moment.
    pub fn check_held(&self) {
        let objects = self.bucket.objects();
        let names = objects.keys();
        let of_jobs = names.filter_map(|name| name.get(name.find("jobs/")?..));
        let there: BTreeSet<&str> = of_jobs.collect();
        let is_there = |held: &Held| match held {
            Held::Object(path) => there.contains(path.as_str()),
            Held::Database(folder) => {
                let mut from = there.range(folder.as_str()..);
                from.next().is_some_and(|name| name.starts_with(folder))
            }
        };
        let missing = self.metadata(|state| {
            let held = state.jobs.values().flat_map(held);
            held.filter(|held| !is_there(held)).collect::<Vec<_>>()
        });
        if let Some(first) = missing.first() {
            let count = missing.len();
            self.violate(format!(
                "{first:?} is held and not in the store, {count} in all"
            ));
        }
    }
}

/// Something that must be in the store.
#[derive(PartialEq, Eq, Debug)]
enum Held {
    Object(String),
    Database(String),
}

/// What a job and its savepoints hold.
fn held(job: &JobRecord) -> Vec<Held> {
    let object = |(of, object): (JobId, &LogObject)| {
        let name = &object.name;
        Held::Object(format!("jobs/{}/log/{name}", of.0))
    };
    let own = job.log.values().chain(job.output.values()).flatten();
    let own = own.map(|object| (job.id, object));
    let savepoints = || job.savepoints.values();
    let saved = savepoints().flat_map(|savepoint| savepoint.point.log.values());
    let others = job.inherited.values().chain(saved);
    let others = others.flat_map(|logged| logged.objects.iter().map(|of| (logged.job, of)));
    let kept = job.manifests.iter();
    let kept = kept.flat_map(|(shard, kept)| kept.iter().map(|kept| (*shard, *kept)));
    let saved = savepoints().flat_map(|savepoint| &savepoint.point.shards);
    let manifests = kept.chain(saved.map(|(shard, manifest)| (*shard, *manifest)));
    let manifests = manifests.filter(|(_, manifest)| manifest.epoch > Epoch::ZERO);
    let held = own.chain(others).map(object);
    held.chain(manifests.map(database)).collect()
}

fn database((shard, manifest): (ShardId, ShardManifest)) -> Held {
    let (job, shard) = (manifest.of.job.0, shard.0);
    let name = match manifest.of.line {
        0 => format!("{shard}"),
        line => format!("{shard}-{line}"),
    };
    Held::Database(format!("jobs/{job}/shards/{name}/"))
}
