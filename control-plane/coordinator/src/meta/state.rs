//! The state machine: applies changes, refuses what does not fit.

use std::collections::{BTreeMap, VecDeque};

use proto::{
    log::LogObject,
    types::{Epoch, Generation, JobId, SinkId},
};
use serde::{Deserialize, Serialize};

use super::{Answer, Catalog, Change, Command, Desired, JobRecord, JobSpec, Refusal};
use crate::{
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
    last_job: u64,
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
            } => {
                self.check_accept(catalog, jobs.len())?;
                if let Some(statements) = statements {
                    self.catalog.version += 1;
                    self.catalog.statements = statements;
                }
                let jobs = jobs.into_iter();
                let jobs = jobs.map(|spec| self.insert(spec, now_ms, seed)).collect();
                Ok(Answer::Accepted { jobs })
            }
            Change::Cancel { job } => {
                self.running(job)?.desired = Desired::Cancel;
                Ok(Answer::Done)
            }
            Change::Autoscale { job, policy } => {
                self.running(job)?.spec.options.autoscale = policy;
                Ok(Answer::Done)
            }
            Change::Begin { job, generation } => self.begin(job, generation),
            Change::Commit {
                job,
                generation,
                previous,
                epoch,
                objects,
                published,
            } => self.commit(job, (generation, previous, epoch), objects, &published),
            Change::Reroute {
                job,
                generation,
                epoch,
                routing,
            } => self.reroute(job, generation, epoch, routing),
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
                Ok(Answer::Done)
            }
            Change::Published { job, published } => {
                let objects = self.any(job)?.trim(&BTreeMap::new(), &published);
                Ok(Answer::Trimmed { objects })
            }
            Change::Durable { job, durable } => {
                let objects = self.any(job)?.trim(&durable, &BTreeMap::new());
                Ok(Answer::Trimmed { objects })
            }
            Change::Own { job, owners } => {
                self.running(job)?.own(owners);
                Ok(Answer::Done)
            }
            Change::End { job, outcome } => {
                self.running(job)?.end(outcome);
                self.forget_oldest();
                Ok(Answer::Done)
            }
            Change::Dropped { job } => {
                let record = self.ended(job)?;
                record.has_files = false;
                if record.forgotten {
                    self.jobs.remove(&job);
                }
                self.forget_oldest();
                Ok(Answer::Done)
            }
            Change::Forget { job } => self.forget(&[job]),
            Change::ForgetAll { jobs } => self.forget(&jobs),
        }
    }

    fn check_accept(&self, catalog: Option<u64>, new: usize) -> Result<(), Refusal> {
        if catalog.is_some_and(|version| version != self.catalog.version) {
            return Err(Refusal::CatalogMoved(self.catalog.version));
        }
        let (active, max) = (self.active().count(), JOBS_ACTIVE_MAX);
        if new > 0 && active + new > max {
            return Err(Refusal::TooManyJobs { new, active, max });
        }
        Ok(())
    }

    fn insert(&mut self, spec: JobSpec, now_ms: u64, seed: u64) -> JobId {
        self.last_job += 1;
        let id = JobId(self.last_job);
        let run = run_of(seed, id, now_ms);
        self.jobs.insert(id, JobRecord::new(id, spec, now_ms, run));
        id
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

    fn commit(
        &mut self,
        job: JobId,
        (generation, previous, epoch): (Generation, Epoch, Epoch),
        objects: Vec<LogObject>,
        published: &BTreeMap<SinkId, Epoch>,
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
        if epoch < record.first || epoch <= committed || previous != committed {
            return Err(Refusal::OutOfOrder {
                job,
                epoch,
                committed,
            });
        }
        record.commit(epoch, objects);
        let objects = record.trim(&BTreeMap::new(), published);
        Ok(Answer::Trimmed { objects })
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
            if self.ended(*job)?.forgotten {
                return Err(Refusal::UnknownJob(*job));
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

    fn any(&mut self, job: JobId) -> Result<&mut JobRecord, Refusal> {
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
fn run_of(seed: u64, id: JobId, now_ms: u64) -> u64 {
    // Each round is one to one, so jobs of one script stay apart.
    [seed, now_ms, id.0].into_iter().fold(0, |word: u64, more| {
        let word = word.wrapping_add(more).wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    })
}
