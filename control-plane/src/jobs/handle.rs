//! The handle through which everybody else deals with jobs.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock, PoisonError, RwLock},
};

use coordinator::{
    JobState,
    meta::{Answer, JobRecord, JobSpec, Refusal, RestoreAt, Stop, UpgradeMode},
    place::PlaceError,
};
use proto::{
    control::JobMetrics,
    policy::AutoscalePolicy,
    types::{Epoch, JobId},
};
use rpc::trace_context;
use state_client::KeptState;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{JobEntry, requests::odd};
use crate::{
    capacity::CapacityStatus,
    caps::{ALIGNED_PATIENCE, ALIGNED_PAUSE, JOBS_ENDED_MAX, PROPOSAL_PATIENCE},
    metadata::{Metadata, MetadataError, look},
    workers::Workers,
};

/// Why jobs were not accepted. None of them runs then.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SubmitError {
    /// One cannot be placed.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// They do not fit what there is.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// They could not be written down.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The process is going down, or leads no more. Nothing was done.
    #[error("the server is shutting down, or does not lead any more")]
    Closed,
    /// The same, before there was an answer: it may have been done.
    #[error("the server stopped leading before it had an answer")]
    Interrupted,
}

/// Why a request about a job failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JobsError {
    /// There is no such job.
    #[error("{0} does not exist")]
    Unknown(JobId),
    /// It still runs, or is about to.
    #[error("{0} has not ended")]
    NotEnded(JobId),
    /// It has ended.
    #[error("{0} has ended")]
    Ended(JobId),
    /// It cannot have these tasks.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// Its parallelism cannot be changed now.
    #[error("the parallelism of {job} cannot be changed: {why}")]
    Rescale {
        /// Job.
        job: JobId,
        /// Why.
        why: String,
    },
    /// It does not fit how things are.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// There is nowhere to keep state.
    #[error("this server keeps state in memory only")]
    NotKept,
    /// The wish could not be written down.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The process is going down, or leads no more. Nothing was done.
    #[error("the server is shutting down, or does not lead any more")]
    Closed,
    /// The same, before there was an answer: it may have been done.
    #[error("the server stopped leading before it had an answer")]
    Interrupted,
}

/// How many tasks a job is to have from now on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Scale {
    /// So many of every fragment that does not run once.
    All(u32),
    /// So many of these fragments, by id; the others stay as they are.
    Fragments(BTreeMap<u32, u32>),
    /// As many as its load needs.
    Auto(AutoscalePolicy),
}

/// Jobs of this process. Cheap to clone.
#[derive(Clone)]
pub struct Jobs {
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) table: Arc<JobTable>,
    pub(super) workers: Workers,
    pub(super) metadata: Arc<dyn Metadata>,
    pub(super) keeps_checkpoints: bool,
}

/// What a script comes to: a new catalog, and jobs.
#[derive(Clone, Debug)]
pub struct Script {
    /// If the catalog matters: the version that the script was planned against, and the statements
    /// of the new one if the script changes it.
    pub catalog: Option<(u64, Option<Vec<String>>)>,
    /// Jobs to start.
    pub jobs: Vec<JobSpec>,
}

pub(super) enum Request {
    Accept {
        script: Script,
        reply: oneshot::Sender<Result<Vec<Arc<JobEntry>>, SubmitError>>,
        /// The trace of the request.
        trace: Option<String>,
    },
    /// A job was made for what is imported.
    Adopt {
        job: JobId,
        reply: oneshot::Sender<Result<(), JobsError>>,
    },
    Cancel {
        job: JobId,
        reply: oneshot::Sender<Result<(), JobsError>>,
    },
    Ask {
        job: JobId,
        ask: Ask,
        reply: oneshot::Sender<Result<Answer, JobsError>>,
    },
    Forget {
        jobs: Vec<JobId>,
        reply: oneshot::Sender<Result<(), JobsError>>,
    },
    Scale {
        job: JobId,
        scale: Scale,
        reply: oneshot::Sender<Result<(), JobsError>>,
    },
}

/// A job that is to take another one's place.
#[derive(Clone, PartialEq, Debug)]
pub struct Replacement {
    /// What it begins with.
    pub mode: UpgradeMode,
    /// Name of the savepoint that is made for it.
    pub savepoint: Option<String>,
    /// Version of the catalog that it was planned against, and the statements of the new one if that
    /// changes.
    pub catalog: (u64, Option<Vec<String>>),
    /// What is to run.
    pub spec: JobSpec,
}

