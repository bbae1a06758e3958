//! The page store of a shard: what its operations share. Writers go one at a time; readers take a
//! layout and a snapshot at one point (the gate) and then go on without anyone.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc, Mutex as StdMutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use proto::types::Epoch;
use slatedb::{Db, WriteBatch, config::CloseOptions};
use state_client::page::{Run, RunBuilder};
use tokio::sync::{Mutex, RwLock, watch};

use super::{
    cache::{PageKeyBytes, ShardCache},
    config::PageStoreConfig,
    error::PageError,
    layout::Layout,
    rewrite::Rewriting,
    view::{RowsAt, View},
};

/// The committed rows of one shard. Cheap to clone; all clones are one store.
#[derive(Clone)]
pub struct PageStore {
    pub(super) shared: Arc<Shared>,
}

/// What a page store has and did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PageStats {
    /// Every epoch up to it is in the shard.
    pub durable: Epoch,
    /// Flushed files that await compaction.
    pub l0_files: usize,
    /// Sorted runs.
    pub sorted_runs: usize,
    /// Bytes of all files that reads may look into.
    pub file_bytes: u64,
    /// Flushes since the open.
    pub flushes: u64,
    /// Bytes of rows flushed since the open.
    pub flushed_bytes: u64,
    /// Compactions since the open.
    pub compactions: u64,
    /// Pages rewritten since the open.
    pub rewritten_pages: u64,
    /// Pages that reads fetched since the open.
    pub fetched_pages: u64,
    /// Pages that reads found in the page cache since the open.
    pub cached_pages: u64,
}

pub(super) struct Shared {
    pub(super) config: PageStoreConfig,
    /// Of all randomness of this opening.
    opening_seed: u64,
    pub(super) db: Db,
    /// Held by writers while they change rows and layout together, by readers only to take both.
    gate: RwLock<Published>,
    /// One writer at a time: a flush or a step of rewriting.
    pub(super) writer: Mutex<Writer>,
    /// One maintenance at a time.
    pub(super) maintenance: Mutex<()>,
    /// As of the last completed flush: what compactions may rely on.
    durable: StdMutex<Arc<Layout>>,
    views: Arc<Views>,
    pub(super) rewriting: StdMutex<Rewriting>,
    pub(super) cache: Option<ShardCache>,
    pub(super) absent: Run,
    /// Why nothing can be written any more.
    broken: watch::Sender<Option<PageError>>,
    unreadable: AtomicBool,
    pub(super) counters: Counters,
}

struct Published {
    layout: Arc<Layout>,
    /// Counts writes.
    version: u64,
}

pub(super) struct Writer {
    /// Rewritten bytes that no flush has taken along yet.
    pub(super) rewritten_bytes: usize,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) durable: AtomicU64,
    pub(super) flushes: AtomicU64,
    pub(super) flushed_bytes: AtomicU64,
    pub(super) compactions: AtomicU64,
    pub(super) rewritten_pages: AtomicU64,
    pub(super) fetched_pages: AtomicU64,
    pub(super) cached_pages: AtomicU64,
    pub(super) seeds: AtomicU64,
}

/// The layouts of all views.
#[derive(Default)]
struct Views {
    held: StdMutex<BTreeMap<u64, Arc<Layout>>>,
    next: AtomicU64,
}

/// A view's place among them, until it is dropped.
pub(super) struct Hold {
    views: Arc<Views>,
    number: u64,
}

impl Views {
    fn hold(self: &Arc<Self>, layout: &Arc<Layout>) -> Hold {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        locked(&self.held).insert(number, layout.clone());
        let views = self.clone();
        Hold { views, number }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        locked(&self.views.held).remove(&self.number);
    }
}

/// A write batch and the pages it touches.
#[derive(Default)]
pub(super) struct PendingWrite {
    pub(super) batch: WriteBatch,
    pub(super) touched: Vec<PageKeyBytes>,
    pub(super) bytes: usize,
}

impl PendingWrite {
    pub(super) fn merge(&mut self, key: PageKeyBytes, operand: &Bytes) {
        self.bytes += operand.len();
        self.batch.merge(key, operand);
        self.touched.push(key);
    }

    pub(super) fn put(&mut self, key: PageKeyBytes, image: Bytes) {
        self.bytes += image.len();
        self.batch.put_bytes(Bytes::copy_from_slice(&key), image);
        self.touched.push(key);
    }

