//! What a state node is given.

use std::{fmt, sync::Arc, time::Duration};

use slatedb::db_cache::DbCache;
use slatedb_common::clock::SystemClock;
use tokio::runtime::Handle;

use crate::{
    object::OpenStore,
    pages::{PageCache, PageLimits},
    transfer::Places,
};

/// What a state node is given.
#[derive(Clone)]
pub struct StateNodeConfig {
    /// The object store.
    pub store: OpenStore,
    /// Path in it below which everything lies.
    pub root: String,
    /// Name of the node, another one than those of all others.
    pub node: String,
    /// Of all randomness. Must be another one at every start: names of log objects come from it.
    pub seed: u64,
    /// `None`: the wall clock.
    pub clock: Option<Arc<dyn SystemClock>>,
    /// Where flushes and maintenance run: not where requests are served.
    pub runtime: Handle,
    /// Decoded blocks of the shards' files.
    pub block_cache: Option<Arc<dyn DbCache>>,
    /// Merged page images.
    pub page_cache: Option<PageCache>,
    /// Where savepoints are exported to, and imported from.
    pub places: Places,
    /// Limits of the node.
    pub limits: NodeLimits,
    /// Limits of each shard's page store.
    pub page_limits: PageLimits,
}

/// Limits of a state node.
#[derive(Clone, Debug)]
pub struct NodeLimits {
    /// Bytes of committed rows in memory above which the largest shard is flushed.
    pub tail_bytes: usize,
    /// Bytes of committed rows in memory, of those too that are being flushed, above which staging waits.
    pub unflushed_bytes: usize,
    /// Bytes above which a shard is flushed whatever the others have: as much as is read again
    /// from the log in about half a second.
    pub shard_tail_bytes: usize,
    /// A shard is flushed when its oldest unflushed rows are so many commits old.
    pub flush_epochs: u64,
    /// Flushes at the same time.
    pub flushes_max: usize,
    /// Shards in maintenance at the same time.
    pub maintenance_max: usize,
    /// Bytes of deltas that wait to be written; more are refused until they are.
    pub staged_bytes: usize,
    /// Bytes of written deltas that are kept until they are committed; of more the rows are read back.
    pub kept_bytes: usize,
    /// Bytes of output that are kept until they are published; more is read back.
    pub output_bytes: usize,
    /// How long a request waits for what it needs: a shard to open, an epoch to be applied.
    pub request_wait: Duration,
    /// How long staging waits for the object store before the caller is to try again.
    pub stage_wait: Duration,
    /// Deadline of one attempt of a request to the object store.
    pub attempt_deadline: Duration,
    /// Bytes of a part of an exported savepoint at which it is cut. Nodes that export in turn must have
    /// the same.
    pub part_bytes: usize,
    /// Between searches for files that a crash left behind.
    pub sweep_interval: Duration,
}

impl Default for NodeLimits {
    fn default() -> Self {
        NodeLimits {
            tail_bytes: 128 << 20,
            unflushed_bytes: 512 << 20,
            shard_tail_bytes: 64 << 20,
            flush_epochs: 64,
            flushes_max: 2,
            maintenance_max: 1,
            staged_bytes: 256 << 20,
            kept_bytes: 256 << 20,
            output_bytes: 64 << 20,
            request_wait: Duration::from_secs(10),
            stage_wait: Duration::from_secs(30),
            attempt_deadline: Duration::from_secs(15),
            part_bytes: 16 << 20,
            sweep_interval: Duration::from_secs(600),
        }
    }
}

impl fmt::Debug for StateNodeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateNodeConfig")
            .field("root", &self.root)
            .field("node", &self.node)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
