//! The state machine: applies changes, refuses what does not fit.

use std::collections::{BTreeMap, VecDeque};

use proto::{
    state_control::ShardFiles,
    types::{Epoch, Generation, JobId, ShardId, SinkId, TransferId},
};
use serde::{Deserialize, Serialize};

use super::{
    Answer, Catalog, Change, Command, Desired, JobRecord, JobSpec, OriginSpec, Outcome, Quarantine,
    Refusal, RestoreAt, Stop, Transfer,
};
use crate::{
    JobState,
    caps::{ANSWERS_REMEMBERED, JOBS_ACTIVE_MAX, JOBS_ENDED_MAX},
    place::Routing,
};

/// All metadata of a cluster.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct MetaState {
    /// Tells the cluster from every other, also of the same name; `None` until it was founded.
    pub cluster_id: Option<String>,
    /// The store that state is in; `None` until the first state node has one.
    pub store_id: Option<String>,
    /// Tables, views and options.
    pub catalog: Catalog,
    /// Jobs that have not ended, and the last ones that have.
    pub jobs: BTreeMap<JobId, JobRecord>,
    pub(super) last_job: u64,
    /// Copies of savepoints that are being made, and the last ones that were.
    #[serde(default)]
    pub transfers: BTreeMap<TransferId, Transfer>,
    #[serde(default)]
    pub(super) last_transfer: u64,
    /// The last answers by request, so that a change that is asked for again is not made again.
    answers: VecDeque<(u64, Answer)>,
}

impl MetaState {
    /// Applies an entry of the log.
    pub fn apply(&mut self, command: Command) -> Answer {
        let known = self.answers.iter().rev();
        if let Some((_, answer)) = known
            .into_iter()
            .find(|(request, _)| *request == command.request)
        {
            return answer.clone();
        }
        let answer = self.change(command.change).unwrap_or_else(Answer::Refused);
        if self.answers.len() == ANSWERS_REMEMBERED {
            self.answers.pop_front();
        }
        self.answers.push_back((command.request, answer.clone()));
        answer
    }

    /// A job.
    ///
    /// # Errors
    /// When there is none of this number.
    pub fn job(&self, job: JobId) -> Result<&JobRecord, Refusal> {
        self.jobs.get(&job).ok_or(Refusal::UnknownJob(job))
    }

    /// Jobs that have not ended.
    pub fn active(&self) -> impl Iterator<Item = &JobRecord> {
        self.jobs.values().filter(|job| job.outcome.is_none())
    }

    fn change(&mut self, change: Change) -> Result<Answer, Refusal> {
        match change {
            Change::Found { cluster_id } => {
                let cluster_id = self.cluster_id.get_or_insert(cluster_id).clone();
                Ok(Answer::Founded { cluster_id })
            }
            Change::Bind { store_id } => {
                let store_id = self.store_id.get_or_insert(store_id).clone();
                Ok(Answer::Bound { store_id })
            }
            Change::Accept {
                catalog,
                statements,
                jobs,
                now_ms,
                seed,
            } => self.accept((catalog, statements), jobs, now_ms, seed),
            Change::Cancel { .. }
            | Change::Autoscale { .. }
            | Change::Rescale { .. }
            | Change::Quarantine { .. }
            | Change::Own { .. } => self.note(change),
            Change::Begin { job, generation } => self.begin(job, generation),
            Change::Commit { .. } => self.commit(change),
            Change::Reroute {
                job,
                generation,
                epoch,
                routing,
            } => self.reroute(job, generation, epoch, routing),
            Change::Published { job, published } => {
                self.trim(job, &BTreeMap::new(), &BTreeMap::new(), &published)
            }
            Change::Durable {
                job,
                durable,
                files,
            } => self.trim(job, &durable, &files, &BTreeMap::new()),
            Change::Save {
                job,
                name,
                at,
                now_ms,
            } => {
                let epoch = self.save(job, name, at, now_ms)?;
                Ok(Answer::Saved { epoch })
            }
            Change::DropSavepoint { job, name } => {
                let objects = self.drop_savepoint(job, &name)?;
                Ok(Answer::Trimmed { objects })
            }
            Change::BeginTransfer { .. }
            | Change::FoundTransfer { .. }
            | Change::CancelTransfer { .. }
            | Change::EndTransfer { .. } => self.change_transfer(change),
            Change::Stop { job, stop } => self.stop(job, stop),
            Change::Upgrade { .. } => self.upgrade(change),
            Change::Resume { job, at } => self.resume(job, at),
            Change::End { job, outcome } => self.end(job, outcome),
            Change::Dropped { job } => self.dropped(job),
            Change::Forget { job } => self.forget(&[job]),
            Change::ForgetAll { jobs } => self.forget(&jobs),
        }
    }

