//! What a node has in memory and in its shards' files, and bringing the one into the other.

use std::time::Duration;

use state_client::StateError;
use tokio::time::Instant;

use super::StateNode;
use crate::{StoreRequests, pages::PageStats};

/// What a node has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NodeStats {
    /// Shards that are open.
    pub shards: usize,
    /// Bytes of committed rows that no flush has taken.
    pub tail_bytes: usize,
    /// Bytes of rows that are being flushed.
    pub frozen_bytes: usize,
    /// Flushes of all shards since they were opened.
    pub flushes: u64,
    /// Bytes of rows flushed.
    pub flushed_bytes: u64,
    /// Compactions.
    pub compactions: u64,
    /// Pages rewritten.
    pub rewritten_pages: u64,
    /// Pages that reads found in the page cache.
    pub cached_pages: u64,
    /// Pages that reads had to make from files.
    pub fetched_pages: u64,
    /// Bytes of all files that reads may look into.
    pub file_bytes: u64,
    /// Flushed files that await compaction.
    pub l0_files: usize,
    /// Requests to the object store since the node began.
    pub requests: StoreRequests,
}

impl NodeStats {
    fn add(&mut self, pages: PageStats) {
        self.shards += 1;
        self.flushes += pages.flushes;
        self.flushed_bytes += pages.flushed_bytes;
        self.compactions += pages.compactions;
        self.rewritten_pages += pages.rewritten_pages;
        self.cached_pages += pages.cached_pages;
        self.fetched_pages += pages.fetched_pages;
        self.file_bytes += pages.file_bytes;
        self.l0_files += pages.l0_files;
    }
}

impl StateNode {
    /// What the node has and did.
    #[must_use]
    pub fn stats(&self) -> NodeStats {
        let mut stats = NodeStats {
            requests: self.shared.requests.read(),
            ..NodeStats::default()
        };
        for job in self.shared.all_jobs() {
            for shard in job.look_shards() {
                let load = shard.load();
                stats.tail_bytes += load.tail_bytes;
                stats.frozen_bytes += load.frozen_bytes;
                if let Some(pages) = shard.page_stats() {
                    stats.add(pages);
                }
            }
        }
        stats
    }

    /// Flushes and maintains every shard until there is nothing to do, so that whoever opens them
    /// next has nothing to replay.
    ///
    /// # Errors
    /// [`StateError::Unavailable`] when that takes longer than `patience`.
    pub async fn settle(&self, patience: Duration) -> Result<(), StateError> {
        let deadline = Instant::now() + patience;
        for job in self.shared.all_jobs() {
            for shard in job.look_shards() {
                shard.settle(deadline).await?;
            }
        }
        Ok(())
    }
}