    pub(super) fn delete(&mut self, key: PageKeyBytes) {
        self.batch.delete(key);
        self.touched.push(key);
    }
}

impl Shared {
    pub(super) fn new(
        config: PageStoreConfig,
        opening_seed: u64,
        db: Db,
        layout: Layout,
        durable: Epoch,
    ) -> Self {
        let layout = Arc::new(layout);
        let cache = config.page_cache.as_ref().map(|cache| cache.scope());
        let absent = RunBuilder::default().finish();
        let shared = Shared {
            config,
            opening_seed,
            db,
            gate: RwLock::new(Published {
                layout: layout.clone(),
                version: 0,
            }),
            writer: Mutex::new(Writer { rewritten_bytes: 0 }),
            maintenance: Mutex::new(()),
            rewriting: StdMutex::new(Rewriting::resumed(&layout)),
            durable: StdMutex::new(layout),
            views: Arc::default(),
            cache,
            absent: Run::open(absent).expect("the builder writes runs"),
            broken: watch::channel(None).0,
            unreadable: AtomicBool::new(false),
            counters: Counters::default(),
        };
        shared.counters.durable.store(durable.0, Ordering::Relaxed);
        shared
    }

    /// A seed for the next thing that wants one. SlateDB draws the ids of files and checkpoints
    /// from it: two things, or two openings, with one seed would make the same ids.
    pub(super) fn seed(&self) -> u64 {
        let number = self.counters.seeds.fetch_add(1, Ordering::Relaxed);
        mixed(self.opening_seed, number + 1)
    }

    pub(super) async fn layout(&self) -> Arc<Layout> {
        self.gate.read().await.layout.clone()
    }

    pub(super) fn durable_layout(&self) -> Arc<Layout> {
        locked(&self.durable).clone()
    }

    pub(super) fn set_durable_layout(&self, layout: Arc<Layout>) {
        *locked(&self.durable) = layout;
    }

    /// Rows and layout of this point.
    pub(super) async fn view(&self) -> Result<View, PageError> {
        let published = self.gate.read().await;
        if self.unreadable.load(Ordering::Relaxed) {
            self.check_writable()?;
        }
        let snapshot = self.db.snapshot().map_err(|error| self.no_view(error))?;
        // Still behind the gate: a compaction sees either the view or no later layout than it.
        let hold = self.views.hold(&published.layout);
        Ok(View {
            layout: published.layout.clone(),
            rows: RowsAt::Snapshot(snapshot),
            absent: self.absent.clone(),
            version: published.version,
            _hold: Some(hold),
        })
    }

    /// Why the database gives no view. One that has closed itself, since something that it does in the
    /// background failed, goes on telling of that failure however well the object store is by now.
    fn no_view(&self, error: slatedb::Error) -> PageError {
        let why = PageError::of("reading")(error);
        match (self.db.status().close_reason, why) {
            (Some(_), PageError::Unavailable { why, .. }) => {
                self.set_broken(PageError::Reopen(format!("the database was closed: {why}")))
            }
            (_, why) => why,
        }
    }

    /// The layouts that readers work with at the moment.
    pub(super) fn viewed_layouts(&self) -> Vec<Arc<Layout>> {
        let held = locked(&self.views.held);
        let mut layouts: Vec<Arc<Layout>> = held.values().cloned().collect();
        drop(held);
        layouts.sort_unstable_by_key(Arc::as_ptr);
        layouts.dedup_by(|one, other| Arc::ptr_eq(one, other));
        layouts
    }

    /// Whether nothing was written since.
    pub(super) async fn is_latest(&self, view: &View) -> bool {
        self.gate.read().await.version == view.version
    }

    /// Keeps images that were read from the view, unless a write came between.
    pub(super) async fn keep_images(&self, view: &View, images: Vec<(PageKeyBytes, Run)>) {
        let Some(cache) = &self.cache else {
            return;
        };
        // The gate is held so that no write can come between the question and the answer.
        let published = self.gate.read().await;
        if published.version == view.version {
            for (key, image) in images {
                cache.insert(key, image.copied()).await;
            }
        }
    }

