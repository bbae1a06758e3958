//! A model of the files that jobs are made of: what nodes would write, and what they would delete by
//! what the metadata says.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proto::{
    control::JobOptions,
    log::{LogHolding, LogObject},
    plan::Plan,
    state_control::{JobLine, ShardFiles},
    types::{Epoch, JobId, ShardId, SinkId},
};

use super::*;
use crate::JobState;

pub(super) const SHARDS: u32 = 2;

/// The database of one shard.
#[derive(Clone, Default)]
pub(super) struct Database {
    /// Databases whose files its newest state refers to.
    pub(super) current: BTreeSet<JobLine>,
    /// The same of its manifests.
    pub(super) manifests: BTreeMap<Epoch, BTreeSet<JobLine>>,
    pub(super) durable: Epoch,
}

impl Database {
    pub(super) fn parents(&self) -> BTreeSet<JobLine> {
        let kept = self.manifests.values().flatten();
        self.current.iter().chain(kept).copied().collect()
    }
}

/// An object that was committed on a job's line.
pub(super) type Written = (Epoch, JobId, String, Vec<ShardId>);

#[derive(Default)]
pub(super) struct World {
    pub(super) state: MetaState,
    pub(super) requests: u64,
    /// All objects in the store.
    pub(super) objects: BTreeSet<(JobId, String)>,
    pub(super) databases: BTreeMap<(JobLine, ShardId), Database>,
    /// What was ever committed on the line of each job, and of each savepoint.
    pub(super) lines: BTreeMap<JobId, Vec<Written>>,
    pub(super) saved: BTreeMap<(JobId, String), Vec<Written>>,
    /// Whether barriers overtake at the moment.
    pub(super) overtakes: bool,
    /// Reports on their way, which may come late.
    pub(super) reports: Vec<(JobId, ShardId, ShardFiles)>,
}

impl World {
    pub(super) fn change(&mut self, change: Change) -> Answer {
        self.requests += 1;
        let command = Command {
            request: self.requests,
            change,
        };
        let text = serde_json::to_string(&command).expect("serializable");
        self.state
            .apply(serde_json::from_str(&text).expect("readable"))
    }

    pub(super) fn accept(&mut self, origin: Option<OriginSpec>) -> Answer {
        let spec = JobSpec {
            name: "job".into(),
            sql: "INSERT".into(),
            plan: Arc::new(Plan {
                key_groups: 256,
                ..Plan::default()
            }),
            options: JobOptions {
                shards: SHARDS,
                retained_checkpoints: 2,
                ..JobOptions::default()
            },
            select: None,
            origin: origin.clone(),
            tables_max: 0,
        };
        let answer = self.change(Change::Accept {
            catalog: None,
            statements: None,
            jobs: vec![spec],
            now_ms: 1,
            seed: 1,
        });
        if let Answer::Accepted { jobs } = &answer {
            let job = jobs[0];
            let line = origin
                .map(|origin| self.history(&origin))
                .unwrap_or_default();
            self.lines.insert(job, line);
            let generation = self.state.jobs[&job].generation.next();
            self.change(Change::Begin { job, generation });
        }
        answer
    }

    /// What was committed up to a state of a job.
    pub(super) fn history(&self, origin: &OriginSpec) -> Vec<Written> {
        let up_to = match &origin.at {
            RestoreAt::Newest => Epoch(u64::MAX),
            RestoreAt::Checkpoint(epoch) => *epoch,
            RestoreAt::Savepoint(name) => return self.saved[&(origin.job, name.clone())].clone(),
        };
        let line = self.lines[&origin.job].iter();
        line.filter(|written| written.0 <= up_to).cloned().collect()
    }

    pub(super) fn active(&self) -> Vec<JobId> {
        self.state.active().map(|job| job.id).collect()
    }

    pub(super) fn commit(&mut self, job: JobId, shards: Vec<ShardId>, output: bool) {
        let record = &self.state.jobs[&job];
        let epoch = record.first.max(record.committed.next());
        let (generation, previous) = (record.generation, record.committed);
        let rows = format!("{generation}/{epoch}.rows");
        let mut objects = vec![(rows.clone(), LogHolding::Rows(shards.clone()))];
        if output {
            let name = format!("{generation}/{epoch}.out");
            objects.push((name, LogHolding::Output(vec![SinkId(0)])));
        }
        let objects: Vec<LogObject> = (objects.into_iter())
            .map(|(name, holds)| LogObject {
                name,
                bytes: 1,
                holds,
            })
            .collect();
        let written = objects.iter().map(|object| (job, object.name.clone()));
        self.objects.extend(written);
        let answer = self.change(Change::Commit {
            job,
            generation,
            previous,
            epoch,
            objects,
            overtaken_bytes: u64::from(self.overtakes),
            published: BTreeMap::new(),
        });
        self.lines
            .entry(job)
            .or_default()
            .push((epoch, job, rows, shards));
        self.trim(job, answer);
    }