/// What a user wants of a job and its state.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Ask {
    /// To end with a last checkpoint.
    Stop(Stop),
    /// A state of it to be kept by a name.
    Save { name: String, at: RestoreAt },
    /// To keep it no longer.
    DropSavepoint { name: String },
    /// To run again.
    Resume(RestoreAt),
    /// Another one to take its place.
    Upgrade(Box<Replacement>),
}

fn late() -> MetadataError {
    MetadataError::Unavailable {
        why: "the metadata has not answered in time".to_owned(),
        indeterminate: false,
    }
}

impl Jobs {
    /// Writes a script's effects down and starts its jobs: all or none.
    ///
    /// # Errors
    /// When it is not accepted; nothing was started then, unless the error leaves that open.
    pub async fn accept(&self, script: Script) -> Result<Vec<Arc<JobEntry>>, SubmitError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Accept {
            script,
            reply,
            trace: trace_context::current(),
        };
        let sent = self.requests.send(request).await;
        sent.map_err(|_| SubmitError::Closed)?;
        answer.await.map_err(|_| SubmitError::Interrupted)?
    }

    /// Starts a job.
    ///
    /// # Errors
    /// When it is not accepted; nothing was started then, unless the error leaves that open.
    pub async fn submit(&self, spec: JobSpec) -> Result<Arc<JobEntry>, SubmitError> {
        let script = Script {
            catalog: None,
            jobs: vec![spec],
        };
        let mut entries = self.accept(script).await?;
        entries.pop().ok_or(SubmitError::Interrupted)
    }

    /// The job.
    ///
    /// # Errors
    /// When there is none of this number (any more).
    pub fn get(&self, job: JobId) -> Result<Arc<JobEntry>, JobsError> {
        self.table.get(job).ok_or(JobsError::Unknown(job))
    }

    /// All jobs that have not ended and the last ones that have, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<JobEntry>> {
        self.table.list()
    }

    /// How many have not ended.
    #[must_use]
    pub fn active(&self) -> usize {
        self.table.active()
    }

    /// Asks the job to end. It has ended when its state says so; one that has ended stays as it is.
    ///
    /// # Errors
    /// When there is no such job.
    pub async fn cancel(&self, job: JobId) -> Result<(), JobsError> {
        self.get(job)?;
        let (reply, answer) = oneshot::channel();
        let sent = self.requests.send(Request::Cancel { job, reply }).await;
        sent.map_err(|_| JobsError::Closed)?;
        answer.await.map_err(|_| JobsError::Interrupted)?
    }

    /// Asks the job to end with a last checkpoint, which becomes a savepoint if that has a name.
    ///
    /// # Errors
    /// When it cannot be; nothing has changed then, unless the error leaves that open.
    pub async fn stop(&self, job: JobId, stop: Stop) -> Result<(), JobsError> {
        self.check_kept(stop.savepoint.is_some())?;
        self.ask(job, Ask::Stop(stop)).await.map(drop)
    }

    /// Keeps a state of the job by a name; its epoch. The newest is that of the last checkpoint which
    /// has overtaken nothing; where none is kept, that of the next one, which is made for this.
    ///
    /// # Errors
    /// As [`Jobs::stop`], and if no such checkpoint is made in time.
    pub async fn save(&self, job: JobId, name: String, at: RestoreAt) -> Result<Epoch, JobsError> {
        self.check_kept(true)?;
        let waits = at == RestoreAt::Newest;
        match self
            .ask_for_state(job, Ask::Save { name, at }, waits)
            .await?
        {
            Answer::Saved { epoch } => Ok(epoch),
            other => Err(odd(&other).into()),
        }
    }

    /// Asks, and if `waits`, again until a checkpoint has overtaken nothing: the driver has one made
    /// when it is refused for that.
    async fn ask_for_state(&self, job: JobId, ask: Ask, waits: bool) -> Result<Answer, JobsError> {
        let deadline = Instant::now() + ALIGNED_PATIENCE;
        loop {
            let runs = self.get(job)?.state() == JobState::Running;
            let can_wait = waits && runs && Instant::now() < deadline;
            match self.ask(job, ask.clone()).await {
                Err(JobsError::Refused(Refusal::Overtaken { .. })) if can_wait => {
                    tokio::time::sleep(ALIGNED_PAUSE).await;
                }
                answer => return answer,
            }
        }
    }

    /// Keeps a savepoint no longer.
    ///
    /// # Errors
    /// As [`Jobs::stop`].
    pub async fn drop_savepoint(&self, job: JobId, name: String) -> Result<(), JobsError> {
        self.ask(job, Ask::DropSavepoint { name }).await.map(drop)
    }

    /// Has another job take the job's place; which, unless it has to end before.
    ///
    /// # Errors
    /// As [`Jobs::stop`].
    pub async fn upgrade(
        &self,
        job: JobId,
        replacement: Replacement,
    ) -> Result<Option<JobId>, JobsError> {
        self.check_kept(replacement.mode != UpgradeMode::Stateless)?;
        let ask = Ask::Upgrade(Box::new(replacement));
        match self.ask_for_state(job, ask, true).await? {
            Answer::Upgraded { successor } => Ok(successor),
            other => Err(odd(&other).into()),
        }
    }

    /// Runs a job in quarantine again; from which epoch.
    ///
    /// # Errors
    /// As [`Jobs::stop`].
    pub async fn resume(&self, job: JobId, at: RestoreAt) -> Result<Epoch, JobsError> {
        self.check_kept(at != RestoreAt::Newest)?;
        match self.ask(job, Ask::Resume(at)).await? {
            Answer::Resumed { epoch, .. } => Ok(epoch),
            other => Err(odd(&other).into()),
        }
    }

    /// Makes a job known that was made for what is imported. One that is known stays as it is.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn adopt(&self, job: JobId) -> Result<(), JobsError> {
        if self.table.get(job).is_some() {
            return Ok(());
        }
        let (reply, answer) = oneshot::channel();
        let sent = self.requests.send(Request::Adopt { job, reply }).await;
        sent.map_err(|_| JobsError::Closed)?;
        answer.await.map_err(|_| JobsError::Interrupted)?
    }

    /// What is written down of the job.
    ///
    /// # Errors
    /// When there is no such job, or the metadata does not answer.
    pub async fn record(&self, job: JobId) -> Result<JobRecord, JobsError> {
        self.get(job)?;
        let record = look(&*self.metadata, move |state| state.jobs.get(&job).cloned());
        let record = tokio::time::timeout(PROPOSAL_PATIENCE, record).await;
        record.map_err(|_| late())??.ok_or(JobsError::Unknown(job))
    }

    /// What a state of the job consists of that is kept, to be read.
    ///
    /// # Errors
    /// When there is no such state, or the metadata does not answer.
    pub async fn kept_state(&self, job: JobId, at: RestoreAt) -> Result<KeptState, JobsError> {
        self.check_kept(true)?;
        self.get(job)?;
        let kept = look(&*self.metadata, move |state| state.kept(job, at));
        let kept = tokio::time::timeout(PROPOSAL_PATIENCE, kept).await;
        let (shape, point) = kept.map_err(|_| late())???;
        Ok(KeptState {
            shape,
            log: point.logged(),
            manifests: point.shards,
        })
    }

    /// Whether state is kept in a way that others can begin with it.
    ///
    /// # Errors
    /// When it is not.
    pub(crate) fn check_kept(&self, needed: bool) -> Result<(), JobsError> {
        match needed && !self.keeps_checkpoints {
            true => Err(JobsError::NotKept),
            false => Ok(()),
        }
    }

    async fn ask(&self, job: JobId, ask: Ask) -> Result<Answer, JobsError> {
        self.get(job)?;
        let (reply, answer) = oneshot::channel();
        let sent = self.requests.send(Request::Ask { job, ask, reply }).await;
        sent.map_err(|_| JobsError::Closed)?;
        answer.await.map_err(|_| JobsError::Interrupted)?
    }

    /// Forgets a job that has ended, with the rows that were kept of it.
    ///
    /// # Errors
    /// When there is no such job, or it has not ended.
    pub async fn delete(&self, job: JobId) -> Result<(), JobsError> {
        self.delete_all(vec![job]).await
    }

    /// Forgets jobs that have ended, all at once or, when there is an error, none.
    ///
    /// # Errors
    /// As [`Jobs::delete`].
    pub async fn delete_all(&self, jobs: Vec<JobId>) -> Result<(), JobsError> {
        for job in &jobs {
            if !self.get(*job)?.state().is_terminal() {
                return Err(JobsError::NotEnded(*job));
            }
        }
        if jobs.is_empty() {
            return Ok(());
        }
        let (reply, answer) = oneshot::channel();
        let sent = self.requests.send(Request::Forget { jobs, reply }).await;
        sent.map_err(|_| JobsError::Closed)?;
        answer.await.map_err(|_| JobsError::Interrupted)?
    }

    /// Changes the parallelism of a job, or within what it follows its load. Numbers end that it
    /// follows it.
    ///
    /// # Errors
    /// When there is no such job, it has ended, or it cannot have these tasks; nothing has changed
    /// then.
    pub async fn scale(&self, job: JobId, scale: Scale) -> Result<(), JobsError> {
        self.get(job)?;
        let (reply, answer) = oneshot::channel();
        let request = Request::Scale { job, scale, reply };
        let sent = self.requests.send(request).await;
        sent.map_err(|_| JobsError::Closed)?;
        answer.await.map_err(|_| JobsError::Interrupted)?
    }

    /// How it stands with the number of workers, if it follows the jobs.
    #[must_use]
    pub fn capacity(&self) -> Option<CapacityStatus> {
        self.table.capacity()
    }

    /// The workers.
    #[must_use]
    pub fn workers(&self) -> &Workers {
        &self.workers
    }

    /// Waits until nobody drives jobs any more.
    pub async fn ended(&self) {
        self.requests.closed().await;
    }

    /// Cancels every job and waits until all have ended.
    pub async fn shut_down(&self) {
        for entry in self.list() {
            if self.cancel(entry.id).await.is_ok() {
                entry.ended().await;
            }
        }
    }

    /// Figures per operator: of the running job, or the last ones before it ended.
    ///
    /// # Errors
    /// When there is no such job.
    pub fn metrics(&self, job: JobId) -> Result<JobMetrics, JobsError> {
        let entry = self.get(job)?;
        let metrics = self.workers.metrics(job);
        Ok(if metrics.is_empty() {
            entry.kept_metrics()
        } else {
            metrics
        })
    }
}

