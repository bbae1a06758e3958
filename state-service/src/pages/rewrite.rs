//! Rewriting pages that have grown: into deeper pages, or a heavy key into chunks. Every step is
//! one write batch that takes rows from where they were and puts them, as base images, where they
//! belong; so every page that is put holds all older rows, and readers find each row once.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{Arc, atomic::Ordering},
};

use proto::types::{KeyGroup, TableId};
use state_client::page::{Run, RunBuilder, merge};

use super::{
    error::PageError,
    filter::{Weights, heavy_keys},
    kv::{CHUNK_BITS_MAX, DepthRecord, HotKey, HotSlot, PageKey, lead},
    layout::{Depths, Layout, mask},
    scan::Pages,
    slice::{cut_chunks, fitting_depth, slice},
    store::{PendingWrite, Shared, Writer, locked, within},
    view::View,
};

/// By how many bits pages are split at once.
const SPLIT_BITS_MAX: u8 = 6;
const DEPTH_MAX: u8 = 32;

/// What is to be rewritten. In memory only: what is under way is seen in the layout, and the
/// rest is found again by the next compaction.
#[derive(Debug, Default)]
pub(super) struct Rewriting {
    tasks: VecDeque<Task>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Task {
    /// New rows go deeper from now on.
    Deepen(TableId, i64, u8),
    /// Pages from this one on move to where new rows go.
    Sweep(PageKey),
    /// A key gets chunks of its own.
    Heat(PageKey, u64),
    /// A hot key gets more chunks.
    Widen(HotSlot, u8),
    /// Its rows move to them.
    Spread(HotSlot),
}

impl Rewriting {
    /// What a layout says is under way.
    pub(super) fn resumed(layout: &Layout) -> Self {
        let spread = (layout.hot.iter())
            .filter(|(_, hot)| hot.is_moving())
            .map(|(slot, _)| Task::Spread(*slot));
        let behind = (layout.depths.iter()).filter(|(_, depths)| depths.min != depths.max);
        let sweep = behind.map(|((table, namespace), depths)| {
            Task::Sweep(first_page(layout, *table, *namespace, depths.min))
        });
        Rewriting {
            tasks: spread.chain(sweep).collect(),
        }
    }

    /// Takes in what a compaction has seen.
    pub(super) fn plan(&mut self, layout: &Layout, weights: &Weights, page_bytes_max: usize) {
        let under_way = |task: &Task| matches!(task, Task::Sweep(_) | Task::Spread(_));
        self.tasks.retain(under_way);
        let bits_more = |mean: usize| fitting_depth(mean, page_bytes_max / 4).min(SPLIT_BITS_MAX);
        for ((table, namespace, depth), weight) in &weights.pages {
            let (table, namespace, mean) = (*table, *namespace, weight.mean());
            let deeper = (depth + bits_more(mean)).min(DEPTH_MAX);
            let Some(Depths { min, max }) = layout.depths_of(table, namespace) else {
                continue;
            };
            // Those that stayed behind follow: while there are two depths every read looks at both, and at
            // the lesser one pages are large. New pages have a quarter of what is too much, so that until
            // the next time a table grows to four times its size: its rows move once or twice.
            if min != max {
                self.sweep(layout, table, namespace, min);
            } else if *depth == max && mean > page_bytes_max && deeper > max {
                // They follow when that is done.
                self.tasks.push_back(Task::Deepen(table, namespace, deeper));
            }
        }
        for (slot, weight) in &weights.chunks {
            let Some(hot) = layout.hot.get(slot) else {
                continue;
            };
            let bits = (hot.bits + bits_more(weight.mean())).min(CHUNK_BITS_MAX);
            if weight.mean() > page_bytes_max && bits > hot.bits && !hot.is_moving() {
                self.tasks.push_back(Task::Widen(*slot, bits));
            }
        }
        for (page, hash) in &weights.heavy {
            match layout.depths_of(page.table, page.namespace) {
                Some(depths) if depths.min != depths.max => {
                    self.sweep(layout, page.table, page.namespace, depths.min);
                }
                _ => self.tasks.push_back(Task::Heat(*page, *hash)),
            }
        }
    }

    fn sweep(&mut self, layout: &Layout, table: TableId, namespace: i64, min: u8) {
        let same = |page: &PageKey| page.table == table && page.namespace == namespace;
        let is_queued = |task: &Task| matches!(task, Task::Sweep(page) if same(page));
        if !self.tasks.iter().any(is_queued) {
            let first = first_page(layout, table, namespace, min);
            self.tasks.push_back(Task::Sweep(first));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }
}

/// What one step of rewriting writes, and what follows it.
#[derive(Default)]
pub(super) struct Step {
    write: PendingWrite,
    layout: Option<Layout>,
    next: Option<Task>,
    pages: u64,
}

impl Step {
    fn put_depths(&mut self, layout: &Layout, record: DepthRecord) {
        let key = DepthRecord::key(record.table, record.namespace);
        self.write.batch.put(key, record.encode());
        let layout = self.layout.get_or_insert_with(|| layout.clone());
        layout.set_depths(&record);
    }

