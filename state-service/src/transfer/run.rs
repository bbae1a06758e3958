//! Which transfers this node is at. Each runs beside everything else, tells how far it is, and stops
//! when it is told to, or when nobody directs the node any more: whoever does next gives it to some
//! node again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::FutureExt as _;
use proto::{
    state_control::StateReport,
    transfer::{TransferNews, TransferOrder, TransferWork},
    types::TransferId,
};
use tokio::sync::watch;

use super::{
    TransferError,
    export::export,
    import::{import, inspect},
};
use crate::{reports::Reports, shard::ShardContext};

/// The transfers of a node.
#[derive(Clone, Default)]
pub(crate) struct Transfers {
    all: Arc<Mutex<BTreeMap<TransferId, Attempt>>>,
}

/// An attempt that is made, or was.
#[derive(Clone)]
struct Attempt {
    number: u64,
    progress: Progress,
    ended: watch::Receiver<bool>,
}

/// How far an attempt is, and whether it is still wanted.
#[derive(Clone)]
pub(super) struct Progress {
    transfer: TransferId,
    attempt: u64,
    reports: Reports,
    last: Arc<Mutex<Option<TransferNews>>>,
    stop: watch::Sender<bool>,
}

impl Progress {
    fn new(order: &TransferOrder, reports: Reports) -> Self {
        Progress {
            transfer: order.transfer,
            attempt: order.attempt,
            reports,
            last: Arc::default(),
            stop: watch::channel(false).0,
        }
    }

    /// So many bytes of so many are copied.
    pub(super) fn copied(&self, bytes: u64, total: u64) {
        self.say(TransferNews::Copied { bytes, total });
    }

    /// Nobody wants it any more, or it has failed in part.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Whether to go on.
    pub(super) fn check(&self) -> Result<(), TransferError> {
        match *self.stop.borrow() {
            true => Err(TransferError::Stopped),
            false => Ok(()),
        }
    }

    async fn stopped(&self) {
        // The sender is ours.
        drop(self.stop.subscribe().wait_for(|stop| *stop).await);
    }

    fn say(&self, news: TransferNews) {
        *self.last() = Some(news.clone());
        self.reports.send(StateReport::Transfer {
            transfer: self.transfer,
            attempt: self.attempt,
            news,
        });
    }

    /// Says again what was said last, if something was.
    fn repeat(&self) {
        let last = self.last().clone();
        if let Some(news) = last {
            self.say(news);
        }
    }

    fn last(&self) -> MutexGuard<'_, Option<TransferNews>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transfers {
    fn all(&self) -> MutexGuard<'_, BTreeMap<TransferId, Attempt>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an attempt, unless it is being made, or was.
    pub(crate) fn order(&self, context: &Arc<ShardContext>, order: TransferOrder) {
        let mut all = self.all();
        let before = all.get(&order.transfer).cloned();
        if let Some(before) = &before {
            if before.number == order.attempt {
                return before.progress.repeat();
            }
            before.progress.stop();
        }
        let progress = Progress::new(&order, context.reports.clone());
        let (ended, has_ended) = watch::channel(false);
        let attempt = Attempt {
            number: order.attempt,
            progress: progress.clone(),
            ended: has_ended,
        };
        all.insert(order.transfer, attempt);
        drop(all);
        let context = context.clone();
        let tasks = context.tasks.clone();
        tasks.spawn(async move {
            if let Some(mut before) = before {
                // Two writers of this node would fence each other.
                drop(before.ended.wait_for(|ended| *ended).await);
            }
            let news = attempted(context, order.work, &progress).await;
            ended.send_replace(true);
            progress.say(news);
        });
    }

    /// Stops a transfer; its attempt says when it has ended.
    pub(crate) fn stop(&self, transfer: TransferId) {
        if let Some(attempt) = self.all().get(&transfer) {
            attempt.progress.stop();
        }
    }

    /// Nobody asks for it any more.
    pub(crate) fn forget(&self, transfer: TransferId) {
        if let Some(attempt) = self.all().remove(&transfer) {
            attempt.progress.stop();
        }
    }

    /// Nobody directs the node any more.
    pub(crate) fn stop_all(&self) {
        for attempt in self.all().values() {
            attempt.progress.stop();
        }
    }
}

async fn attempted(
    context: Arc<ShardContext>,
    work: TransferWork,
    progress: &Progress,
) -> TransferNews {
    let done = |bytes: Result<u64, TransferError>| bytes.map(|bytes| TransferNews::Done { bytes });
    let result = match work {
        // Whatever is cut off there, the next attempt goes on with.
        TransferWork::Export(work) => {
            let exporting = export(context, *work, progress.clone());
            tokio::select! {
                exported = exporting => done(exported),
                () = progress.stopped() => Err(TransferError::Stopped),
            }
        }
        TransferWork::Inspect { from } => {
            let inspecting = inspect(&context, &from);
            tokio::select! {
                found = inspecting => found.map(|found| TransferNews::Found(Box::new(found))),
                () = progress.stopped() => Err(TransferError::Stopped),
            }
        }
        // It closes its shards by itself.
        TransferWork::Import(work) => {
            let importing = import(context, work, progress.clone()).boxed();
            done(importing.await)
        }
    };
    result.unwrap_or_else(|error| match error {
        TransferError::Stopped => TransferNews::Stopped,
        TransferError::Failed(error) => TransferNews::Failed { error },
    })
}