    /// Takes note of what is wanted, or known, of a job that has not ended.
    fn note(&mut self, change: Change) -> Result<Answer, Refusal> {
        match change {
            Change::Cancel { job } => {
                let record = self.running(job)?;
                record.keep_place("the job was cancelled");
                record.desired = Desired::Cancel;
            }
            Change::Autoscale { job, policy } => {
                self.running(job)?.spec.options.autoscale = policy;
            }
            Change::Rescale {
                job,
                parallelism,
                fixed,
            } => {
                let record = self.running(job)?;
                record.parallelism = Some(parallelism);
                if fixed {
                    record.spec.options.autoscale = None;
                }
            }
            Change::Quarantine { job, error, at_ms } => {
                self.running(job)?.give_up(Quarantine { error, at_ms });
            }
            Change::Own { job, owners } => self.running(job)?.own(owners),
            _ => {}
        }
        Ok(Answer::Done)
    }

    fn accept(
        &mut self,
        (catalog, statements): (Option<u64>, Option<Vec<String>>),
        jobs: Vec<JobSpec>,
        now_ms: u64,
        seed: u64,
    ) -> Result<Answer, Refusal> {
        self.check_accept(catalog, &jobs)?;
        if let Some(statements) = statements {
            self.catalog.version += 1;
            self.catalog.statements = statements;
        }
        let jobs = jobs.into_iter();
        let jobs = jobs.map(|spec| self.insert(spec, now_ms, seed));
        let jobs = jobs.collect::<Result<_, _>>()?;
        Ok(Answer::Accepted { jobs })
    }

    fn check_accept(&self, catalog: Option<u64>, jobs: &[JobSpec]) -> Result<(), Refusal> {
        if catalog.is_some_and(|version| version != self.catalog.version) {
            return Err(Refusal::CatalogMoved(self.catalog.version));
        }
        let (new, active, max) = (jobs.len(), self.active().count(), JOBS_ACTIVE_MAX);
        if new > 0 && active + new > max {
            return Err(Refusal::TooManyJobs { new, active, max });
        }
        for spec in jobs {
            if let Some(origin) = &spec.origin {
                self.check_origin(spec, origin)?;
            }
        }
        Ok(())
    }

    fn check_origin(&self, spec: &JobSpec, origin: &OriginSpec) -> Result<(), Refusal> {
        self.resolve(origin)?;
        self.check_cut(spec, origin.job)
    }

    /// Whether a job would cut state as another one does.
    pub(super) fn check_cut(&self, spec: &JobSpec, of: JobId) -> Result<(), Refusal> {
        let source = self.job(of)?;
        let (key_groups, shards) = (source.spec.plan.key_groups, source.spec.options.shards);
        if (spec.plan.key_groups, spec.options.shards) != (key_groups, shards) {
            return Err(Refusal::OtherCut {
                job: of,
                key_groups,
                shards,
            });
        }
        Ok(())
    }

    pub(super) fn insert(
        &mut self,
        spec: JobSpec,
        now_ms: u64,
        seed: u64,
    ) -> Result<JobId, Refusal> {
        self.last_job += 1;
        let id = JobId(self.last_job);
        let run = run_of(seed, id, now_ms);
        let begins = match &spec.origin {
            Some(origin) => {
                let point = self.resolve(origin)?;
                let unknown = self.unknown_sources(origin.job, point.epoch, &spec.plan);
                let origin = self.origin_of(origin, point.epoch);
                Some((point, origin, unknown))
            }
            None => None,
        };
        let mut record = JobRecord::new(id, spec, now_ms, run);
        let point = begins.map(|(point, origin, unknown)| {
            record.origin = origin;
            record.new_sources = unknown;
            point
        });
        self.jobs.insert(id, record);
        if let Some(point) = point {
            self.adopt(id, point);
        }
        Ok(id)
    }

