//! Reports on their way to the control plane. Of one kind about one shard only the newest is kept,
//! so that what waits is bounded however long nobody listens, and nobody waits for a listener.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use proto::{
    state_control::StateReport,
    types::{JobId, ShardId, TransferId},
};
use tokio::sync::Notify;

/// Where reports are put.
#[derive(Clone, Default)]
pub(crate) struct Reports {
    queue: Arc<Queue>,
}

/// Where reports are taken from.
pub struct ReportReceiver {
    queue: Arc<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Default)]
struct Waiting {
    order: VecDeque<Subject>,
    reports: BTreeMap<Subject, StateReport>,
}

/// What a newer report replaces an older one of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Serving(JobId, ShardId),
    Durable(JobId, ShardId),
    Dropped(JobId),
    Transfer(TransferId),
    Health,
}

impl Subject {
    fn of(report: &StateReport) -> Subject {
        match report {
            StateReport::Opened { job, shard, .. } | StateReport::Failed { job, shard, .. } => {
                Subject::Serving(*job, *shard)
            }
            StateReport::Durable { job, shard, .. } => Subject::Durable(*job, *shard),
            StateReport::Dropped { job } => Subject::Dropped(*job),
            StateReport::Transfer { transfer, .. } => Subject::Transfer(*transfer),
            StateReport::Degraded { .. } => Subject::Health,
        }
    }
}

impl Reports {
    /// Takes a report along.
    pub(crate) fn send(&self, report: StateReport) {
        let mut waiting = self.queue.lock();
        let subject = Subject::of(&report);
        if waiting.reports.insert(subject, report).is_some() {
            waiting.order.retain(|other| *other != subject);
        }
        waiting.order.push_back(subject);
        drop(waiting);
        self.queue.arrived.notify_one();
    }

    pub(crate) fn receiver(&self) -> ReportReceiver {
        ReportReceiver {
            queue: self.queue.clone(),
        }
    }
}

impl Queue {
    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReportReceiver {
    /// The next report, in the order in which they were made. Waits for one.
    pub async fn recv(&mut self) -> StateReport {
        loop {
            if let Some(report) = self.try_recv() {
                return report;
            }
            self.queue.arrived.notified().await;
        }
    }

    /// The next report, if there is one.
    pub fn try_recv(&mut self) -> Option<StateReport> {
        let mut waiting = self.queue.lock();
        let subject = waiting.order.pop_front()?;
        waiting.reports.remove(&subject)
    }
}

#[cfg(test)]
mod tests {
    use proto::{state_control::ShardFiles, types::Epoch};

    use super::*;

    #[test]
    fn newer_reports_replace_older_ones() {
        let reports = Reports::default();
        let mut receiver = reports.receiver();
        let durable = |shard, epoch| StateReport::Durable {
            job: JobId(1),
            shard: ShardId(shard),
            epoch: Epoch(epoch),
            files: ShardFiles::default(),
        };
        reports.send(durable(0, 1));
        reports.send(durable(1, 1));
        reports.send(durable(0, 2));
        assert_eq!(receiver.try_recv(), Some(durable(1, 1)));
        assert_eq!(receiver.try_recv(), Some(durable(0, 2)));
        assert_eq!(receiver.try_recv(), None);
    }
}
