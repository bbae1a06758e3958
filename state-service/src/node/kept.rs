//! States that are kept, as others look at them: the shards that were looked at last stay open, for who
//! looks once goes on looking. Those that nobody has looked at for a while are let go of by the sweep.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use state_client::{KeptShard, KeyRequest, ReadReply, ScanReply, ScanRequest, StateError};
use tokio::{sync::OnceCell, time::timeout};

use super::{StateNode, node::NodeShared};
use crate::{
    budget::{Budget, Lease},
    caps::{KEPT_SHARDS_OPEN_MAX, KEPT_TAIL_BYTES_MAX},
    shard::OpenedKept,
};

/// Shards that are open for looking at.
pub(crate) struct KeptShards {
    /// The one that was looked at last is the last.
    open: Mutex<Vec<Arc<Entry>>>,
    /// Bytes of their tails.
    tails: Budget,
}

/// A shard, once it is open.
struct Entry {
    kept: KeptShard,
    opened: OnceCell<(OpenedKept, Lease)>,
    /// Whether it was looked at since the last sweep.
    used: Mutex<bool>,
}

impl Default for KeptShards {
    fn default() -> Self {
        KeptShards {
            open: Mutex::default(),
            tails: Budget::new(KEPT_TAIL_BYTES_MAX),
        }
    }
}

impl KeptShards {
    fn open(&self) -> MutexGuard<'_, Vec<Arc<Entry>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The shard's place, which is the last from now on.
    fn entry(&self, kept: &KeptShard) -> Arc<Entry> {
        let mut open = self.open();
        let known = open.iter().position(|entry| entry.kept == *kept);
        let entry = match known {
            Some(at) => open.remove(at),
            None => Arc::new(Entry {
                kept: kept.clone(),
                opened: OnceCell::new(),
                used: Mutex::new(true),
            }),
        };
        entry.set_used(true);
        open.push(entry.clone());
        if open.len() > KEPT_SHARDS_OPEN_MAX {
            open.remove(0);
        }
        entry
    }

    /// Room for a tail: those that were looked at longest ago make it.
    fn room(&self, bytes: usize) -> Option<Lease> {
        loop {
            if let Some(lease) = self.tails.take(bytes) {
                return Some(lease);
            }
            let mut open = self.open();
            let first = open.iter().position(|entry| entry.opened.initialized())?;
            open.remove(first);
        }
    }

    /// Lets go of a shard: what was read of it may not be there any more.
    fn forget(&self, entry: &Arc<Entry>) {
        self.open().retain(|other| !Arc::ptr_eq(other, entry));
    }

    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.open().len()
    }

    /// Lets go of what nobody has looked at since the last time.
    pub(crate) fn forget_unused(&self) {
        self.open().retain(|entry| entry.set_used(false));
    }
}

impl Entry {
    /// Whether it was used before.
    fn set_used(&self, used: bool) -> bool {
        let mut known = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *known, used)
    }

    async fn opened(&self, node: &NodeShared) -> Result<&OpenedKept, StateError> {
        let open = || async {
            let logged = self.kept.log.iter();
            let objects = logged.flat_map(|logged| &logged.committed.objects);
            let bytes: u64 = objects.map(|object| object.bytes).sum();
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            let lease = node.kept_shards.room(bytes).ok_or_else(|| {
                let why = "too many states that are kept are being looked at";
                StateError::Unavailable(why.to_owned())
            })?;
            let opened = OpenedKept::open(&node.context, &self.kept).await?;
            Ok::<_, StateError>((opened, lease))
        };
        let opened = self.opened.get_or_try_init(open).await?;
        Ok(&opened.0)
    }
}

impl StateNode {
    /// Rows of keys of a shard as it is kept.
    ///
    /// # Errors
    /// [`StateError::Damaged`] when it is not whole, which is so too when nothing holds it any more.
    pub async fn read_kept(
        &self,
        kept: &KeptShard,
        keys: &[KeyRequest],
    ) -> Result<ReadReply, StateError> {
        let entry = self.shared.kept_shards.entry(kept);
        let reading = async { entry.opened(&self.shared).await?.read(keys).await };
        let rows = self.look_at(&entry, reading).await?;
        Ok(ReadReply { rows })
    }

    /// Rows of a key group of a shard as it is kept.
    ///
    /// # Errors
    /// As [`StateNode::read_kept`].
    pub async fn scan_kept(
        &self,
        kept: &KeptShard,
        request: &ScanRequest,
    ) -> Result<ScanReply, StateError> {
        let entry = self.shared.kept_shards.entry(kept);
        let scanning = async { entry.opened(&self.shared).await?.scan(request).await };
        self.look_at(&entry, scanning).await
    }

    async fn look_at<T>(
        &self,
        entry: &Arc<Entry>,
        looking: impl Future<Output = Result<T, StateError>>,
    ) -> Result<T, StateError> {
        let node = &self.shared;
        let deadline = node.context.config.limits.request_wait;
        let found = timeout(deadline, looking).await.unwrap_or_else(|_| {
            let (shard, epoch) = (entry.kept.shard, entry.kept.shape.epoch);
            let why = format!("{shard} as of epoch {epoch} was not read in time");
            Err(StateError::Unavailable(why))
        });
        if found.is_err() {
            node.kept_shards.forget(entry);
        }
        found
    }
}
