//! Workers that come, that want to leave and that are gone: what jobs are told of them.

use std::{collections::BTreeSet, sync::Arc};

use coordinator::{Event, JobState};
use proto::types::WorkerId;

use super::{Driver, ExceptionRecord, JobEntry};
use crate::workers::WorkerNews;

impl Driver {
    pub(super) fn on_news(&mut self, news: WorkerNews) {
        match news {
            WorkerNews::Event(worker, event) => return self.on_worker_event(worker, event),
            WorkerNews::Joined(worker) => {
                tracing::info!(worker = %worker.id, address = worker.address, "a worker is there");
                self.workers.insert(worker);
            }
            WorkerNews::Leaving(worker) => {
                tracing::info!(%worker, "a worker wants to leave");
                self.leaving.insert(worker);
                return self.tell_leaving();
            }
            WorkerNews::Left(worker) => {
                match self.leaving.remove(&worker) {
                    true => tracing::info!(%worker, "a worker has left"),
                    false => tracing::warn!(%worker, "a worker is gone"),
                }
                self.workers.remove(worker);
            }
        }
        self.tell_workers();
    }

    /// Workers as jobs may know them.
    pub(super) fn workers_known(&self) -> BTreeSet<WorkerId> {
        match self.gathering {
            Some(_) => BTreeSet::new(),
            None => self.workers.ids(),
        }
    }

    /// Tells a job who is there; that it lost tasks by it is one of its exceptions.
    fn handle_workers(&mut self, entry: &Arc<JobEntry>, ids: BTreeSet<WorkerId>) {
        let (before, generation) = {
            let core = entry.core();
            (core.state(), core.generation())
        };
        self.handle(entry.id, Event::Workers(ids));
        let (now, error) = {
            let core = entry.core();
            (core.state(), core.last_error().map(str::to_owned))
        };
        if now == JobState::Restarting
            && before != JobState::Restarting
            && let Some(error) = error
        {
            entry.push_exception(ExceptionRecord {
                at_us: self.now_us(),
                generation,
                task: None,
                error,
            });
        }
    }

    pub(super) fn tell_workers(&mut self) {
        let ids = self.workers_known();
        for entry in self.table.list() {
            if !entry.core().state().is_terminal() {
                self.handle_workers(&entry, ids.clone());
            }
        }
    }

    /// Tells jobs who wants to leave.
    fn tell_leaving(&mut self) {
        for entry in self.table.list() {
            if !entry.state().is_terminal() {
                self.handle(entry.id, Event::Leaving(self.leaving.clone()));
            }
        }
        self.release_idle();
    }

    /// Lets those workers go that want to leave and have no part in any job. Where there is nobody who
    /// could take over, nothing is gained by waiting.
    pub(super) fn release_idle(&mut self) {
        if self.leaving.is_empty() {
            return;
        }
        let others = self.workers.ids().difference(&self.leaving).count();
        let entries = self.table.list();
        let has_part = |worker: &WorkerId| {
            let mut running = entries.iter().filter(|entry| !entry.state().is_terminal());
            running.any(|entry| entry.core().deployed().contains(worker))
        };
        for worker in &self.leaving {
            if (others == 0 || !has_part(worker))
                && let Some(worker) = self.workers.get(*worker)
            {
                worker.link.release();
            }
        }
    }
}