    /// Writes a batch and, with it, makes a layout known.
    pub(super) async fn commit(
        &self,
        write: PendingWrite,
        layout: Option<&Arc<Layout>>,
    ) -> Result<(), PageError> {
        // Held while the rows go into memory, so that readers see rows and layout change at once.
        let mut published = self.gate.write().await;
        if !write.batch.is_empty() {
            let written = within(self.config.limits.deadline, "writing", async {
                let written = self.db.write(write.batch).await;
                written.map_err(PageError::of("writing"))
            });
            if let Err(error) = written.await {
                // Whether the batch is in is unknown, so is whether the layout fits.
                self.unreadable.store(true, Ordering::Relaxed);
                return Err(self.set_broken(error));
            }
        }
        published.version += 1;
        if let Some(layout) = layout {
            published.layout = layout.clone();
        }
        if let Some(cache) = &self.cache {
            for key in &write.touched {
                cache.invalidate(key).await;
            }
        }
        Ok(())
    }

    /// Nothing can be written any more; the first reason stays.
    pub(super) fn set_broken(&self, error: PageError) -> PageError {
        self.broken.send_if_modified(|broken| {
            let first = broken.is_none();
            broken.get_or_insert_with(|| error.clone());
            first
        });
        error
    }

    /// Waits until nothing can be written any more: why.
    pub(super) async fn broken(&self) -> PageError {
        let mut broken = self.broken.subscribe();
        // The sender is ours.
        drop(broken.wait_for(Option::is_some).await);
        let why = self.check_writable().err();
        why.unwrap_or_else(|| PageError::Reopen("the store was closed".to_owned()))
    }

    pub(super) fn check_writable(&self) -> Result<(), PageError> {
        match &*self.broken.borrow() {
            None => Ok(()),
            Some(PageError::Fenced) => Err(PageError::Fenced),
            Some(error) => Err(PageError::Reopen(error.to_string())),
        }
    }
}

/// A seed that depends on both in every bit.
pub(super) fn mixed(seed: u64, number: u64) -> u64 {
    let mut mixed = seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The guard of a lock; a panic while it is held leaves the data whole.
pub(super) fn locked<T>(mutex: &StdMutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Awaits no longer than the deadline.
pub(super) async fn within<T>(
    deadline: Duration,
    doing: &'static str,
    work: impl Future<Output = Result<T, PageError>>,
) -> Result<T, PageError> {
    match tokio::time::timeout(deadline, work).await {
        Ok(result) => result,
        Err(_) => Err(PageError::deadline(doing)),
    }
}

impl PageStore {
    /// Runs work to its end even if the caller goes away, on the store's runtime.
    pub(super) async fn detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, PageError>> + Send + 'static,
    ) -> Result<T, PageError> {
        match self.shared.config.runtime.spawn(work).await {
            Ok(result) => result,
            Err(error) => Err(self.shared.set_broken(PageError::Reopen(error.to_string()))),
        }
    }

    /// What the store has and did.
    #[must_use]
    pub fn stats(&self) -> PageStats {
        let manifest = self.shared.db.manifest();
        let runs = manifest.compacted();
        let counters = &self.shared.counters;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PageStats {
            durable: Epoch(count(&counters.durable)),
            l0_files: manifest.l0().len(),
            sorted_runs: runs.len(),
            file_bytes: manifest
                .l0()
                .iter()
                .map(|file| file.estimate_size())
                .sum::<u64>()
                + runs.iter().map(|run| run.estimate_size()).sum::<u64>(),
            flushes: count(&counters.flushes),
            flushed_bytes: count(&counters.flushed_bytes),
            compactions: count(&counters.compactions),
            rewritten_pages: count(&counters.rewritten_pages),
            fetched_pages: count(&counters.fetched_pages),
            cached_pages: count(&counters.cached_pages),
        }
    }

    /// Closes the store. Flushes nothing: what is not in a completed flush comes back from the
    /// epoch log.
    ///
    /// # Errors
    /// When closing takes longer than the deadline, beside that of maintenance; the store is unusable all the same.
    pub async fn close(&self) -> Result<(), PageError> {
        let shared = self.shared.clone();
        self.detached(async move {
            let closed = PageError::Reopen("the store was closed".to_string());
            shared.set_broken(closed);
            // It ends now. What went on would write files that nobody expects any more.
            drop(shared.maintenance.lock().await);
            let options = CloseOptions::default().with_flush_type(None);
            within(shared.config.limits.deadline, "closing", async {
                let closed = shared.db.close_with_options(options).await;
                closed.map_err(PageError::of("closing"))
            })
            .await
        })
        .await
    }
}
