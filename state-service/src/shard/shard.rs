//! A shard as the rest of the node sees it: its state behind a lock that is never held across an
//! await, and a signal that it changed.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use object_store::path::Path;
use planted::Bug;
use proto::{
    log::LogObject,
    state_control::{OpenShard, StateReport},
    types::{Epoch, JobId, ShardId},
};
use state_client::{Section, StateError};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout_at},
};

use super::state::{Commit, Kept, Load, OpenState, ShardState};
use crate::{
    control::ControlView,
    epoch_log::EpochLog,
    node::StateNodeConfig,
    objects::Objects,
    pages::{PageError, PageStore},
    reports::Reports,
    tasks::Tasks,
};

/// What shards have in common.
pub(crate) struct ShardContext {
    pub(crate) config: StateNodeConfig,
    pub(crate) root: Path,
    pub(crate) objects: Arc<Objects>,
    pub(crate) log: EpochLog,
    pub(crate) control: Arc<dyn ControlView>,
    pub(crate) reports: Reports,
    pub(crate) tasks: Tasks,
    /// A tail grew.
    pub(crate) grown: Notify,
    /// A flush has ended.
    pub(crate) flushed: watch::Sender<()>,
    pub(crate) cache_scopes: AtomicU64,
}

impl ShardContext {
    /// A number that keeps what one opening of a shard caches apart from all else.
    pub(super) fn cache_scope(&self) -> u64 {
        self.cache_scopes.fetch_add(1, Ordering::Relaxed)
    }
}

/// One shard of one job.
pub(crate) struct Shard {
    pub(crate) job: JobId,
    pub(crate) id: ShardId,
    /// For which ownership it was opened.
    pub(crate) ownership: u64,
    /// The job's line, which tells the database.
    pub(crate) line: u64,
    pub(super) context: Arc<ShardContext>,
    state: Mutex<ShardState>,
    changed: watch::Sender<()>,
    /// Flushes and compactions as of when garbage was last collected.
    pub(super) collected: AtomicU64,
    /// Whether its driver has ended.
    ended: watch::Sender<bool>,
}

impl Shard {
    pub(crate) fn new(context: Arc<ShardContext>, order: &OpenShard) -> Self {
        let state = ShardState::new(order.shard, order.key_groups, order.shards);
        Shard {
            job: order.job,
            id: order.shard,
            ownership: order.ownership,
            line: order.line,
            context,
            state: Mutex::new(state),
            changed: watch::channel(()).0,
            collected: AtomicU64::new(0),
            ended: watch::channel(false).0,
        }
    }

    fn state(&self) -> MutexGuard<'_, ShardState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the state.
    pub(super) fn look<T>(&self, look: impl FnOnce(&ShardState) -> T) -> T {
        look(&self.state())
    }