/// Entries by number.
#[derive(Default)]
pub(super) struct JobTable {
    jobs: RwLock<BTreeMap<JobId, Arc<JobEntry>>>,
    /// Says how it stands with the number of workers, where that follows the jobs.
    capacity: OnceLock<CapacityWitness>,
}

/// Says how it stands with the number of workers.
pub(super) type CapacityWitness = Arc<dyn Fn() -> CapacityStatus + Send + Sync>;

impl JobTable {
    /// Who says from now on how it stands with the number of workers.
    pub(super) fn set_capacity(&self, witness: CapacityWitness) {
        // There is one provider in the life of a table.
        let _ = self.capacity.set(witness);
    }

    fn capacity(&self) -> Option<CapacityStatus> {
        self.capacity.get().map(|witness| witness())
    }

    pub(super) fn get(&self, job: JobId) -> Option<Arc<JobEntry>> {
        let jobs = self.jobs.read().unwrap_or_else(PoisonError::into_inner);
        jobs.get(&job).cloned()
    }

    pub(super) fn list(&self) -> Vec<Arc<JobEntry>> {
        let jobs = self.jobs.read().unwrap_or_else(PoisonError::into_inner);
        jobs.values().cloned().collect()
    }

    pub(super) fn active(&self) -> usize {
        let jobs = self.jobs.read().unwrap_or_else(PoisonError::into_inner);
        jobs.values()
            .filter(|entry| !entry.state().is_terminal())
            .count()
    }

