//! What a compaction does to pages on its way: drops those of closed namespaces, turns what lies
//! lowest into base images (delete marks go) and weighs it. Relies only on what is durable: the
//! layout as of the last completed flush, of which the compacted files are a part.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use proto::types::TableId;
use slatedb::{
    CompactionFilter, CompactionFilterDecision, CompactionFilterError, CompactionFilterSupplier,
    CompactionJobContext, RowEntry, ValueDeletable,
};
use state_client::page::{Run, merge};

use super::{
    kv::{HOT_DEPTH, HotSlot, PageKey},
    layout::Layout,
    store::locked,
};

/// How many oversized pages are remembered from one compaction.
const LARGE_PAGES_MAX: usize = 4096;

/// What a compaction saw of the lowest pages.
#[derive(Debug, Default)]
pub(super) struct Weights {
    /// Pages of a (table, namespace) at a depth, and their bytes without those of heavy keys.
    pub(super) pages: BTreeMap<(TableId, i64, u8), Weight>,
    /// Chunks of a hot key.
    pub(super) chunks: BTreeMap<HotSlot, Weight>,
    /// Keys that alone fill more than a page, by their page.
    pub(super) heavy: Vec<(PageKey, u64)>,
}

/// How many pages and how many bytes they have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Weight {
    pub(super) pages: usize,
    pub(super) bytes: usize,
}

impl Weight {
    pub(super) fn add(&mut self, bytes: usize) {
        self.pages += 1;
        self.bytes += bytes;
    }

    pub(super) fn mean(&self) -> usize {
        self.bytes / self.pages.max(1)
    }
}

/// Makes the filters of one compaction.
pub(super) struct PageFilters {
    pub(super) durable: Arc<Layout>,
    /// What readers work with: to one from before, a page may still have a parent.
    pub(super) viewed: Vec<Arc<Layout>>,
    pub(super) page_bytes_max: usize,
    pub(super) weights: Arc<Mutex<Weights>>,
}

struct PageFilter {
    durable: Arc<Layout>,
    viewed: Vec<Arc<Layout>>,
    page_bytes_max: usize,
    weights: Arc<Mutex<Weights>>,
    /// Nothing lies below the run that is written.
    is_lowest: bool,
    /// What is newer than this may have older versions behind it.
    merged_up_to: u64,
}

#[async_trait]
impl CompactionFilterSupplier for PageFilters {
    async fn create_compaction_filter(
        &self,
        context: &CompactionJobContext,
    ) -> Result<Box<dyn CompactionFilter>, CompactionFilterError> {
        Ok(Box::new(PageFilter {
            durable: self.durable.clone(),
            viewed: self.viewed.clone(),
            page_bytes_max: self.page_bytes_max,
            weights: self.weights.clone(),
            is_lowest: context.is_dest_last_run,
            merged_up_to: context.retention_min_seq.unwrap_or(u64::MAX),
        }))
    }
}

#[async_trait]
impl CompactionFilter for PageFilter {
    async fn filter(
        &mut self,
        entry: &RowEntry,
    ) -> Result<CompactionFilterDecision, CompactionFilterError> {
        match PageKey::decode(&entry.key) {
            Some(page) => self.decide(&page, entry),
            None => Ok(CompactionFilterDecision::Keep),
        }
    }

    async fn on_compaction_end(&mut self) -> Result<(), CompactionFilterError> {
        Ok(())
    }
}

impl PageFilter {
    /// Whether nobody finds older rows of the page in its parent.
    fn is_lowest_page(&self, page: &PageKey) -> bool {
        let mut layouts = self.viewed.iter().chain([&self.durable]);
        layouts.all(|layout| layout.is_lowest(page))
    }

    fn decide(
        &self,
        page: &PageKey,
        entry: &RowEntry,
    ) -> Result<CompactionFilterDecision, CompactionFilterError> {
        use CompactionFilterDecision::{Drop, Keep, Modify};
        if (self.durable).is_closed(page.table, page.key_group, page.namespace) {
            return Ok(Drop);
        }
        let (ValueDeletable::Value(bytes) | ValueDeletable::Merge(bytes)) = &entry.value else {
            return Ok(Keep);
        };
        if !self.is_lowest || entry.seq > self.merged_up_to {
            return Ok(Keep);
        }
        let damaged = |error| CompactionFilterError::FilterError(Box::new(error));
        let run = Run::open(bytes.clone()).map_err(damaged)?;
        if !run.is_base() && !self.is_lowest_page(page) {
            // Older rows may lie in its parent: its delete marks are still needed.
            self.weigh(page, &run);
            return Ok(Keep);
        }
        let base = merge(std::slice::from_ref(&run), true);
        if run.is_base() {
            self.weigh(page, &run);
        } else {
            self.weigh(page, &Run::open(base.clone()).map_err(damaged)?);
        }
        let is_put = matches!(entry.value, ValueDeletable::Value(_));
        if base.len() == run.encoded_len() && run.is_base() && is_put {
            return Ok(if run.is_empty() { Drop } else { Keep });
        }
        let is_empty = base.len() == Run::EMPTY_BYTES;
        Ok(if is_empty {
            Drop
        } else {
            Modify(ValueDeletable::Value(base))
        })
    }

    fn weigh(&self, page: &PageKey, image: &Run) {
        let bytes = image.encoded_len();
        let mut weights = locked(&self.weights);
        if page.depth == HOT_DEPTH {
            let slot = HotSlot {
                key_group: page.key_group,
                table: page.table,
                namespace: page.namespace,
                prefix: page.prefix,
            };
            weights.chunks.entry(slot).or_default().add(bytes);
            return;
        }
        let mut light = bytes;
        if bytes > self.page_bytes_max {
            for (hash, heavy) in heavy_keys(image, self.page_bytes_max) {
                light -= heavy.min(light);
                if weights.heavy.len() < LARGE_PAGES_MAX {
                    weights.heavy.push((*page, hash));
                }
            }
        }
        let of_depth = (page.table, page.namespace, page.depth);
        weights.pages.entry(of_depth).or_default().add(light);
    }
}

/// Keys whose rows alone fill more than `bytes_max`, and how much that is.
pub(super) fn heavy_keys(image: &Run, bytes_max: usize) -> Vec<(u64, usize)> {
    let mut heavy = Vec::new();
    let mut row = 0;
    while row < image.len() {
        let hash = image.hash(row);
        let end = image.rows_of(hash).end;
        // A single row cannot be spread.
        if end - row > 1 {
            let bytes: usize = (row..end).map(|row| image.row_bytes(row)).sum();
            if bytes > bytes_max {
                heavy.push((hash, bytes));
            }
        }
        row = end;
    }
    heavy
}
