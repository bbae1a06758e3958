//! Flushing: rows of committed epochs become merge operands of their pages, then one file. The
//! durable epoch goes with the last of them, so it is never ahead of the rows.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use proto::types::{Epoch, KeyGroup, TableId};
use slatedb::config::CheckpointScope;
use state_client::{Block, page::Run};

use super::{
    PageStore,
    checkpoint::named,
    error::PageError,
    kv::{DepthRecord, DurableEpoch, LowWaterMarkRecord},
    layout::Layout,
    open::L0_FILES_MAX,
    slice::{fitting_depth, slice},
    store::{PendingWrite, Shared, Writer, within},
};

/// Everything that was committed since the last flush.
#[derive(Clone, Debug)]
pub struct FlushBatch {
    /// The newest of the epochs.
    pub epoch: Epoch,
    /// One merged run for each (key group, table, namespace), sorted by these.
    pub blocks: Vec<Block>,
    /// First open namespaces that moved.
    pub low_water_marks: Vec<(TableId, KeyGroup, i64)>,
}

/// A block, checked and opened.
struct OpenBlock {
    table: TableId,
    key_group: KeyGroup,
    namespace: i64,
    run: Run,
}

impl PageStore {
    /// Makes rows durable. Reads see them at some point between start and end; while it runs the
    /// caller lays what it has over what it reads. Flushing the same rows again changes nothing.
    ///
    /// # Errors
    /// [`PageError::Fenced`] when another writer has the shard. After any error but
    /// [`PageError::Invalid`] the store is to be closed and opened again; it then has all of the
    /// rows, or those of the last flush.
    pub async fn flush(&self, batch: FlushBatch) -> Result<(), PageError> {
        let shared = self.shared.clone();
        self.detached(async move {
            let mut writer = shared.writer.lock().await;
            shared.check_writable()?;
            shared.flush(&mut writer, batch).await
        })
        .await
    }
}