    /// Adds an entry; the oldest ended ones beyond the limit go.
    pub(super) fn insert(&self, entry: Arc<JobEntry>) {
        let mut jobs = self.jobs.write().unwrap_or_else(PoisonError::into_inner);
        let ended: Vec<JobId> = jobs
            .values()
            .filter(|entry| entry.state().is_terminal())
            .map(|entry| entry.id)
            .collect();
        let surplus = (ended.len() + 1).saturating_sub(JOBS_ENDED_MAX);
        for job in ended.iter().take(surplus) {
            jobs.remove(job);
        }
        jobs.insert(entry.id, entry);
    }

    pub(super) fn remove(&self, job: JobId) -> Option<Arc<JobEntry>> {
        let mut jobs = self.jobs.write().unwrap_or_else(PoisonError::into_inner);
        jobs.remove(&job)
    }

    /// Drops rows of ended SELECTs, the oldest first, as far as there are too many; those that are
    /// being read stay.
    pub(super) fn trim_results(&self, bytes_max: usize) {
        let jobs = self.list();
        let ended = jobs.iter().rev().filter(|job| job.state().is_terminal());
        let mut bytes = 0_usize;
        for feed in ended.filter_map(|job| job.feed.as_ref()) {
            let Some(kept) = feed.kept_bytes() else {
                continue;
            };
            if bytes > 0 && bytes.saturating_add(kept) > bytes_max {
                feed.discard();
            } else {
                bytes += kept;
            }
        }
    }
}
