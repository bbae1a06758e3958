//! A worker's stream.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use control_stream::{Hear, Outbox, Put, WorkerHears, WorkerSays};
use proto::{
    control::{JobMetrics, Retry, WorkerCommand, WorkerEvent, WorkerEventKind},
    running::JobPart,
    types::{JobId, TaskId, WorkerId},
};
use tokio::{sync::mpsc, time::timeout};

use super::greet::Stream;
use crate::{
    WorkerLink,
    caps::{WORKER_PARTS_MAX, WORKER_TELLS},
    workers::{Worker, WorkerNews},
};

/// The way to a worker, and what it said last of its measurements.
struct Link {
    id: WorkerId,
    outbox: Outbox,
    news: mpsc::Sender<WorkerNews>,
    metrics: RwLock<BTreeMap<JobId, JobMetrics>>,
}

impl WorkerLink for Link {
    fn send(&self, command: WorkerCommand) {
        let (job, generation) = command.addressee();
        let command = Hear::Item(WorkerHears::Command(command));
        // One that does not take it has lost its stream: the loss is told as such.
        let Put::TooLarge(bytes) = self.outbox.put_bounded(&command) else {
            return;
        };
        let error = format!(
            "the job's plan and what it is to read have {bytes} bytes, which is too much to be sent \
             to a worker: does a source list hundreds of thousands of files?"
        );
        let kind = WorkerEventKind::Failed {
            task: TaskId(0),
            error,
            retry: Retry::Never,
        };
        let event = WorkerEvent {
            job,
            generation,
            kind,
        };
        // The driver, who is calling, must not wait for itself.
        let (news, id) = (self.news.clone(), self.id);
        tokio::spawn(async move { news.send(WorkerNews::Event(id, event)).await });
    }

    fn release(&self) {
        // One that does not hear it has lost its stream.
        let released = Hear::Item(WorkerHears::Released);
        let _ = self.outbox.put(&released);
    }

    fn metrics(&self, job: JobId) -> JobMetrics {
        let metrics = self.metrics.read().unwrap_or_else(PoisonError::into_inner);
        metrics.get(&job).cloned().unwrap_or_default()
    }
}

impl Link {
    fn measured(&self, news: BTreeMap<JobId, JobMetrics>) {
        let mut metrics = self.metrics.write().unwrap_or_else(PoisonError::into_inner);
        for (job, now) in news {
            match now.is_empty() {
                true => metrics.remove(&job),
                false => metrics.insert(job, now),
            };
        }
    }
}

/// What the worker runs, which is the first that it tells; `None`: it tells something else, or nothing.
async fn told(stream: &mut Stream) -> Option<Vec<JobPart>> {
    let mut parts = Vec::new();
    loop {
        match stream.next::<WorkerSays>().await? {
            WorkerSays::Runs(part) if parts.len() < WORKER_PARTS_MAX => parts.push(*part),
            WorkerSays::Told => return Some(parts),
            _ => return None,
        }
    }
}

/// Serves a stream that was greeted until it ends.
pub(super) async fn serve(mut stream: Stream) {
    let Ok(Some(parts)) = timeout(WORKER_TELLS, told(&mut stream)).await else {
        let address = &stream.hello.address;
        tracing::warn!(address, "a worker does not tell what it runs");
        return;
    };
    if !stream.leading.keep_id(&stream.hello, stream.id) {
        return;
    }
    let id = WorkerId(stream.id);
    let link = Arc::new(Link {
        id,
        outbox: stream.outbox.clone(),
        news: stream.leading.workers.clone(),
        metrics: RwLock::default(),
    });
    let worker = Worker {
        id,
        address: stream.hello.address.clone(),
        since_ms: stream.since_ms,
        link: Arc::<Link>::clone(&link),
    };
    let joined = WorkerNews::Joined(worker, parts);
    let news = stream.leading.workers.clone();
    // Before the first command, so that tasks find their state at once.
    let mut owners = stream.leading.tier.owner_changes();
    let tell = stream.teller();
    if news.send(joined).await.is_err() {
        return;
    }
    loop {
        tokio::select! {
            said = stream.next::<WorkerSays>() => match said {
                Some(WorkerSays::Event(event)) => {
                    if news.send(WorkerNews::Event(id, event)).await.is_err() {
                        break;
                    }
                }
                Some(WorkerSays::Leaving) => {
                    if news.send(WorkerNews::Leaving(id)).await.is_err() {
                        break;
                    }
                }
                Some(WorkerSays::Metrics(metrics)) => link.measured(metrics),
                Some(WorkerSays::Runs(_) | WorkerSays::Told) | None => break,
            },
            Some((job, owners)) = owners.next() => {
                let owners = owners.map(Arc::unwrap_or_clone);
                tell(WorkerHears::Owners(job, owners));
            }
        }
    }
    drop(stream);
    // A leader that leads no more has no use for it.
    let _ = news.send(WorkerNews::Left(id)).await;
}