    fn put_hot(&mut self, layout: &Layout, slot: HotSlot, hot: HotKey) {
        self.write.batch.put(slot.key(), hot.encode());
        let layout = self.layout.get_or_insert_with(|| layout.clone());
        layout.hot.insert(slot, hot);
    }

    fn put_chunks(&mut self, slot: HotSlot, hot: HotKey, image: &Run, rows: Range<usize>) {
        let chunk_of = |identity: &[u8]| hot.chunk_of(lead(identity));
        cut_chunks(image, rows, chunk_of, |chunk, rows| {
            self.write
                .put(slot.page(chunk).encode(), rows.finish_base());
        });
    }
}

impl Shared {
    /// One step of rewriting. The writer is locked from reading to writing: no flush comes between.
    pub(super) async fn rewrite(&self, writer: &mut Writer) -> Result<(), PageError> {
        let task = locked(&self.rewriting).tasks.pop_front();
        let Some(task) = task else {
            return Ok(());
        };
        let view = self.view().await?;
        let gathering = self.gather(&view, &task);
        let step = match within(self.config.limits.deadline, "rewriting", gathering).await {
            Ok(step) => step,
            Err(error) => {
                // Nothing was written: it may be tried again.
                locked(&self.rewriting).tasks.push_front(task);
                return Err(error);
            }
        };
        writer.rewritten_bytes += step.write.bytes;
        let layout = step.layout.map(Arc::new);
        self.commit(step.write, layout.as_ref()).await?;
        let rewritten = &self.counters.rewritten_pages;
        rewritten.fetch_add(step.pages, Ordering::Relaxed);
        if let Some(next) = step.next {
            locked(&self.rewriting).tasks.push_front(next);
        }
        Ok(())
    }

    async fn gather(&self, view: &View, task: &Task) -> Result<Step, PageError> {
        match task {
            Task::Deepen(table, namespace, depth) => {
                Ok(deepen(&view.layout, *table, *namespace, *depth))
            }
            Task::Sweep(from) => self.sweep(view, *from).await,
            Task::Heat(page, hash) => self.heat(view, *page, *hash).await,
            Task::Widen(slot, bits) => Ok(widen(&view.layout, *slot, *bits)),
            Task::Spread(slot) => self.spread(view, *slot).await,
        }
    }

    /// Moves pages that lie at the lesser depth, from `from` on.
    async fn sweep(&self, view: &View, from: PageKey) -> Result<Step, PageError> {
        let mut step = Step::default();
        let (table, namespace) = (from.table, from.namespace);
        let Some(Depths { min, max }) = view.layout.depths_of(table, namespace) else {
            return Ok(step);
        };
        if min == max {
            return Ok(step);
        }
        let family = |prefix: u32| prefix & mask(min);
        for key_group in u32::from(from.key_group.0)..view.layout.scope.range.end {
            let key_group = KeyGroup(key_group as u16);
            if view.layout.is_closed(table, key_group, namespace) {
                continue;
            }
            let first = match key_group == from.key_group {
                true => from,
                false => PageKey::first(key_group, table, namespace, min),
            };
            let deep = PageKey {
                depth: max,
                chunk: 0,
                ..first
            };
            let mut parents = Pages::scan(view, first, first.last()).await?;
            let mut children = Pages::scan(view, deep, deep.last()).await?;
            while let Some((parent, _)) = parents.next {
                let mut images = Vec::new();
                // The parent first: its rows are the older ones.
                parents
                    .take_family(parent.prefix, family, &mut images)
                    .await?;
                children
                    .take_family(parent.prefix, family, &mut images)
                    .await?;
                split(&view.layout, parent, max, images, &mut step);
                if step.write.bytes >= self.config.limits.batch_bytes {
                    // Chunks of pages are 0: this is behind the parent, before the next one.
                    step.next = Some(Task::Sweep(PageKey { chunk: 1, ..parent }));
                    return Ok(step);
                }
            }
        }
        step.put_depths(
            &view.layout,
            DepthRecord {
                table,
                namespace,
                min: max,
                max,
            },
        );
        Ok(step)
    }

