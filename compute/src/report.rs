//! What a generation tells the control plane. Control events are never lost: there is one of each
//! kind per task (or sink) and epoch, which bounds them, and they wait here while the control
//! plane is busy. Dead letters are as many as a source has bad records: beyond a bound they are
//! counted only.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use proto::{
    control::{DeadLetter, Retry, WorkerEvent, WorkerEventKind},
    types::{Generation, JobId, TaskId},
};
use tokio::sync::{Notify, mpsc};

use crate::caps::DEAD_LETTERS_WAITING_MAX;

/// Takes a generation's events, and nothing more once it has failed.
#[derive(Clone)]
pub(crate) struct Reporter {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    more: Notify,
}

#[derive(Default)]
struct Waiting {
    letters: Vec<DeadLetter>,
    events: VecDeque<WorkerEventKind>,
    failed: bool,
}

/// Sends what a [`Reporter`] took; to be polled as long as the generation lives.
pub(crate) struct Forwarder {
    shared: Arc<Shared>,
    job: JobId,
    generation: Generation,
    events: mpsc::Sender<WorkerEvent>,
}

impl Reporter {
    pub(crate) fn new(
        job: JobId,
        generation: Generation,
        events: mpsc::Sender<WorkerEvent>,
    ) -> (Reporter, Forwarder) {
        let shared = Arc::<Shared>::default();
        let reporter = Reporter {
            shared: Arc::clone(&shared),
        };
        let forwarder = Forwarder {
            shared,
            job,
            generation,
            events,
        };
        (reporter, forwarder)
    }

    pub(crate) fn send(&self, kind: WorkerEventKind) {
        let mut waiting = self.shared.lock();
        match kind {
            _ if waiting.failed => return,
            WorkerEventKind::DeadLetters(letters) => waiting.keep(letters),
            kind => waiting.events.push_back(kind),
        }
        drop(waiting);
        self.shared.more.notify_one();
    }

    pub(crate) fn fail(&self, task: TaskId, error: String, retry: Retry) {
        let mut waiting = self.shared.lock();
        if !std::mem::replace(&mut waiting.failed, true) {
            let failed = WorkerEventKind::Failed { task, error, retry };
            waiting.events.push_back(failed);
        }
        drop(waiting);
        self.shared.more.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // A panic while holding the lock leaves whole queues.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn keep(&mut self, letters: Vec<DeadLetter>) {
        for letter in letters {
            let is_full = self.letters.len() >= DEAD_LETTERS_WAITING_MAX;
            match self.letters.last_mut() {
                Some(last) if is_full => last.count += letter.count,
                _ => self.letters.push(letter),
            }
        }
    }

    /// Letters go first: the one that explains a failure is known when the failure is.
    fn next(&mut self) -> Option<WorkerEventKind> {
        if !self.letters.is_empty() {
            let letters = std::mem::take(&mut self.letters);
            return Some(WorkerEventKind::DeadLetters(letters));
        }
        self.events.pop_front()
    }
}

impl Forwarder {
    /// Sends events until the control plane is gone.
    pub(crate) async fn run(self) {
        loop {
            let next = self.shared.lock().next();
            let Some(kind) = next else {
                self.shared.more.notified().await;
                continue;
            };
            let event = WorkerEvent {
                job: self.job,
                generation: self.generation,
                kind,
            };
            if self.events.send(event).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use proto::types::Epoch;

    use super::*;

    fn letter(count: u64) -> DeadLetter {
        DeadLetter {
            split: "s".to_owned(),
            position: "line 1".to_owned(),
            bytes: Vec::new(),
            cause: "bad".to_owned(),
            count,
        }
    }

    #[test]
    fn however_many_records_are_bad_no_event_is_lost() {
        let (events, mut received) = mpsc::channel(2);
        let (reporter, forwarder) = Reporter::new(JobId(1), Generation(1), events);
        let mut forwarding = Box::pin(forwarder.run());
        assert!(forwarding.as_mut().now_or_never().is_none());
        let letters = 3 * DEAD_LETTERS_WAITING_MAX as u64;
        for index in 0..letters {
            reporter.send(WorkerEventKind::DeadLetters(vec![letter(1)]));
            if index % 1000 == 0 {
                let (task, epoch) = (TaskId(0), Epoch(index));
                reporter.send(WorkerEventKind::Staged {
                    task,
                    epoch,
                    objects: Vec::new(),
                    overtaken_bytes: 0,
                });
            }
        }
        reporter.fail(TaskId(0), "enough".to_owned(), Retry::Never);
        reporter.send(WorkerEventKind::Running);
        let (mut counted, mut kept, mut others) = (0, 0, Vec::new());
        loop {
            assert!(forwarding.as_mut().now_or_never().is_none());
            let Ok(event) = received.try_recv() else {
                break;
            };
            match event.kind {
                WorkerEventKind::DeadLetters(letters) => {
                    kept += letters.len();
                    counted += letters.iter().map(|letter| letter.count).sum::<u64>();
                }
                other => others.push(other),
            }
        }
        assert_eq!(counted, letters);
        assert!(kept <= 2 * DEAD_LETTERS_WAITING_MAX, "{kept} letters");
        assert_eq!(others.len() as u64, letters.div_ceil(1000) + 1);
        assert!(matches!(
            others.last(),
            Some(WorkerEventKind::Failed { .. })
        ));
    }
}
