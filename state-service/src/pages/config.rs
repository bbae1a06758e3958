//! What a page store is given: where it lies, its part of the key groups, and its limits.

use std::{fmt, sync::Arc, time::Duration};

use object_store::ObjectStore;
use proto::types::{KeyGroupCount, KeyGroupRange};
use slatedb::db_cache::DbCache;
use slatedb_common::clock::SystemClock;
use state_client::KeyRequest;
use tokio::runtime::Handle;

use super::{cache::PageCache, error::PageError, kv::ShardScope, store::mixed};

/// Where a page store lies and what it may use.
#[derive(Clone)]
pub struct PageStoreConfig {
    /// Path of the shard in the store; nothing else lies below it.
    pub path: String,
    /// The object store.
    pub store: Arc<dyn ObjectStore>,
    /// Key groups of the job.
    pub key_groups: KeyGroupCount,
    /// Those of the shard.
    pub range: KeyGroupRange,
    /// Decoded blocks of SlateDB's files, shared by shards, and the number that keeps this
    /// shard's apart from all others'.
    pub block_cache: Option<(Arc<dyn DbCache>, u64)>,
    /// Merged page images, shared by shards.
    pub page_cache: Option<PageCache>,
    /// Of all randomness, together with the path and the writer epoch: shards and openings may share it.
    pub seed: u64,
    /// `None`: the wall clock.
    pub clock: Option<Arc<dyn SystemClock>>,
    /// Where SlateDB's tasks, flushes and maintenance run: not where requests are served, for
    /// they may hold a thread for long.
    pub runtime: Handle,
    /// Limits.
    pub limits: PageLimits,
}

/// Limits of a page store.
#[derive(Clone, Debug)]
pub struct PageLimits {
    /// Deadline of a flush, and of each step of maintenance but compaction.
    pub deadline: Duration,
    /// Deadline of one compaction.
    pub compaction_deadline: Duration,
    /// How often a failed request to the object store is repeated.
    pub store_retries_max: u32,
    /// Flushed files not yet compacted at which a compaction is due.
    pub l0_files_max: usize,
    /// Between looks at a running compaction.
    pub compaction_poll: Duration,
    /// Bytes of the pages of one write batch, and of one step of rewriting.
    pub batch_bytes: usize,
    /// A page or a chunk above this is too large.
    pub page_bytes_max: usize,
    /// Pages fetched at the same time for one read.
    pub fetches_max: usize,
    /// Bytes at which a compaction begins the next file. What is written is sent in parts of 10 MB, several at
    /// a time, so that a smaller file is what it takes of memory.
    pub file_bytes_max: usize,
    /// Bytes that rewriting may leave unflushed.
    pub rewritten_bytes_max: usize,
    /// Files that nothing refers to are deleted when they are older.
    pub garbage_age: Duration,
    /// Whether the store has conditional overwrites (`If-Match`), which local directories lack.
    pub conditional_overwrite: bool,
}

impl Default for PageLimits {
    fn default() -> Self {
        PageLimits {
            deadline: Duration::from_secs(60),
            compaction_deadline: Duration::from_secs(900),
            store_retries_max: 8,
            l0_files_max: 6,
            compaction_poll: Duration::from_millis(50),
            batch_bytes: 4 << 20,
            page_bytes_max: 32 << 10,
            fetches_max: 64,
            file_bytes_max: 256 << 20,
            rewritten_bytes_max: 64 << 20,
            garbage_age: Duration::from_secs(120),
            conditional_overwrite: false,
        }
    }
}

impl PageLimits {
    /// What pages are made to have when they are cut anew: room to grow.
    pub(super) fn page_bytes_new(&self) -> usize {
        self.page_bytes_max / 4
    }
}

impl PageStoreConfig {
    /// The seed of one shard: others may have been given the same.
    pub(super) fn shard_seed(&self) -> u64 {
        mixed(self.seed, u64::from(crc32fast::hash(self.path.as_bytes())))
    }

    /// Whether keys are of this shard.
    pub(super) fn check_keys(&self, requests: &[KeyRequest]) -> Result<(), PageError> {
        let key_groups = requests
            .iter()
            .map(|request| self.key_groups.of_hash(request.hash));
        let mut others = key_groups.filter(|key_group| !self.range.contains(*key_group));
        match others.next() {
            None => Ok(()),
            Some(other) => {
                let why = format!("key group {} is not in this shard", other.0);
                Err(PageError::Invalid(why))
            }
        }
    }

    pub(super) fn scope(&self) -> ShardScope {
        ShardScope {
            key_groups: self.key_groups,
            range: self.range,
        }
    }
}

impl fmt::Debug for PageStoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageStoreConfig")
            .field("path", &self.path)
            .field("range", &self.range)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
