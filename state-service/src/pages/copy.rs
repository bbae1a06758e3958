//! A shard as a list of records, to be copied elsewhere and taken in there: what a checkpoint of it
//! has, whatever files that is in, and the way back from there to a shard.
//!
//! Records other than pages come first: whoever takes them in can then open the shard and know how
//! its pages lie. Pages are merged on their way out, each is one record.
//!
//! Invariant: a shard that was taken in answers as its origin did at that checkpoint. Until all of it
//! is in, it says so itself, and a second attempt goes on from what is durable.

use std::sync::Arc;

use bytes::Bytes;
use proto::types::Epoch;
use slatedb::{
    DbIterator, DbReader, DbReaderMode, WriteBatch,
    config::{DbReaderOptions, ScanOptions},
};
use state_client::page::Run;

use super::{
    PageStore,
    checkpoint::{admin, checkpoint_name},
    config::PageStoreConfig,
    error::PageError,
    kv::{ImportProgress, META, MetaRecord, PageKey},
    operator::PageMerge,
    store::{Shared, within},
};

/// Bytes that a scan fetches ahead.
const READ_AHEAD_BYTES: usize = 1 << 20;

/// A record and its key.
pub(crate) type Record = (Bytes, Bytes);

/// A checkpoint of a shard that is being read.
pub(crate) struct CheckpointReader {
    reader: DbReader,
    config: PageStoreConfig,
}

/// Records of a checkpoint, in order.
pub(crate) struct Records {
    records: DbIterator,
    config: PageStoreConfig,
}

/// Whether a key is that of a page.
fn is_page(key: &[u8]) -> bool {
    key.first().is_some_and(|first| *first != META)
}

/// Opens a checkpoint of a shard for reading. It is pinned: nothing runs in the background, so that
/// dropping the reader is all that is needed to let go of it.
pub(super) async fn open_checkpoint(
    config: &PageStoreConfig,
    epoch: Epoch,
) -> Result<DbReader, PageError> {
    let doing = "opening a checkpoint";
    let name = checkpoint_name(epoch);
    let admin = admin(config, config.seed);
    let found = admin.list_checkpoints(Some(&name)).await;
    let found = found.map_err(PageError::of(doing))?;
    let Some(checkpoint) = found.first() else {
        let why = format!("{} has no checkpoint of epoch {epoch}", config.path);
        return Err(PageError::Invalid(why));
    };
    let options = DbReaderOptions {
        skip_wal_replay: true,
        object_store_max_retries: Some(config.limits.store_retries_max),
        ..DbReaderOptions::default()
    };
    let builder = DbReader::builder(config.path.clone(), config.store.clone())
        .with_reader_mode(DbReaderMode::Checkpoint(checkpoint.id))
        .with_options(options)
        .with_merge_operator(Arc::new(PageMerge))
        .with_seed(config.shard_seed());
    let builder = match &config.block_cache {
        Some((cache, id)) => builder.with_db_cache(cache.clone(), *id),
        None => builder.with_db_cache_disabled(),
    };
    let builder = match &config.clock {
        Some(clock) => builder.with_system_clock(clock.clone()),
        None => builder,
    };
    builder.build().await.map_err(PageError::of(doing))
}

impl PageStore {
    /// Opens a checkpoint of a shard for reading. Nothing is written, and nobody is disturbed; it is
    /// up to the caller that the checkpoint stays.
    ///
    /// # Errors
    /// [`PageError::Invalid`] when there is no such checkpoint.
    pub(crate) async fn read_checkpoint(
        config: &PageStoreConfig,
        epoch: Epoch,
    ) -> Result<CheckpointReader, PageError> {
        let opening = open_checkpoint(config, epoch);
        let reader = within(config.limits.deadline, "opening a checkpoint", opening).await?;
        Ok(CheckpointReader {
            reader,
            config: config.clone(),
        })
    }

    /// How many parts of a copy are in; `None`: no copy is being taken in.
    ///
    /// # Errors
    /// When the shard cannot be read.
    pub(crate) async fn imported(&self) -> Result<Option<u64>, PageError> {
        let db = &self.shared.db;
        let doing = "reading how far a copy is";
        let read = async { db.get(ImportProgress::KEY).await };
        let read = async { read.await.map_err(PageError::of(doing)) };
        let value = within(self.shared.config.limits.deadline, doing, read).await?;
        let Some(value) = value else {
            return Ok(None);
        };
        let progress = ImportProgress::decode(&value);
        let progress =
            progress.ok_or_else(|| PageError::damaged(ImportProgress::KEY, "progress of a copy"));
        Ok(Some(progress?.0))
    }

    /// Takes records of a part in, which is the `part`th. They are durable after
    /// [`PageStore::persist_import`].
    ///
    /// # Errors
    /// [`PageError::Damaged`] when a record cannot be one of this shard's; else as those of
    /// [`PageStore::flush`].
    pub(crate) async fn import(&self, records: Vec<Record>, part: u64) -> Result<(), PageError> {
        let shared = self.shared.clone();
        self.detached(async move {
            let _writer = shared.writer.lock().await;
            shared.check_writable()?;
            shared.import(records, part).await
        })
        .await
    }