    fn stop(&mut self, job: JobId, stop: Stop) -> Result<Answer, Refusal> {
        let record = self.running(job)?;
        match &record.desired {
            Desired::Stop(known) if *known == stop => return Ok(Answer::Done),
            Desired::Stop(_) | Desired::Cancel => return Err(Refusal::Stopping(job)),
            Desired::Run if record.quarantine.is_some() => return Err(Refusal::Quarantined(job)),
            Desired::Run => {}
        }
        if let Some(name) = &stop.savepoint {
            self.check_savepoint(job, name)?;
        }
        self.running(job)?.desired = Desired::Stop(stop);
        Ok(Answer::Done)
    }

    fn resume(&mut self, job: JobId, at: RestoreAt) -> Result<Answer, Refusal> {
        let record = self.running(job)?;
        if record.quarantine.is_none() {
            return Err(Refusal::NotQuarantined(job));
        }
        if record.desired == Desired::Cancel {
            return Err(Refusal::Stopping(job));
        }
        let newest = record.committed;
        let is_newest = match &at {
            RestoreAt::Newest => true,
            RestoreAt::Checkpoint(epoch) => *epoch == newest,
            RestoreAt::Savepoint(_) => false,
        };
        let mut objects = Vec::new();
        if !is_newest {
            let point = self.resolve(&OriginSpec { job, at })?;
            let record = self.any(job)?;
            let lists = [&record.log, &record.output];
            let names = lists.into_iter().flat_map(BTreeMap::values).flatten();
            objects = names.map(|object| object.name.clone()).collect();
            record.take_back(point.epoch);
            self.adopt(job, point);
            self.forget_databases(job);
            objects = self.unneeded(job, objects);
        }
        let record = self.any(job)?;
        record.quarantine = None;
        // What the generation before has under way must not follow what came before it now.
        record.begin(record.generation.next());
        let epoch = record.committed;
        Ok(Answer::Resumed { epoch, objects })
    }

    pub(super) fn end(&mut self, job: JobId, mut outcome: Outcome) -> Result<Answer, Refusal> {
        let record = self.running(job)?;
        let has_state = outcome.state == JobState::Finished && record.committed > Epoch::ZERO;
        let desired = std::mem::replace(&mut record.desired, Desired::Run);
        let savepoint = desired.savepoint().cloned().filter(|_| has_state);
        // The name was kept free since it was asked for, and there is room for it.
        if let Some(name) = savepoint
            && let Err(refusal) = self.save(job, name, RestoreAt::Newest, outcome.at_ms)
        {
            outcome.error = Some(format!("no savepoint was made: {refusal}"));
        }
        let (at_ms, whole) = (outcome.at_ms, has_state && outcome.error.is_none());
        if let Some(record) = self.jobs.get_mut(&job) {
            record.desired = desired;
            if !whole {
                record.keep_place("the job did not end with a savepoint");
            }
            record.end(outcome);
        }
        let successor = self.succeed(job, at_ms);
        self.forget_databases(job);
        self.forget_oldest();
        Ok(match successor {
            Some(by) => Answer::Succeeded { by },
            None => Answer::Done,
        })
    }

    /// No file of an ended job is left.
    fn dropped(&mut self, job: JobId) -> Result<Answer, Refusal> {
        if self.is_held(job) {
            return Err(Refusal::Held(job));
        }
        let record = self.ended(job)?;
        record.has_files = false;
        record.databases.clear();
        if record.forgotten {
            self.jobs.remove(&job);
        }
        self.forget_oldest();
        Ok(Answer::Done)
    }

    /// Takes note of what shards and sinks are done with; the objects that nothing needs any more.
    fn trim(
        &mut self,
        job: JobId,
        durable: &BTreeMap<ShardId, Epoch>,
        files: &BTreeMap<ShardId, ShardFiles>,
        published: &BTreeMap<SinkId, Epoch>,
    ) -> Result<Answer, Refusal> {
        let objects = self.any(job)?.trim(durable, files, published);
        if !files.is_empty() {
            self.forget_databases(job);
        }
        let objects = self.unneeded(job, objects);
        Ok(Answer::Trimmed { objects })
    }

