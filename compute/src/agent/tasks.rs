//! The worker that streams command, and what the next leader must know of it.

use std::collections::{BTreeMap, BTreeSet};

use proto::{
    control::{JobMetrics, WorkerCommand, WorkerEvent, WorkerEventKind},
    running::{JobPart, RunningJobs},
    types::JobId,
};
use tokio::{sync::mpsc, time::timeout};

use crate::{
    Figures, Worker, WorkerConfig, WorkerHandle,
    caps::{COMMAND_TAKEN, EVENTS_HELD_MAX, TASKS_STOP},
};

/// A worker, its events, what it runs, and what was said of its figures.
pub(super) struct Tasks {
    worker: WorkerHandle,
    events: mpsc::Receiver<WorkerEvent>,
    running: RunningJobs,
    /// What happened while nobody was there to hear it, and is no part of what it runs.
    held: Vec<WorkerEvent>,
    measured: BTreeSet<JobId>,
}

impl Tasks {
    pub(super) fn start(config: &WorkerConfig) -> Tasks {
        let (worker, events) = Worker::start(config.clone());
        Tasks {
            worker,
            events,
            running: RunningJobs::default(),
            held: Vec::new(),
            measured: BTreeSet::new(),
        }
    }

    pub(super) fn figures(&self) -> Figures {
        self.worker.figures()
    }

    /// Hands a command over; `false`: the worker hangs.
    pub(super) async fn command(&mut self, command: WorkerCommand) -> bool {
        self.running.heard(&command);
        let taken = timeout(COMMAND_TAKEN, self.worker.send(command)).await;
        taken == Ok(true)
    }

    /// The next event; never, after the last. May be dropped and called again.
    pub(super) async fn event(&mut self) -> WorkerEvent {
        match self.events.recv().await {
            Some(event) => {
                self.running.said(&event);
                event
            }
            None => std::future::pending().await,
        }
    }

    /// What it runs.
    pub(super) fn parts(&self) -> Vec<JobPart> {
        self.running.parts().cloned().collect()
    }

    /// Keeps for the next leader what that would miss else.
    pub(super) fn hold(&mut self, event: WorkerEvent) {
        let is_news = matches!(
            event.kind,
            WorkerEventKind::DeadLetters(_) | WorkerEventKind::SinkTroubled { .. }
        );
        if is_news && self.held.len() < EVENTS_HELD_MAX {
            self.held.push(event);
        }
    }

    /// What was kept.
    pub(super) fn take_held(&mut self) -> Vec<WorkerEvent> {
        std::mem::take(&mut self.held)
    }

    /// Figures of all jobs; of one that has gone since the last call, none.
    pub(super) fn measure(&mut self) -> BTreeMap<JobId, JobMetrics> {
        let now = self.worker.figures().all();
        let gone = self.measured.iter().filter(|job| !now.contains_key(job));
        let gone: Vec<JobId> = gone.copied().collect();
        self.measured = now.keys().copied().collect();
        let gone = gone.into_iter().map(|job| (job, JobMetrics::new()));
        now.into_iter().chain(gone).collect()
    }

    /// Figures as they are when an event is told after which somebody looks at the last ones.
    pub(super) fn measure_for(
        &mut self,
        event: &WorkerEvent,
    ) -> Option<BTreeMap<JobId, JobMetrics>> {
        let is_last = matches!(
            event.kind,
            WorkerEventKind::Failed { .. } | WorkerEventKind::Published { .. }
        );
        let metrics = is_last.then(|| self.worker.metrics(event.job))?;
        if metrics.is_empty() {
            return None;
        }
        self.measured.insert(event.job);
        Some(BTreeMap::from([(event.job, metrics)]))
    }

    /// Stops all tasks; `false`: some hang.
    pub(super) async fn stop(self) -> bool {
        let Tasks {
            worker, mut events, ..
        } = self;
        drop(worker);
        // The last task takes the last sender with it.
        let ended = async { while events.recv().await.is_some() {} };
        timeout(TASKS_STOP, ended).await.is_ok()
    }
}