impl Shared {
    async fn flush(&self, writer: &mut Writer, batch: FlushBatch) -> Result<(), PageError> {
        let durable = Epoch(self.counters.durable.load(Ordering::Relaxed));
        if batch.epoch < durable {
            let why = format!("epoch {} after {durable} was flushed", batch.epoch);
            return Err(PageError::Invalid(why));
        }
        if self.db.manifest().l0().len() >= L0_FILES_MAX {
            let why = format!("{L0_FILES_MAX} files wait for compaction");
            let doing = "flushing";
            return Err(PageError::Unavailable { doing, why });
        }
        let mut layout = Layout::clone(&*self.layout().await);
        let mut records = PendingWrite::default();
        self.move_marks(&mut layout, &batch, &mut records)?;
        let blocks = self.open_blocks(&layout, batch.blocks)?;
        self.choose_depths(&mut layout, &blocks, &mut records);
        let layout = Arc::new(layout);
        // Depths are known before, or with, the first rows that lie by them.
        self.commit(records, Some(&layout)).await?;
        let mut write = PendingWrite::default();
        for block in blocks {
            write = self.write_block(&layout, &block, write).await?;
        }
        let epoch = DurableEpoch(batch.epoch);
        write.batch.put(DurableEpoch::KEY, epoch.encode());
        self.commit(write, None).await?;
        self.persist(writer, layout, Some(batch.epoch)).await?;
        self.counters
            .durable
            .store(batch.epoch.0, Ordering::Relaxed);
        self.counters.flushes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn move_marks(
        &self,
        layout: &mut Layout,
        batch: &FlushBatch,
        write: &mut PendingWrite,
    ) -> Result<(), PageError> {
        for (table, key_group, open_from) in &batch.low_water_marks {
            self.check_range(*key_group)?;
            let record = LowWaterMarkRecord {
                table: *table,
                key_group: *key_group,
                open_from: *open_from,
            };
            if layout.open_from(*table, *key_group) < *open_from {
                layout.set_mark(&record);
                write.batch.put(record.key(), record.encode());
            }
        }
        if !write.batch.is_empty() {
            let (depths, hot) = layout.forget_closed();
            for (table, namespace) in depths {
                write.batch.delete(DepthRecord::key(table, namespace));
            }
            hot.iter().for_each(|slot| write.batch.delete(slot.key()));
        }
        Ok(())
    }

    fn check_range(&self, key_group: KeyGroup) -> Result<(), PageError> {
        let range = self.config.range;
        if range.contains(key_group) {
            return Ok(());
        }
        let why = format!("key group {} is not in {range:?}", key_group.0);
        Err(PageError::Invalid(why))
    }

    fn open_blocks(
        &self,
        layout: &Layout,
        blocks: Vec<Block>,
    ) -> Result<Vec<OpenBlock>, PageError> {
        let order = |block: &Block| (block.key_group, block.table, block.namespace);
        if !blocks.is_sorted_by(|a, b| order(a) < order(b)) {
            let why = "blocks are not sorted by key group, table, namespace".to_string();
            return Err(PageError::Invalid(why));
        }
        let mut opened = Vec::with_capacity(blocks.len());
        for block in blocks {
            self.check_range(block.key_group)?;
            let run =
                Run::open(block.run).map_err(|error| PageError::Invalid(error.to_string()))?;
            let group = |row| self.config.key_groups.of_hash(run.hash(row));
            let is_other = |row| group(row) != block.key_group;
            if run
                .len()
                .checked_sub(1)
                .is_some_and(|last| is_other(0) || is_other(last))
            {
                let why = format!(
                    "rows of a block lie outside of key group {}",
                    block.key_group.0
                );
                return Err(PageError::Invalid(why));
            }
            // Closed meanwhile: nobody would ever see it.
            if run.is_empty() || layout.is_closed(block.table, block.key_group, block.namespace) {
                continue;
            }
            opened.push(OpenBlock {
                table: block.table,
                key_group: block.key_group,
                namespace: block.namespace,
                run,
            });
        }
        Ok(opened)
    }

    /// New namespaces get a depth: what fits their first rows, or about their predecessor's.
    fn choose_depths(&self, layout: &mut Layout, blocks: &[OpenBlock], write: &mut PendingWrite) {
        let mut new: BTreeMap<(TableId, i64), (usize, usize)> = BTreeMap::new();
        for block in blocks {
            if layout.depths_of(block.table, block.namespace).is_none() {
                let sums = new.entry((block.table, block.namespace)).or_default();
                *sums = (sums.0 + 1, sums.1 + block.run.encoded_len());
            }
        }
        let page_bytes = self.config.limits.page_bytes_new();
        for ((table, namespace), (groups, bytes)) in new {
            let earlier = (table, i64::MIN)..(table, namespace);
            let predecessor = layout.depths.range(earlier).next_back();
            // One less each time, so that one large window does not leave small pages for good.
            let inherited = predecessor.map_or(0, |(_, depths)| depths.max.saturating_sub(1));
            let depth = fitting_depth(bytes / groups, page_bytes).max(inherited);
            let record = DepthRecord {
                table,
                namespace,
                min: depth,
                max: depth,
            };
            layout.set_depths(&record);
            write
                .batch
                .put(DepthRecord::key(table, namespace), record.encode());
        }
    }

    /// Adds a block's pages to the write, committing it whenever it is large enough.
    async fn write_block(
        &self,
        layout: &Layout,
        block: &OpenBlock,
        mut write: PendingWrite,
    ) -> Result<PendingWrite, PageError> {
        let (table, namespace) = (block.table, block.namespace);
        let depths = layout.depths_of(table, namespace);
        let depth = depths.expect("every namespace was given a depth").max;
        let mut full = Vec::new();
        slice(
            layout,
            table,
            block.key_group,
            namespace,
            depth,
            &block.run,
            |key, rows| {
                write.merge(key.encode(), &rows.finish());
                if write.bytes >= self.config.limits.batch_bytes {
                    full.push(std::mem::take(&mut write));
                }
            },
        );
        let bytes = block.run.encoded_len() as u64;
        self.counters
            .flushed_bytes
            .fetch_add(bytes, Ordering::Relaxed);
        for write in full {
            self.commit(write, None).await?;
        }
        Ok(write)
    }

    /// Makes everything written so far durable, as a named checkpoint if it ends an epoch.
    pub(super) async fn persist(
        &self,
        writer: &mut Writer,
        layout: Arc<Layout>,
        epoch: Option<Epoch>,
    ) -> Result<(), PageError> {
        let persisted = within(self.config.limits.deadline, "flushing", async {
            let flushed = match epoch {
                Some(epoch) => {
                    let options = named(epoch);
                    let made = self.db.create_checkpoint(CheckpointScope::All, &options);
                    made.await.map(|_| ())
                }
                None => self.db.flush().await,
            };
            flushed.map_err(PageError::of("flushing"))
        });
        persisted.await.map_err(|error| self.set_broken(error))?;
        writer.rewritten_bytes = 0;
        self.set_durable_layout(layout);
        Ok(())
    }
}