    pub(super) fn trim(&mut self, job: JobId, answer: Answer) {
        let (Answer::Trimmed { objects } | Answer::Resumed { objects, .. }) = answer else {
            return;
        };
        for object in objects {
            assert!(self.objects.remove(&(job, object)), "deleted twice");
        }
    }

    /// Opens the shard's database if it is not open yet, and flushes what is committed.
    pub(super) fn flush(&mut self, job: JobId, shard: ShardId) {
        self.open(job, shard);
        let record = &self.state.jobs[&job];
        let (line, committed) = (record.job_line(), record.committed);
        let database = self.databases.get_mut(&(line, shard)).expect("open");
        if committed > database.durable {
            database.durable = committed;
            let current = database.current.clone();
            database.manifests.insert(committed, current);
        }
        self.report(job, shard);
    }

    pub(super) fn open(&mut self, job: JobId, shard: ShardId) {
        let open = self.state.jobs[&job].open_shard(shard);
        let line = self.state.jobs[&job].job_line();
        if self.databases.contains_key(&(line, shard)) {
            return;
        }
        let mut database = Database::default();
        if let Some(base) = open.base {
            let source = self.databases.get(&(base.of, shard));
            let source = source.expect("what a shard is cloned from is there");
            let mut parents = source.manifests[&base.epoch].clone();
            parents.insert(base.of);
            database.current.clone_from(&parents);
            database.manifests.insert(base.epoch, parents);
            database.durable = base.epoch;
        }
        self.databases.insert((line, shard), database);
    }

    pub(super) fn report(&mut self, job: JobId, shard: ShardId) {
        let line = self.state.jobs[&job].job_line();
        let database = &self.databases[&(line, shard)];
        let files = ShardFiles {
            line: line.line,
            manifest: database.durable,
            parents: database.parents().into_iter().collect(),
        };
        self.reports.push((job, shard, files));
    }

    pub(super) fn deliver(&mut self, which: usize) {
        if self.reports.is_empty() {
            return;
        }
        let (job, shard, files) = self.reports.remove(which % self.reports.len());
        if !self.state.jobs.contains_key(&job) {
            return;
        }
        let answer = self.change(Change::Durable {
            job,
            durable: [(shard, files.manifest)].into(),
            files: [(shard, files)].into(),
        });
        self.trim(job, answer);
    }

    /// What a node does now and then, as of one listing and the answer after it.
    pub(super) fn collect(&mut self, job: JobId) {
        let Ok(references) = self.state.references(job) else {
            return;
        };
        if references.ended && !self.state.is_held(job) {
            self.objects.retain(|(of, _)| *of != job);
            self.databases.retain(|(line, _), _| line.job != job);
            self.change(Change::Dropped { job });
            return;
        }
        let needed: BTreeSet<&String> = references.objects.iter().collect();
        (self.objects).retain(|(of, name)| *of != job || needed.contains(name));
        self.databases.retain(|(line, shard), database| {
            if line.job != job {
                return true;
            }
            let Some(manifests) = references.manifests(line.line, *shard) else {
                return false;
            };
            let newest = manifests.last().copied().unwrap_or_default();
            (database.manifests).retain(|epoch, _| manifests.contains(epoch) || *epoch > newest);
            true
        });
    }

    pub(super) fn end(&mut self, job: JobId, state: JobState) {
        let outcome = Outcome {
            state,
            error: None,
            at_ms: 2,
        };
        let stopped = self.state.jobs[&job].desired.savepoint().cloned();
        if let Some(name) = stopped {
            let line = self.lines[&job].clone();
            self.saved.insert((job, name), line);
        }
        self.change(Change::End { job, outcome });
    }