    /// Changes the state and tells those who wait for a change.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut ShardState) -> T) -> T {
        let changed = change(&mut self.state());
        self.changed.send_replace(());
        changed
    }

    pub(super) fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// The control plane wants the shard served.
    pub(crate) fn order_open(&self, order: &OpenShard) {
        let opened = self.change(|state| {
            state.base = order.base;
            let inherited = order.inherited.iter();
            let inherited = inherited.map(|inherited| (inherited.job, &inherited.committed));
            let own = order.log.iter().map(|entry| (self.job, entry));
            for (job, entry) in inherited.chain(own) {
                let objects = entry.objects.iter().map(|object| (object.clone(), None));
                let commit = Commit {
                    job,
                    epoch: entry.epoch,
                    objects: objects.collect(),
                    trace: None,
                };
                state.commit(None, commit)?;
            }
            state.order_open(order.generation, order.committed);
            Ok::<(), String>(())
        });
        debug_assert!(opened.is_ok(), "without a predecessor there is no gap");
    }

    /// How often the control plane wanted it served.
    pub(crate) fn orders(&self) -> u64 {
        self.look(|state| state.orders)
    }

    /// An epoch is committed.
    pub(crate) fn commit(&self, previous: Epoch, commit: Commit) {
        let committed = self.change(|state| state.commit(Some(previous), commit));
        if let Err(why) = committed {
            self.lose(why);
        }
    }

    /// Takes in what is not committed: only as a planted bug.
    pub(crate) fn commit_unasked(
        &self,
        epoch: Epoch,
        objects: Vec<(LogObject, Option<Arc<Kept<Section>>>)>,
    ) {
        let trace = None;
        let commit = Commit {
            job: self.job,
            epoch,
            objects,
            trace,
        };
        drop(self.change(|state| state.commit(None, commit)));
    }

    /// The node is not to serve it any more.
    pub(crate) fn unwant(&self) {
        self.change(|state| state.wanted = false);
    }

    pub(super) fn set_ended(&self) {
        self.ended.send_replace(true);
    }

    /// Waits until it is closed.
    pub(crate) async fn ended(&self) {
        // The sender lives as long as the shard.
        drop(self.ended.subscribe().wait_for(|ended| *ended).await);
    }

    pub(crate) fn load(&self) -> Load {
        self.look(ShardState::load)
    }

    /// Waits for `pick` to find what it looks for in the state, no longer than the deadline.
    pub(super) async fn when<T>(
        &self,
        deadline: Instant,
        mut pick: impl FnMut(&ShardState) -> Option<T>,
    ) -> Option<T> {
        let mut changed = self.watch();
        loop {
            changed.mark_unchanged();
            if let Some(found) = self.look(&mut pick) {
                return Some(found);
            }
            match timeout_at(deadline, changed.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return None,
            }
        }
    }

    /// Waits until the shard is served with all up to `min_epoch`, then looks at what it has.
    pub(super) async fn serving<T>(
        &self,
        min_epoch: Epoch,
        deadline: Instant,
        mut look: impl FnMut(&OpenState) -> T,
    ) -> Result<T, StateError> {
        let found = self.when(deadline, |state| {
            if let Some(why) = &state.lost {
                let why = format!("{} of {} is not served: {why}", self.id, self.job);
                return Some(Err(StateError::Unavailable(why)));
            }
            if !state.wanted {
                let why = format!("{} of {} has moved", self.id, self.job);
                return Some(Err(StateError::Unavailable(why)));
            }
            let open = state.open.as_ref()?;
            let applied = open.applied >= min_epoch && open.applied >= state.ready_at
                || planted::is(Bug::ReadBehind);
            applied.then(|| Ok(look(open)))
        });
        found.await.unwrap_or_else(|| {
            let applied = self.look(|state| state.open.as_ref().map(|open| open.applied));
            let has = match applied {
                Some(applied) => format!("is at epoch {applied}"),
                None => "is not open yet".to_owned(),
            };
            let why = format!("{} of {} {has}, asked for {min_epoch}", self.id, self.job);
            Err(StateError::Unavailable(why))
        })
    }

    /// The page store failed in an opening of the shard. What may be out of step with what is stored
    /// is given up, and read again from the log.
    pub(super) fn fail(&self, opening: u64, error: &PageError) {
        let closing = self.change(|state| {
            let of_it = state
                .open
                .as_ref()
                .is_some_and(|open| open.opening == opening);
            if !of_it {
                return None;
            }
            state.ready_at = state.ready_at.max(state.committed);
            state.failures += 1;
            state.open.take()
        });
        let Some(open) = closing else {
            return;
        };
        tracing::warn!(job = %self.job, shard = %self.id, %error, "shard failed");
        self.close(open.pages);
        let retryable = is_passing(error);
        if retryable {
            self.report_failed(error.to_string(), true);
        } else {
            self.lose(error.to_string());
        }
    }

    /// The shard is not served until the control plane orders it again.
    pub(super) fn lose(&self, why: String) {
        let closing = self.change(|state| {
            state.lost = Some(why.clone());
            state.open.take()
        });
        if let Some(open) = closing {
            self.close(open.pages);
        }
        self.report_failed(why, false);
    }

    pub(super) fn report_failed(&self, error: String, retryable: bool) {
        // What becomes of a shard that was left is no news: its next owner may be this node.
        if !self.look(|state| state.wanted) {
            return;
        }
        self.context.reports.send(StateReport::Failed {
            job: self.job,
            shard: self.id,
            error,
            retryable,
        });
    }

    fn close(&self, pages: PageStore) {
        self.context
            .tasks
            .spawn(async move { close_pages(&pages).await });
    }
}

/// Whether opening the shard again may help.
pub(super) fn is_passing(error: &PageError) -> bool {
    match error {
        PageError::Unavailable { .. } | PageError::Reopen(_) => true,
        PageError::Fenced
        | PageError::NotOwner(_)
        | PageError::Damaged(_)
        | PageError::Invalid(_) => false,
    }
}

pub(super) async fn close_pages(pages: &PageStore) {
    if let Err(error) = pages.close().await {
        tracing::warn!(%error, "a shard did not close in time");
    }
}
