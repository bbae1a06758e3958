//! Merged page images kept by the node, weighed in bytes and shared by its shards. Whoever puts
//! an image in must know that nothing touched the page since the snapshot it was read from.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use moka::future::Cache;
use slatedb::db_cache::{
    DbCache, SplitCache,
    moka::{MokaCache, MokaCacheOptions},
};
use state_client::page::Run;

use super::kv::PAGE_KEY_BYTES;

/// Of the cache of blocks, the part for indexes and filters is one in so many.
const META_PART: u64 = 4;

/// A cache of decoded blocks of files, and of their indexes and filters, which are asked for at every
/// read and are not to be pushed out by blocks.
#[must_use]
pub fn block_cache(bytes: u64) -> Arc<dyn DbCache> {
    let part = |bytes: u64| -> Option<Arc<dyn DbCache>> {
        let options = MokaCacheOptions {
            max_capacity: bytes,
            ..MokaCacheOptions::default()
        };
        Some(Arc::new(MokaCache::new_with_opts(options)))
    };
    let meta = bytes / META_PART;
    let split = SplitCache::new().with_block_cache(part(bytes - meta));
    Arc::new(split.with_meta_cache(part(meta)).build())
}

pub(super) type PageKeyBytes = [u8; PAGE_KEY_BYTES];

/// What an entry costs beside its image.
const ENTRY_BYTES: usize = 160;

/// Page images of many shards.
#[derive(Clone, Debug)]
pub struct PageCache {
    images: Cache<(u64, PageKeyBytes), Run>,
    scopes: Arc<AtomicU64>,
}

/// The part of a cache that one opening of one shard has.
#[derive(Clone, Debug)]
pub(super) struct ShardCache {
    cache: PageCache,
    scope: u64,
}

impl PageCache {
    /// An empty cache of at most `bytes` bytes.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let weigh = |_: &(u64, PageKeyBytes), run: &Run| {
            u32::try_from(run.encoded_len() + ENTRY_BYTES).unwrap_or(u32::MAX)
        };
        PageCache {
            images: Cache::builder().max_capacity(bytes).weigher(weigh).build(),
            scopes: Arc::default(),
        }
    }

    /// Each opening has a scope of its own: what another left behind is never found.
    pub(super) fn scope(&self) -> ShardCache {
        ShardCache {
            cache: self.clone(),
            scope: self.scopes.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl ShardCache {
    pub(super) async fn get(&self, key: &PageKeyBytes) -> Option<Run> {
        self.cache.images.get(&(self.scope, *key)).await
    }

    pub(super) async fn insert(&self, key: PageKeyBytes, image: Run) {
        self.cache.images.insert((self.scope, key), image).await;
    }

    pub(super) async fn invalidate(&self, key: &PageKeyBytes) {
        self.cache.images.invalidate(&(self.scope, *key)).await;
    }
}