    fn begin(&mut self, job: JobId, generation: Generation) -> Result<Answer, Refusal> {
        let record = self.running(job)?;
        let current = record.generation;
        // One in between was asked for and given up before it began.
        if generation > current {
            record.begin(generation);
        } else if generation != current {
            return Err(Refusal::Fenced {
                job,
                asked: generation,
                current,
            });
        }
        Ok(Answer::Begun {
            restored: record.committed,
            first: record.first,
        })
    }

    fn commit(&mut self, change: Change) -> Result<Answer, Refusal> {
        let Change::Commit {
            job,
            generation,
            previous,
            epoch,
            objects,
            overtaken_bytes,
            published,
        } = change
        else {
            return Ok(Answer::Done);
        };
        let record = self.running(job)?;
        let current = record.generation;
        if generation != current {
            return Err(Refusal::Fenced {
                job,
                asked: generation,
                current,
            });
        }
        let committed = record.committed;
        if epoch < record.first || epoch <= committed || previous != committed {
            return Err(Refusal::OutOfOrder {
                job,
                epoch,
                committed,
            });
        }
        record.commit(epoch, objects, overtaken_bytes);
        self.trim(job, &BTreeMap::new(), &BTreeMap::new(), &published)
    }

    fn reroute(
        &mut self,
        job: JobId,
        generation: Generation,
        epoch: Epoch,
        routing: Routing,
    ) -> Result<Answer, Refusal> {
        let record = self.running(job)?;
        let current = record.generation;
        if generation != current {
            return Err(Refusal::Fenced {
                job,
                asked: generation,
                current,
            });
        }
        let committed = record.committed;
        if epoch <= committed {
            return Err(Refusal::OutOfOrder {
                job,
                epoch,
                committed,
            });
        }
        record.next_routing = Some((epoch, routing));
        Ok(Answer::Done)
    }

    /// The user wants to hear no more of these jobs.
    fn forget(&mut self, jobs: &[JobId]) -> Result<Answer, Refusal> {
        for job in jobs {
            let record = self.ended(*job)?;
            if record.forgotten {
                return Err(Refusal::UnknownJob(*job));
            }
            if !record.savepoints.is_empty() {
                return Err(Refusal::HasSavepoints(*job));
            }
        }
        for job in jobs {
            if let Some(record) = self.jobs.get_mut(job) {
                // Somebody must remember to delete its files.
                record.forgotten = true;
                if !record.has_files {
                    self.jobs.remove(job);
                }
            }
        }
        Ok(Answer::Done)
    }

    pub(super) fn any(&mut self, job: JobId) -> Result<&mut JobRecord, Refusal> {
        self.jobs.get_mut(&job).ok_or(Refusal::UnknownJob(job))
    }

    fn running(&mut self, job: JobId) -> Result<&mut JobRecord, Refusal> {
        let record = self.any(job)?;
        match record.outcome {
            None => Ok(record),
            Some(_) => Err(Refusal::Ended(job)),
        }
    }

    fn ended(&mut self, job: JobId) -> Result<&mut JobRecord, Refusal> {
        let record = self.any(job)?;
        match record.outcome {
            Some(_) => Ok(record),
            None => Err(Refusal::NotEnded(job)),
        }
    }

    /// Ended jobs beyond the limit go, the oldest first; one whose files are still there stays, for
    /// somebody must remember to delete them.
    fn forget_oldest(&mut self) {
        let ended = self.jobs.values().filter(|job| job.outcome.is_some());
        let surplus = ended.clone().count().saturating_sub(JOBS_ENDED_MAX);
        let oldest = ended.filter(|job| !job.has_files).map(|job| job.id);
        let oldest: Vec<JobId> = oldest.take(surplus).collect();
        for job in oldest {
            self.jobs.remove(&job);
        }
    }
}

/// A number that another job, or one accepted with another seed, does not have.
pub(super) fn run_of(seed: u64, id: JobId, now_ms: u64) -> u64 {
    // Each round is one to one, so jobs of one script stay apart.
    [seed, now_ms, id.0].into_iter().fold(0, |word: u64, more| {
        let word = word.wrapping_add(more).wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    })
}
