//! Indexes and filters of files, read before anyone needs them.
//!
//! Every read asks for those of the files that may have its page. Of a file that is flushed they are kept as it is
//! written. Those of what a compaction writes, and of what is there when a shard is opened, are read here, once:
//! of hundreds of reads that come at the same moment, as after the death of a worker, each would read them for
//! itself and check the whole of an index, which takes longer than all else that they do.

use std::collections::HashSet;

use futures::{StreamExt as _, stream};
use slatedb::{
    DbCacheManagerOps as _, VersionedManifest, db_cache::CacheTarget, manifest::SsTableId,
};

use super::{
    error::PageError,
    store::{Shared, within},
};

/// Files of which they are read at the same time.
const AT_ONCE: usize = 8;
/// It may take this part of what a request of a shard may take.
const PATIENCE_PART: u32 = 8;

/// What every read asks for.
pub(super) const ASKED_FOR: [CacheTarget; 2] = [CacheTarget::Index, CacheTarget::Filters];

/// The files of a manifest.
pub(super) fn files(manifest: &VersionedManifest) -> HashSet<SsTableId> {
    manifest.all_sst_views().map(|view| view.sst.id).collect()
}

impl Shared {
    /// Reads those of all files but `known`. What cannot be read soon, reads will ask for: a shard is not to be
    /// closed for longer because of it.
    pub(super) async fn warm(&self, known: &HashSet<SsTableId>) {
        if self.config.block_cache.is_none() {
            return;
        }
        let manifest = self.db.manifest();
        let views = manifest.all_sst_views();
        let new: Vec<SsTableId> = views
            .map(|view| view.sst.id)
            .filter(|file| !known.contains(file))
            .collect();
        let patience = self.config.limits.deadline / PATIENCE_PART;
        let warmed = within(patience, "reading indexes", async {
            let reads = stream::iter(new).map(|file| self.db.warm_sst(file, &ASKED_FOR));
            let mut reads = reads.buffer_unordered(AT_ONCE);
            while let Some(read) = reads.next().await {
                read.map_err(PageError::of("reading an index"))?;
            }
            Ok(())
        });
        let warmed = tokio::select! {
            warmed = warmed => warmed,
            why = self.broken() => Err(why),
        };
        if let Err(error) = warmed {
            tracing::debug!(%error, "indexes of files are read when they are asked for");
        }
    }
}
