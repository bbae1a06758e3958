//! Opening a shard: read the manifest, have the ownership confirmed, take the writer's place.

use std::{collections::HashSet, future::Future, sync::Arc, time::Duration};

use proto::types::{Epoch, KeyGroup, TableId};
use slatedb::{BlockCachePolicy, Db, DbIterator, Settings, WriteBatch};

use super::{
    PageStore,
    checkpoint::{admin, ensure_named},
    config::PageStoreConfig,
    error::PageError,
    kv::{META, MetaRecord, ShardScope},
    layout::Layout,
    null_wal::NullWal,
    operator::PageMerge,
    store::{Shared, mixed, within},
    warm::ASKED_FOR,
};

/// How often another opener may come between.
const ATTEMPTS_MAX: usize = 16;
/// Files of flushes at which flushing waits for compaction. Far above what maintenance leaves.
pub(super) const L0_FILES_MAX: usize = 128;

/// What an opened shard has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opened {
    /// Every epoch up to it is there; later ones are to be flushed again.
    pub durable: Epoch,
    /// First open namespaces, as of that epoch.
    pub marks: Vec<(TableId, KeyGroup, i64)>,
}

impl PageStore {
    /// Opens a shard, or makes an empty one, and fences all earlier writers.
    ///
    /// `confirm` is asked, with the writer epoch that is about to be replaced, after the manifest
    /// was read and before the shard is opened: whoever loses the shard in between has its open
    /// refused, and who still owns it asks again.
    ///
    /// # Errors
    /// [`PageError::NotOwner`] if `confirm` says so.
    pub async fn open<F, Fut>(
        config: PageStoreConfig,
        confirm: F,
    ) -> Result<(PageStore, Opened), PageError>
    where
        F: Fn(u64) -> Fut,
        Fut: Future<Output = Result<(), String>>,
    {
        let deadline = config.limits.deadline;
        for _ in 0..ATTEMPTS_MAX {
            let writer_epoch =
                within(deadline, "reading the manifest", writer_epoch(&config)).await?;
            confirm(writer_epoch).await.map_err(PageError::NotOwner)?;
            let building = {
                let config = config.clone();
                // On the store's runtime, where SlateDB then keeps its tasks.
                config.runtime.clone().spawn(async move {
                    within(deadline, "opening", open_database(config, writer_epoch)).await
                })
            };
            let opened = building
                .await
                .map_err(|error| PageError::Reopen(error.to_string()))?;
            match opened {
                // Another one came between; whether the shard is still ours, the owner knows.
                Err(PageError::Fenced) => {}
                Err(error) => return Err(error),
                Ok((shared, opened)) => {
                    shared.warm(&HashSet::new()).await;
                    let shared = Arc::new(shared);
                    return Ok((PageStore { shared }, opened));
                }
            }
        }
        Err(PageError::Unavailable {
            doing: "opening",
            why: format!("{ATTEMPTS_MAX} other openers came between"),
        })
    }
}

async fn writer_epoch(config: &PageStoreConfig) -> Result<u64, PageError> {
    let manifest = admin(config, config.seed).read_manifest(None).await;
    let manifest = manifest.map_err(PageError::of("reading the manifest"))?;
    Ok(manifest.map_or(0, |manifest| manifest.writer_epoch()))
}

fn settings(config: &PageStoreConfig) -> Settings {
    Settings {
        flush_interval: None,
        wal_enabled: false,
        manifest_poll_interval: Duration::from_secs(30),
        manifest_update_timeout: config.limits.deadline,
        // Only flushes cut the memtable: this is above all it can ever hold, and the bound on
        // what waits for upload is far above this, else writing could wait for ever.
        l0_sst_size_bytes: 2 << 30,
        max_unflushed_bytes: 6 << 30,
        l0_max_ssts: 2 * L0_FILES_MAX,
        l0_max_ssts_per_key: 2 * L0_FILES_MAX,
        compactor_options: None,
        garbage_collector_options: None,
        object_store_max_retries: Some(config.limits.store_retries_max),
        ..Settings::default()
    }
}