    /// What a check is told is what decides what is deleted, and everything is needed by somebody.
    pub(super) fn check_inventory(&self) {
        for told in self.state.inventory().jobs {
            let references = self.state.references(told.job).expect("a job");
            let objects: Vec<String> = (told.objects.iter())
                .map(|held| held.object.name.clone())
                .collect();
            let objects: BTreeSet<String> = objects.into_iter().collect();
            assert_eq!(objects, references.objects.into_iter().collect());
            assert!(told.objects.iter().all(|held| !held.by.is_empty()));
            for (told, needed) in told.databases.iter().zip(&references.databases) {
                assert_eq!((told.line, told.shard), (needed.line, needed.shard));
                assert!(told.manifests.iter().all(|held| !held.by.is_empty()));
            }
        }
    }

    /// Whatever can be restored is all there.
    pub(super) fn check(&self) {
        self.check_inventory();
        for record in self.state.jobs.values() {
            let ended = record.outcome.is_some();
            let restorable = if ended {
                Vec::new()
            } else {
                record.restorable()
            };
            if !ended && record.committed > Epoch::ZERO {
                assert_eq!(restorable.last(), Some(&record.committed));
            }
            for epoch in restorable {
                let at = RestoreAt::Checkpoint(epoch);
                let origin = OriginSpec { job: record.id, at };
                let point = self.state.resolve(&origin).expect("it is restorable");
                self.check_point(&point, &self.history(&origin));
            }
            for (name, savepoint) in &record.savepoints {
                let history = &self.saved[&(record.id, name.clone())];
                self.check_point(&savepoint.point, history);
            }
            if !ended {
                self.check_open(record);
            }
        }
    }

    pub(super) fn check_point(&self, point: &RestorePoint, history: &[Written]) {
        for shard in (0..SHARDS).map(ShardId) {
            let begin = point.shards[&shard];
            self.check_manifest(begin.of, shard, begin.epoch);
            let after = history.iter().filter(|(epoch, ..)| *epoch > begin.epoch);
            for (epoch, job, name, _) in after.filter(|(.., shards)| shards.contains(&shard)) {
                let logged = point.log.get(epoch);
                let listed = logged.is_some_and(|logged| {
                    logged.job == *job && logged.objects.iter().any(|object| object.name == *name)
                });
                assert!(
                    listed,
                    "{name} of {job} is not in the point of {}",
                    point.epoch
                );
                assert!(
                    self.objects.contains(&(*job, name.clone())),
                    "{name} of {job} is gone"
                );
            }
        }
    }

    pub(super) fn check_manifest(&self, of: JobLine, shard: ShardId, epoch: Epoch) {
        if epoch == Epoch::ZERO {
            return;
        }
        let database = self.databases.get(&(of, shard));
        let database = database.unwrap_or_else(|| panic!("{of:?} {shard} is gone"));
        let parents = database.manifests.get(&epoch);
        let parents = parents.unwrap_or_else(|| panic!("{epoch} of {of:?} {shard} is gone"));
        for parent in parents {
            assert!(
                self.databases.contains_key(&(*parent, shard)),
                "{parent:?} {shard} is gone"
            );
        }
    }

    /// Its owner finds all that it needs to serve the newest state.
    pub(super) fn check_open(&self, record: &JobRecord) {
        for shard in (0..SHARDS).map(ShardId) {
            let open = record.open_shard(shard);
            let there = self.databases.get(&(record.job_line(), shard));
            let begin = match (there, open.base) {
                (Some(database), _) => {
                    for parent in &database.current {
                        assert!(
                            self.databases.contains_key(&(*parent, shard)),
                            "{parent:?} is gone"
                        );
                    }
                    database.durable
                }
                (None, Some(base)) => {
                    self.check_manifest(base.of, shard, base.epoch);
                    base.epoch
                }
                (None, None) => Epoch::ZERO,
            };
            let own = open.log.iter().map(|committed| (record.id, committed));
            let inherited = open.inherited.iter();
            let inherited = inherited.map(|inherited| (inherited.job, &inherited.committed));
            let told: BTreeSet<(JobId, &String)> = (inherited.chain(own))
                .flat_map(|(job, committed)| committed.objects.iter().map(move |o| (job, &o.name)))
                .collect();
            for (epoch, job, name, shards) in &self.lines[&record.id] {
                if *epoch > begin && shards.contains(&shard) {
                    assert!(told.contains(&(*job, name)), "{name} of {job} is not told");
                    assert!(
                        self.objects.contains(&(*job, name.clone())),
                        "{name} is gone"
                    );
                }
            }
        }
    }

