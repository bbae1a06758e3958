//! Workers that come, that want to leave and that are gone: what jobs are told of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use coordinator::{Event, JobState};
use proto::{
    control::WorkerCommand,
    running::JobPart,
    types::{JobId, WorkerId},
};
use tokio::time::Instant;

use super::{Driver, ExceptionRecord, JobEntry};
use crate::workers::WorkerNews;

impl Driver {
    pub(super) fn on_news(&mut self, news: WorkerNews) {
        match news {
            WorkerNews::Event(worker, event) => return self.on_worker_event(worker, event),
            WorkerNews::Joined(worker, parts) => {
                let (id, running) = (worker.id, parts.len());
                tracing::info!(worker = %id, address = worker.address, running, "a worker is there");
                self.workers.insert(worker);
                self.gather();
                self.tell_parts(id, parts);
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

    /// Others may be as near as the first worker, though not all find the old leader silent at the same
    /// moment: jobs that are to run on wait for them.
    fn gather(&mut self) {
        let is_first = self.workers.ids().len() == 1;
        let entries = self.table.list();
        if is_first && entries.iter().any(|entry| entry.core().is_adopting()) {
            self.gathering = Some(Instant::now() + 2 * self.grace);
        }
    }

    /// Tells jobs what a worker runs of them. What is no job's any more it is to stop.
    fn tell_parts(&mut self, worker: WorkerId, parts: Vec<JobPart>) {
        let parts = parts.into_iter().map(|part| (part.job, Box::new(part)));
        let mut parts: BTreeMap<JobId, Box<JobPart>> = parts.collect();
        for entry in self.table.list() {
            let part = parts.remove(&entry.id);
            if part.is_some() || entry.core().is_adopting() {
                self.handle_noting(&entry, Event::Told { worker, part });
            }
        }
        for job in parts.into_keys() {
            if let Some(worker) = self.workers.get(worker) {
                worker.link.send(WorkerCommand::Stop { job });
            }
        }
    }

    /// Workers as jobs may know them that have none yet.
    pub(super) fn workers_known(&self) -> BTreeSet<WorkerId> {
        match self.gathering {
            Some(_) => BTreeSet::new(),
            None => self.workers.ids(),
        }
    }

    /// Workers as a job may know them: as long as others come, those that it has.
    fn workers_known_to(&self, entry: &JobEntry) -> BTreeSet<WorkerId> {
        let ids = self.workers.ids();
        match self.gathering {
            Some(_) => ids.intersection(entry.core().deployed()).copied().collect(),
            None => ids,
        }
    }

    /// Has a job handle an event; that it lost tasks by it is one of its exceptions.
    pub(super) fn handle_noting(&mut self, entry: &Arc<JobEntry>, event: Event) {
        let (before, generation) = {
            let core = entry.core();
            (core.state(), core.generation())
        };
        self.handle(entry.id, event);
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
        for entry in self.table.list() {
            if !entry.core().state().is_terminal() {
                let ids = self.workers_known_to(&entry);
                self.handle_noting(&entry, Event::Workers(ids));
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
