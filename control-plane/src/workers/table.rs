//! The workers that are connected. The driver writes, everybody reads.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError, RwLock},
};

use proto::{
    control::{JobMetrics, WorkerEvent},
    running::JobPart,
    types::{JobId, WorkerId},
};

use crate::WorkerLink;

/// A worker.
#[derive(Clone)]
pub struct Worker {
    /// Who.
    pub id: WorkerId,
    /// Where other workers reach it, as host:port; empty where there are no others.
    pub address: String,
    /// When it connected, in ms since 1970.
    pub since_ms: u64,
    /// The way to it.
    pub link: Arc<dyn WorkerLink>,
}

/// What happens to workers, in order for each.
pub enum WorkerNews {
    /// It is there, and runs this.
    Joined(Worker, Vec<JobPart>),
    /// It says something.
    Event(WorkerId, WorkerEvent),
    /// It wants to leave, once its tasks run elsewhere.
    Leaving(WorkerId),
    /// It is gone, and never comes back under this id.
    Left(WorkerId),
}

/// Workers by id. Cheap to clone.
#[derive(Clone, Default)]
pub struct Workers(Arc<RwLock<BTreeMap<WorkerId, Worker>>>);

impl Workers {
    /// All that are there.
    #[must_use]
    pub fn list(&self) -> Vec<Worker> {
        let workers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        workers.values().cloned().collect()
    }

    /// Figures of a job's operators, whichever worker runs them.
    #[must_use]
    pub fn metrics(&self, job: JobId) -> JobMetrics {
        let mut all = JobMetrics::new();
        for worker in self.list() {
            for (node, tasks) in worker.link.metrics(job) {
                all.entry(node).or_default().extend(tasks);
            }
        }
        all
    }

    pub(crate) fn ids(&self) -> BTreeSet<WorkerId> {
        let workers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        workers.keys().copied().collect()
    }

    pub(crate) fn get(&self, id: WorkerId) -> Option<Worker> {
        let workers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        workers.get(&id).cloned()
    }

    pub(crate) fn insert(&self, worker: Worker) {
        let mut workers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        workers.insert(worker.id, worker);
    }

    pub(crate) fn remove(&self, id: WorkerId) {
        let mut workers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        workers.remove(&id);
    }
}