    /// Gives a key that fills more than a page chunks of its own.
    async fn heat(&self, view: &View, page: PageKey, hash: u64) -> Result<Step, PageError> {
        let mut step = Step::default();
        let settled = Depths {
            min: page.depth,
            max: page.depth,
        };
        let slot = view.layout.hot_slot(page.table, page.namespace, hash);
        let is_closed = (view.layout).is_closed(page.table, page.key_group, page.namespace);
        if view.layout.depths_of(page.table, page.namespace) != Some(settled)
            || is_closed
            || view.layout.hot.contains_key(&slot)
        {
            return Ok(step);
        }
        let image = base_of(view.fetch(page).await?);
        let heavy = heavy_keys(&image, self.config.limits.page_bytes_max);
        let Some((_, bytes)) = heavy.into_iter().find(|(heavy, _)| *heavy == hash) else {
            return Ok(step);
        };
        let bits = fitting_depth(bytes, self.config.limits.page_bytes_new());
        let bits = bits.clamp(1, CHUNK_BITS_MAX);
        let hot = HotKey {
            hash,
            bits,
            next_bits: bits,
            boundary: 1 << bits,
        };
        let rows = image.rows_of(hash);
        let mut rest = RunBuilder::default();
        rest.extend_from_run(&image, 0..rows.start);
        rest.extend_from_run(&image, rows.end..image.len());
        match rest.is_empty() {
            true => step.write.delete(page.encode()),
            false => step.write.put(page.encode(), rest.finish_base()),
        }
        step.put_chunks(slot, hot, &image, rows);
        step.put_hot(&view.layout, slot, hot);
        step.pages = 1;
        Ok(step)
    }

    /// Moves the rows of chunks, the last first, to the chunks that they are spread over.
    async fn spread(&self, view: &View, slot: HotSlot) -> Result<Step, PageError> {
        let mut step = Step::default();
        let Some(mut hot) = view.layout.hot.get(&slot).copied() else {
            return Ok(step);
        };
        while hot.boundary > 0 && step.write.bytes < self.config.limits.batch_bytes {
            let old = (hot.boundary - 1) as u16;
            let image = base_of(view.fetch(slot.page(old)).await?);
            hot.boundary -= 1;
            // Before the puts: the first chunk keeps its number.
            step.write.delete(slot.page(old).encode());
            step.put_chunks(slot, hot, &image, 0..image.len());
            step.pages += 1;
        }
        if hot.boundary == 0 {
            hot.bits = hot.next_bits;
            hot.boundary = 1 << hot.bits;
        } else {
            step.next = Some(Task::Spread(slot));
        }
        step.put_hot(&view.layout, slot, hot);
        Ok(step)
    }

    /// Has new rows of a table go deeper, as a compaction that found its pages too large would.
    #[cfg(test)]
    pub(super) fn deepen_soon(&self, table: TableId, namespace: i64, depth: u8) {
        let task = Task::Deepen(table, namespace, depth);
        locked(&self.rewriting).tasks.push_front(task);
    }

    /// Has pages that stayed behind follow.
    #[cfg(test)]
    pub(super) fn sweep_soon(&self, layout: &Layout, table: TableId, namespace: i64) {
        let depths = layout.depths_of(table, namespace).expect("it has rows");
        locked(&self.rewriting).sweep(layout, table, namespace, depths.min);
    }
}

/// The first page that a table can have at a depth.
fn first_page(layout: &Layout, table: TableId, namespace: i64, depth: u8) -> PageKey {
    let first = KeyGroup(layout.scope.range.start as u16);
    PageKey::first(first, table, namespace, depth)
}

/// New rows go to `max` from now on; pages stay where they are until they are swept, which is next.
fn deepen(layout: &Layout, table: TableId, namespace: i64, max: u8) -> Step {
    let mut step = Step::default();
    if let Some(Depths { min, max: present }) = layout.depths_of(table, namespace)
        && min == present
        && max > present
    {
        step.put_depths(
            layout,
            DepthRecord {
                table,
                namespace,
                min,
                max,
            },
        );
        step.next = Some(Task::Sweep(first_page(layout, table, namespace, min)));
    }
    step
}

fn widen(layout: &Layout, slot: HotSlot, next_bits: u8) -> Step {
    let mut step = Step::default();
    if let Some(hot) = layout.hot.get(&slot).copied()
        && !hot.is_moving()
        && next_bits > hot.bits
    {
        let boundary = 1 << hot.bits;
        step.put_hot(
            layout,
            slot,
            HotKey {
                next_bits,
                boundary,
                ..hot
            },
        );
        step.next = Some(Task::Spread(slot));
    }
    step
}

/// A parent and its children become children that hold all of it.
fn split(
    layout: &Layout,
    parent: PageKey,
    depth: u8,
    images: Vec<(PageKey, Run)>,
    step: &mut Step,
) {
    for (page, _) in &images {
        step.write.delete(page.encode());
    }
    let images: Vec<Run> = images.into_iter().map(|(_, image)| image).collect();
    let rows = base(&images);
    let (key_group, table, namespace) = (parent.key_group, parent.table, parent.namespace);
    slice(
        layout,
        table,
        key_group,
        namespace,
        depth,
        &rows,
        |page, rows| {
            step.write.put(page.encode(), rows.finish_base());
        },
    );
    step.pages += 1;
}

/// Images of which nothing lies below, as one, without delete marks.
fn base(images: &[Run]) -> Run {
    Run::open(merge(images, true)).expect("merge writes runs")
}

fn base_of(image: Run) -> Run {
    base(std::slice::from_ref(&image))
}
