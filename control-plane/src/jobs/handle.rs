//! The handle through which everybody else deals with jobs.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use coordinator::{
    meta::{JobSpec, Refusal},
    place::{Parallelism, PlaceError},
};
use proto::{control::JobMetrics, types::JobId};
use rpc::trace_context;
use tokio::sync::{mpsc, oneshot};

use super::JobEntry;
use crate::{caps::JOBS_ENDED_MAX, metadata::MetadataError, workers::Workers};

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
    /// It is over.
    #[error("{0} has ended")]
    Ended(JobId),
    /// Its plan cannot be run like that.
    #[error(transparent)]
    Place(#[from] PlaceError),
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

/// Jobs of this process. Cheap to clone.
#[derive(Clone)]
pub struct Jobs {
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) table: Arc<JobTable>,
    pub(super) workers: Workers,
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
    Cancel {
        job: JobId,
        reply: oneshot::Sender<Result<(), JobsError>>,
    },
    Rescale {
        job: JobId,
        parallelism: Parallelism,
        reply: oneshot::Sender<Result<(), JobsError>>,
    },
    Forget {
        jobs: Vec<JobId>,
        reply: oneshot::Sender<Result<(), JobsError>>,
    },
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

    /// Has a job run with other numbers of tasks: from one of its next barriers on while it runs, or
    /// from its next start. Answers once the wish is written down.
    ///
    /// # Errors
    /// When there is no such job, it has ended, or its plan cannot be run so.
    pub async fn rescale(&self, job: JobId, parallelism: Parallelism) -> Result<(), JobsError> {
        self.get(job)?;
        let (reply, answer) = oneshot::channel();
        let request = Request::Rescale {
            job,
            parallelism,
            reply,
        };
        let sent = self.requests.send(request).await;
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
#[derive(Debug, Default)]
pub(super) struct JobTable(RwLock<BTreeMap<JobId, Arc<JobEntry>>>);

impl JobTable {
    pub(super) fn get(&self, job: JobId) -> Option<Arc<JobEntry>> {
        let jobs = self.0.read().unwrap_or_else(PoisonError::into_inner);
        jobs.get(&job).cloned()
    }

    pub(super) fn list(&self) -> Vec<Arc<JobEntry>> {
        let jobs = self.0.read().unwrap_or_else(PoisonError::into_inner);
        jobs.values().cloned().collect()
    }

    pub(super) fn active(&self) -> usize {
        let jobs = self.0.read().unwrap_or_else(PoisonError::into_inner);
        jobs.values()
            .filter(|entry| !entry.state().is_terminal())
            .count()
    }

    /// Adds an entry; the oldest ended ones beyond the limit go.
    pub(super) fn insert(&self, entry: Arc<JobEntry>) {
        let mut jobs = self.0.write().unwrap_or_else(PoisonError::into_inner);
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
        let mut jobs = self.0.write().unwrap_or_else(PoisonError::into_inner);
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
