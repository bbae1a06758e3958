//! A job on this node: its fence, its shards, what its tasks staged, its output.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use proto::types::{Epoch, JobId, KeyGroupCount, ShardId};
use state_client::{Incarnation, Section, StateError};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use super::{output::Output, stage::EpochStage};
use crate::shard::{Fence, Kept, Shard, Verdict};

/// A job on this node.
pub(crate) struct Job {
    pub(crate) id: JobId,
    state: Mutex<JobState>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
pub(crate) struct JobState {
    pub(crate) fence: Fence,
    /// How the job's key groups are cut.
    pub(crate) cut: Option<(KeyGroupCount, u32)>,
    pub(crate) shards: BTreeMap<ShardId, Arc<Shard>>,
    /// The newest line of the job that the node has heard of.
    pub(crate) line: u64,
    /// The newest committed epoch that the node has heard of.
    pub(crate) committed: Epoch,
    /// What tasks stage, by epoch.
    pub(crate) stages: BTreeMap<Epoch, EpochStage>,
    /// Sections that this node wrote and that are not committed, by the object's name.
    pub(crate) kept: BTreeMap<String, (Epoch, Arc<Kept<Section>>)>,
    /// Served by the owner of the first shard.
    pub(crate) output: Output,
    /// The job was dropped, or all its shards have left: whoever waits need not.
    pub(crate) gone: bool,
}

impl Job {
    pub(crate) fn new(id: JobId) -> Self {
        Job {
            id,
            state: Mutex::default(),
            changed: watch::channel(()).0,
        }
    }

    fn state(&self) -> MutexGuard<'_, JobState> {
        // A panic while holding the lock is a bug of ours; the maps are still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the state; what it changes nobody waits for.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&mut JobState) -> T) -> T {
        look(&mut self.state())
    }

    /// Changes the state and tells those who wait for a change.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut JobState) -> T) -> T {
        let changed = change(&mut self.state());
        self.changed.send_replace(());
        changed
    }

    /// Waits for `pick` to find what it looks for, as long as the caller's generation is not fenced.
    pub(crate) async fn when<T>(
        &self,
        who: Incarnation,
        deadline: Instant,
        what: &str,
        mut pick: impl FnMut(&mut JobState) -> Option<Result<T, StateError>>,
    ) -> Result<T, StateError> {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let found = self.look(|state| {
                if state.gone {
                    let why = format!("{} is not on this node any more", self.id);
                    return Some(Err(StateError::Unavailable(why)));
                }
                match state.fence.judge(who.generation) {
                    Verdict::Serve => pick(state),
                    Verdict::Wait => None,
                    Verdict::Fenced(current) => Some(Err(StateError::Fenced {
                        job: who.job,
                        caller: who.generation,
                        current,
                    })),
                }
            });
            if let Some(found) = found {
                return found;
            }
            match timeout_at(deadline, changed.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => {
                    let why = format!("{what} took too long for {} of {}", who.generation, self.id);
                    return Err(StateError::Unavailable(why));
                }
            }
        }
    }
}