/// Of a file that is flushed, indexes and filters are kept: every read asks for them. Its blocks are of
/// rows that have just been changed, which their tasks have in memory.
fn cached_when_written() -> BlockCachePolicy {
    BlockCachePolicy::default().with_flush_targets(&ASKED_FOR)
}

async fn open_database(
    config: PageStoreConfig,
    writer_epoch: u64,
) -> Result<(Shared, Opened), PageError> {
    // No two openings have the same writer epoch.
    let opening_seed = mixed(config.shard_seed(), writer_epoch + 1);
    let builder = Db::builder(config.path.clone(), config.store.clone())
        .with_settings(settings(&config))
        .with_expected_epoch(writer_epoch)
        .with_wal_writer(Box::new(NullWal))
        .with_merge_operator(Arc::new(PageMerge))
        .with_sst_block_size(BLOCK_SIZE)
        .with_block_cache_policy(cached_when_written())
        .with_seed(mixed(opening_seed, 0));
    let builder = match &config.block_cache {
        Some((cache, id)) => builder.with_db_cache(cache.clone(), *id),
        None => builder.with_db_cache_disabled(),
    };
    let builder = match &config.clock {
        Some(clock) => builder.with_system_clock(clock.clone()),
        None => builder,
    };
    let db = builder.build().await.map_err(PageError::of("opening"))?;
    let loaded = match load(&db, config.scope()).await {
        Ok((layout, durable)) => {
            let named = ensure_named(&db, durable).await;
            named.map(|()| (layout, durable))
        }
        Err(error) => Err(error),
    };
    let (layout, durable) = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            let options = slatedb::config::CloseOptions::default().with_flush_type(None);
            // The reason for not opening is what the caller wants to know.
            drop(db.close_with_options(options).await);
            return Err(error);
        }
    };
    let marks = (layout.marks.iter())
        .map(|((table, key_group), open_from)| (*table, *key_group, *open_from))
        .collect();
    let shared = Shared::new(config, opening_seed, db, layout, durable);
    Ok((shared, Opened { durable, marks }))
}

/// Blocks are about a page.
pub(super) const BLOCK_SIZE: slatedb::SstBlockSize = slatedb::SstBlockSize::Block16Kib;

/// Reads all records but the pages; a new shard gets its first.
async fn load(db: &Db, scope: ShardScope) -> Result<(Layout, Epoch), PageError> {
    let records = db.scan(vec![META]..).await;
    let records = records.map_err(PageError::of("opening"))?;
    let (layout, durable, is_new) = layout_of(records, scope).await?;
    if is_new {
        let mut batch = WriteBatch::new();
        batch.put(ShardScope::KEY, scope.encode());
        db.write(batch).await.map_err(PageError::of("opening"))?;
    }
    Ok((layout, durable))
}

/// What the records say: the layout, the durable epoch, and whether there are none yet.
pub(super) async fn layout_of(
    mut records: DbIterator,
    scope: ShardScope,
) -> Result<(Layout, Epoch, bool), PageError> {
    let mut layout = Layout::new(scope);
    let mut durable = Epoch::ZERO;
    let mut found = None;
    while let Some(record) = records.next().await.map_err(PageError::of("opening"))? {
        match MetaRecord::decode(&record.key, &record.value) {
            Some(MetaRecord::Scope(scope)) => found = Some(scope),
            Some(MetaRecord::Durable(epoch)) => durable = epoch.0,
            Some(MetaRecord::Depth(depth)) => layout.set_depths(&depth),
            Some(MetaRecord::Hot(slot, hot)) => drop(layout.hot.insert(slot, hot)),
            Some(MetaRecord::Mark(mark)) => layout.set_mark(&mark),
            // Whoever takes the copy in asks for it.
            Some(MetaRecord::Progress(_)) => {}
            None => {
                let why = "a record of another version";
                return Err(PageError::damaged(&record.key, why));
            }
        }
    }
    match found {
        Some(found) if found != scope => {
            let why = format!("the shard has {found:?}, it is opened as {scope:?}");
            Err(PageError::Invalid(why))
        }
        found => Ok((layout, durable, found.is_none())),
    }
}
