//! Every file that anything needs, by name, and what needs it: what a check of the store is told.
//! The same that decides what is deleted, said so that people understand it.

use std::collections::{BTreeMap, BTreeSet};

use proto::{
    inventory::{HeldDatabase, HeldManifest, HeldObject, Inventory, JobInventory},
    log::LogObject,
    state_control::ShardManifest,
    types::{Epoch, JobId, ShardId},
};

use super::{JobRecord, MetaState};

/// Who holds what of a job's files.
#[derive(Default)]
struct Held {
    objects: BTreeMap<LogObject, BTreeSet<String>>,
    manifests: BTreeMap<(u64, ShardId, Epoch), BTreeSet<String>>,
}

impl MetaState {
    /// Every file that anything needs.
    #[must_use]
    pub fn inventory(&self) -> Inventory {
        let mut held: BTreeMap<JobId, Held> = BTreeMap::new();
        for record in self.jobs.values() {
            let job = record.id;
            let keeps = |what: &str| format!("{what} of {job}");
            let of_job = held.entry(job).or_default();
            for object in record.log.values().flatten() {
                of_job.object(object, keeps("checkpoints"));
            }
            for object in record.output.values().flatten() {
                of_job.object(object, keeps("unpublished output"));
            }
            for logged in record.inherited.values() {
                let of_other = held.entry(logged.job).or_default();
                for object in &logged.objects {
                    of_other.object(object, format!("{job}, which began with it"));
                }
            }
            let kept = record.manifests.iter();
            let kept = kept.flat_map(|(shard, kept)| kept.iter().map(|kept| (*shard, *kept)));
            for (shard, manifest) in kept {
                let by = match manifest.of == record.job_line() {
                    true => keeps("checkpoints"),
                    false => format!("{job}, which begins with it"),
                };
                hold(&mut held, shard, manifest, by);
            }
            for (name, savepoint) in &record.savepoints {
                let by = keeps(&format!("savepoint `{name}`"));
                for (shard, manifest) in &savepoint.point.shards {
                    hold(&mut held, *shard, *manifest, by.clone());
                }
                for logged in savepoint.point.log.values() {
                    let of_other = held.entry(logged.job).or_default();
                    for object in &logged.objects {
                        of_other.object(object, by.clone());
                    }
                }
            }
        }
        let jobs = self.jobs.values().map(|record| {
            let held = held.remove(&record.id).unwrap_or_default();
            self.job_inventory(record, held)
        });
        Inventory {
            cluster: self.cluster_id.clone().unwrap_or_default(),
            last_job: self.last_job,
            jobs: jobs.collect(),
        }
    }

    fn job_inventory(&self, record: &JobRecord, held: Held) -> JobInventory {
        // The same that decides which are deleted.
        let needed = self.references(record.id).unwrap_or_default();
        let databases = needed.databases.into_iter().map(|needed| {
            let (line, shard) = (needed.line, needed.shard);
            let manifests = needed.manifests.into_iter().map(|epoch| {
                let by = held.manifests.get(&(line, shard, epoch));
                let by = by.into_iter().flatten().cloned().collect();
                HeldManifest { epoch, by }
            });
            HeldDatabase {
                line,
                shard,
                current: record.outcome.is_none() && record.line == line,
                manifests: manifests.collect(),
            }
        });
        let objects = held.objects.into_iter().map(|(object, by)| HeldObject {
            object,
            by: by.into_iter().collect(),
        });
        JobInventory {
            job: record.id,
            generation: record.generation,
            committed: record.committed,
            ended: record.outcome.is_some(),
            importing: record.is_importing(),
            databases: databases.collect(),
            objects: objects.collect(),
        }
    }
}

impl Held {
    fn object(&mut self, object: &LogObject, by: String) {
        self.objects.entry(object.clone()).or_default().insert(by);
    }
}

fn hold(held: &mut BTreeMap<JobId, Held>, shard: ShardId, manifest: ShardManifest, by: String) {
    // There are no files of an empty database.
    if manifest.epoch > Epoch::ZERO {
        let of_job = held.entry(manifest.of.job).or_default();
        let key = (manifest.of.line, shard, manifest.epoch);
        of_job.manifests.entry(key).or_default().insert(by);
    }
}