    #[allow(clippy::too_many_lines)] // one arm for each thing that can happen
    pub(super) fn step(&mut self, (kind, a, b): (u8, usize, usize)) {
        let active = self.active();
        let Some(job) = active.get(a % active.len().max(1)).copied() else {
            self.accept(None);
            return;
        };
        let shard = ShardId(b as u32 % SHARDS);
        let at = |world: &World| {
            let restorable = world.state.jobs[&job].restorable();
            let epoch = restorable.get(b % restorable.len().max(1));
            epoch.map_or(RestoreAt::Newest, |epoch| RestoreAt::Checkpoint(*epoch))
        };
        match kind {
            0..=5 => {
                let shards = [
                    vec![ShardId(0)],
                    vec![ShardId(1)],
                    vec![ShardId(0), ShardId(1)],
                ];
                self.commit(job, shards[b % 3].clone(), b % 2 == 0);
            }
            6..=9 => self.flush(job, shard),
            10..=13 => self.deliver(b),
            14 => {
                let (at, name) = (at(self), format!("s{}", b % 4));
                let origin = OriginSpec {
                    job,
                    at: at.clone(),
                };
                let save = Change::Save {
                    job,
                    name: name.clone(),
                    at,
                    now_ms: 1,
                };
                if let Answer::Saved { .. } = self.change(save) {
                    let history = self.history(&origin);
                    self.saved.insert((job, name), history);
                }
            }
            15 => {
                let savepoints = self.state.jobs.values().flat_map(|record| {
                    let names = record.savepoints.keys();
                    names.map(|name| (record.id, name.clone()))
                });
                let savepoints: Vec<(JobId, String)> = savepoints.collect();
                if let Some((job, name)) = savepoints.get(b % savepoints.len().max(1)).cloned() {
                    let answer = self.change(Change::DropSavepoint { job, name });
                    self.trim(job, answer);
                }
            }
            16 if active.len() < 6 => {
                let at = at(self);
                self.accept(Some(OriginSpec { job, at }));
            }
            17 if active.len() < 6 => {
                let saved: Vec<(JobId, String)> = (self.state.jobs.values())
                    .flat_map(|job| job.savepoints.keys().map(|name| (job.id, name.clone())))
                    .collect();
                if let Some((job, name)) = saved.get(b % saved.len().max(1)).cloned() {
                    let at = RestoreAt::Savepoint(name);
                    self.accept(Some(OriginSpec { job, at }));
                }
            }
            18 => {
                let at = at(self);
                let origin = OriginSpec {
                    job,
                    at: at.clone(),
                };
                let history = self.history(&origin);
                let (error, at_ms) = ("poisoned".to_owned(), 1);
                self.change(Change::Quarantine { job, error, at_ms });
                let answer = self.change(Change::Resume { job, at });
                if matches!(answer, Answer::Resumed { .. }) {
                    self.lines.insert(job, history);
                }
                self.trim(job, answer);
            }
            19 => {
                if b % 2 == 0 {
                    let savepoint = Some(format!("stop{a}"));
                    let stop = Stop {
                        savepoint,
                        drain: false,
                    };
                    self.change(Change::Stop { job, stop });
                    self.end(job, JobState::Finished);
                } else {
                    self.end(job, JobState::Canceled);
                }
            }
            20 => {
                // Its compactions have taken over all files of others.
                let line = self.state.jobs[&job].job_line();
                if let Some(database) = self.databases.get_mut(&(line, shard)) {
                    database.current.clear();
                    self.report(job, shard);
                }
            }
            _ => {
                let jobs: Vec<JobId> = self.state.jobs.keys().copied().collect();
                self.collect(jobs[b % jobs.len()]);
            }
        }
    }

    /// All savepoints are dropped, all jobs end, and nodes tidy up.
    pub(super) fn finish(&mut self) {
        for job in self.active() {
            self.end(job, JobState::Canceled);
        }
        let savepoints = self.state.jobs.values().flat_map(|record| {
            let names = record.savepoints.keys();
            names.map(|name| (record.id, name.clone()))
        });
        for (job, name) in savepoints.collect::<Vec<_>>() {
            let answer = self.change(Change::DropSavepoint { job, name });
            self.trim(job, answer);
        }
        // Files of a job go after those of the jobs that were made from it.
        let jobs: Vec<JobId> = self.state.jobs.keys().rev().copied().collect();
        for job in jobs {
            self.collect(job);
        }
    }
}
