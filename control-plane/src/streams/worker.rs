//! A worker's stream.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use control_stream::{Hear, Outbox, WorkerHears, WorkerSays};
use proto::{
    control::{JobMetrics, WorkerCommand},
    types::{JobId, WorkerId},
};

use super::greet::Stream;
use crate::{
    WorkerLink,
    workers::{Worker, WorkerNews},
};

/// The way to a worker, and what it said last of its measurements.
struct Link {
    outbox: Outbox,
    metrics: RwLock<BTreeMap<JobId, JobMetrics>>,
}

impl WorkerLink for Link {
    fn send(&self, command: WorkerCommand) {
        // One that does not take it has lost its stream: the loss is told as such.
        let _ = self.outbox.put(&Hear::Item(WorkerHears::Command(command)));
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

/// Serves a stream that was greeted until it ends.
pub(super) async fn serve(mut stream: Stream) {
    let id = WorkerId(stream.hello.id);
    let link = Arc::new(Link {
        outbox: stream.outbox.clone(),
        metrics: RwLock::default(),
    });
    let joined = WorkerNews::Joined(Worker {
        id,
        address: stream.hello.address.clone(),
        since_ms: stream.since_ms,
        link: Arc::<Link>::clone(&link),
    });
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
                Some(WorkerSays::Metrics(metrics)) => link.measured(metrics),
                None => break,
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