    /// Makes what was taken in durable.
    ///
    /// # Errors
    /// As those of [`PageStore::flush`].
    pub(crate) async fn persist_import(&self) -> Result<(), PageError> {
        let shared = self.shared.clone();
        self.detached(async move {
            let mut writer = shared.writer.lock().await;
            let layout = shared.layout().await;
            shared.persist(&mut writer, layout, None).await
        })
        .await
    }

    /// All parts are in.
    ///
    /// # Errors
    /// As those of [`PageStore::flush`].
    pub(crate) async fn complete_import(&self) -> Result<(), PageError> {
        let shared = self.shared.clone();
        self.detached(async move {
            let mut batch = WriteBatch::new();
            batch.delete(ImportProgress::KEY);
            shared.write_import(batch).await
        })
        .await?;
        self.persist_import().await
    }
}

impl Shared {
    async fn import(&self, records: Vec<Record>, part: u64) -> Result<(), PageError> {
        let mut batch = WriteBatch::new();
        let mut bytes = 0;
        for (key, value) in records {
            self.check_record(&key, &value)?;
            bytes += key.len() + value.len();
            batch.put_bytes(key, value);
            if bytes >= self.config.limits.batch_bytes {
                // Of a part that is half in, all comes again.
                batch.put(ImportProgress::KEY, ImportProgress(part).encode());
                self.write_import(std::mem::take(&mut batch)).await?;
                bytes = 0;
            }
        }
        batch.put(ImportProgress::KEY, ImportProgress(part + 1).encode());
        self.write_import(batch).await
    }

    async fn write_import(&self, batch: WriteBatch) -> Result<(), PageError> {
        let doing = "taking a copy in";
        let write = async {
            let written = self.db.write(batch).await;
            written.map(|_| ()).map_err(PageError::of(doing))
        };
        let written = within(self.config.limits.deadline, doing, write).await;
        written.map_err(|error| self.set_broken(error))
    }

    /// Whether a record can be one of this shard.
    fn check_record(&self, key: &Bytes, value: &Bytes) -> Result<(), PageError> {
        if is_page(key) {
            let page = PageKey::decode(key);
            let page = page.ok_or_else(|| PageError::damaged(key, "the key of no page"))?;
            if !self.config.range.contains(page.key_group) {
                return Err(PageError::damaged(key, "a page of another shard"));
            }
            let run = Run::open(value.clone());
            return run
                .map(|_| ())
                .map_err(|error| PageError::damaged(key, error));
        }
        match MetaRecord::decode(key, value) {
            Some(MetaRecord::Scope(scope)) if scope != self.config.scope() => {
                Err(PageError::damaged(key, "the shard has other key groups"))
            }
            Some(MetaRecord::Progress(_)) => {
                Err(PageError::damaged(key, "a copy of a half-made copy"))
            }
            Some(_) => Ok(()),
            None => Err(PageError::damaged(key, "a record of another version")),
        }
    }
}

impl CheckpointReader {
    /// Its records from the beginning, or those after a key.
    ///
    /// # Errors
    /// When the checkpoint cannot be read.
    pub(crate) async fn records(
        &self,
        pages: bool,
        after: Option<&Bytes>,
    ) -> Result<Records, PageError> {
        let from = match (after, pages) {
            // The least key that is greater.
            (Some(after), _) => [after, &[0][..]].concat(),
            (None, true) => vec![0],
            (None, false) => vec![META],
        };
        let to = if pages { vec![META] } else { vec![META, 0xff] };
        let doing = "reading a checkpoint";
        let options = ScanOptions {
            read_ahead_bytes: READ_AHEAD_BYTES,
            cache_blocks: false,
            ..ScanOptions::default()
        };
        let scan = async {
            let scan = self.reader.scan_with_options(from..to, &options).await;
            scan.map_err(PageError::of(doing))
        };
        let records = within(self.config.limits.deadline, doing, scan).await?;
        Ok(Records {
            records,
            config: self.config.clone(),
        })
    }

    /// Bytes of the files that it is in.
    pub(crate) fn file_bytes(&self) -> u64 {
        let manifest = self.reader.manifest();
        let views = manifest.all_sst_views();
        views
            .map(slatedb::manifest::SsTableView::estimate_size)
            .sum()
    }

    /// Lets go of it.
    pub(crate) async fn close(self) {
        let closed = tokio::time::timeout(self.config.limits.deadline, self.reader.close()).await;
        if let Ok(Err(error)) = closed {
            tracing::debug!(%error, "a reader did not close well");
        }
    }
}

impl Records {
    /// The next one; `None`: that was all.
    ///
    /// # Errors
    /// When the checkpoint cannot be read.
    pub(crate) async fn next(&mut self) -> Result<Option<Record>, PageError> {
        let doing = "reading a checkpoint";
        let next = async {
            let next = self.records.next().await;
            next.map_err(PageError::of(doing))
        };
        let next = within(self.config.limits.deadline, doing, next).await?;
        Ok(next.map(|record| (record.key, record.value)))
    }
}
