//! What the tests of the page store share: a process that can be killed (its requests stop
//! reaching the store), small pages, and a model of a shard.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, memory::InMemory, path::Path,
};
use proto::types::{Epoch, KeyGroup, KeyGroupCount, KeyGroupRange, TableId};
use state_client::{
    Block, KeyRequest,
    page::{RowRef, RunBuilder},
};
use tokio::runtime::Handle;

use super::{
    FlushBatch, KeptPages, Opened, PageCache, PageError, PageLimits, PageRow, PageScan, PageStore,
    PageStoreConfig, view::View,
};

/// The object store as one process reaches it.
#[derive(Debug, Clone)]
pub(super) struct Link {
    store: Arc<InMemory>,
    /// Requests that change something and still get through.
    writes_left: Arc<AtomicI64>,
    /// Whether the one that fails gets through, its answer lost.
    pub(super) lose_answer: bool,
    pub(super) writes: Arc<AtomicU64>,
}

impl Link {
    pub(super) fn new(store: &Arc<InMemory>) -> Self {
        Link {
            store: store.clone(),
            writes_left: Arc::new(AtomicI64::new(i64::MAX)),
            lose_answer: false,
            writes: Arc::default(),
        }
    }

    /// After `writes` more writes nothing gets through.
    pub(super) fn cut_after(&self, writes: i64) {
        self.writes_left.store(writes, Ordering::SeqCst);
    }

    fn cut() -> object_store::Error {
        object_store::Error::Generic {
            store: "link",
            source: "cut".into(),
        }
    }

    fn read(&self) -> Result<()> {
        match self.writes_left.load(Ordering::SeqCst) > 0 {
            true => Ok(()),
            false => Err(Link::cut()),
        }
    }

    /// Whether a write gets through, and whether its answer does.
    fn write(&self) -> (bool, bool) {
        let left = self.writes_left.fetch_sub(1, Ordering::SeqCst);
        self.writes.fetch_add(1, Ordering::SeqCst);
        (left > 0 || (left == 0 && self.lose_answer), left > 0)
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "link to {}", self.store)
    }
}

#[async_trait]
impl ObjectStore for Link {
    async fn put_opts(
        &self,
        at: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let (through, answered) = self.write();
        if !through {
            return Err(Link::cut());
        }
        let result = self.store.put_opts(at, payload, opts).await;
        if answered { result } else { Err(Link::cut()) }
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.read()?;
        self.store.put_multipart_opts(at, opts).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.read()?;
        // As over a network, others come between.
        tokio::task::yield_now().await;
        self.store.get_opts(at, options).await
    }

    async fn get_ranges(&self, at: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.read()?;
        tokio::task::yield_now().await;
        self.store.get_ranges(at, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let link = self.clone();
        let locations = locations.map(move |at| match link.write() {
            (_, true) => at,
            _ => Err(Link::cut()),
        });
        self.store.delete_stream(locations.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.read() {
            Ok(()) => self.store.list(prefix),
            Err(error) => futures::stream::iter([Err(error)]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.read()?;
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.read()?;
        self.store.copy_opts(from, to, options).await
    }
}

/// Four key groups.
pub(super) fn key_groups() -> KeyGroupCount {
    KeyGroupCount::new(4).expect("a power of two")
}

/// Pages of 512 bytes and everything else small, so that a few rows reach every path.
pub(super) fn limits() -> PageLimits {
    PageLimits {
        deadline: Duration::from_secs(10),
        compaction_deadline: Duration::from_secs(10),
        store_retries_max: 1,
        l0_files_max: 3,
        compaction_poll: Duration::from_millis(1),
        batch_bytes: 2048,
        page_bytes_max: 512,
        fetches_max: 4,
        file_bytes_max: 256 << 20,
        rewritten_bytes_max: 8192,
        garbage_age: Duration::from_secs(60),
        conditional_overwrite: true,
    }
}

pub(super) fn config(store: Arc<dyn ObjectStore>, path: &str, seed: u64) -> PageStoreConfig {
    PageStoreConfig {
        path: path.to_string(),
        store,
        key_groups: key_groups(),
        range: key_groups().range(0, 1),
        block_cache: None,
        page_cache: Some(PageCache::new(1 << 20)),
        seed,
        clock: None,
        runtime: Handle::current(),
        limits: limits(),
    }
}

pub(super) async fn open(config: &PageStoreConfig) -> (PageStore, Opened) {
    let opened = PageStore::open(config.clone(), |_| async { Ok(()) }).await;
    opened.expect("the shard opens")
}

/// What a shard should have: rows by (table, key group, namespace, hash, identity).
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub(super) struct Model {
    pub(super) rows: BTreeMap<ModelKey, (u64, Option<Bytes>)>,
    pub(super) marks: BTreeMap<(TableId, KeyGroup), i64>,
}

pub(super) type ModelKey = (TableId, KeyGroup, i64, u64, Bytes);

impl Model {
    /// Applies a flush.
    pub(super) fn apply(&mut self, changes: &Model) {
        self.rows.extend(changes.rows.clone());
        for (of, open_from) in &changes.marks {
            let mark = self.marks.entry(*of).or_insert(i64::MIN);
            *mark = (*mark).max(*open_from);
        }
        let marks = &self.marks;
        self.rows.retain(|key, _| {
            let mark = marks.get(&(key.0, key.1));
            mark.is_none_or(|open_from| key.2 >= *open_from)
        });
    }

    pub(super) fn set(
        &mut self,
        at: (u32, i64, u64),
        identity: &[u8],
        epoch: u64,
        value: Option<&[u8]>,
    ) {
        let (table, namespace, hash) = at;
        let identity = Bytes::copy_from_slice(identity);
        let key_group = key_groups().of_hash(hash);
        let key = (TableId(table), key_group, namespace, hash, identity);
        self.rows
            .insert(key, (epoch, value.map(Bytes::copy_from_slice)));
    }

    pub(super) fn batch(&self, epoch: u64) -> FlushBatch {
        let mut runs: BTreeMap<(KeyGroup, TableId, i64), RunBuilder> = BTreeMap::new();
        for ((table, key_group, namespace, hash, identity), (epoch, value)) in &self.rows {
            let run = runs.entry((*key_group, *table, *namespace)).or_default();
            run.push(RowRef {
                hash: *hash,
                identity,
                epoch: *epoch,
                value: value.as_deref(),
            });
        }
        let block = |((key_group, table, namespace), run): ((_, _, _), RunBuilder)| Block {
            table,
            key_group,
            namespace,
            run: run.finish(),
        };
        let marks = self
            .marks
            .iter()
            .map(|((table, group), mark)| (*table, *group, *mark));
        FlushBatch {
            epoch: Epoch(epoch),
            blocks: runs.into_iter().map(block).collect(),
            low_water_marks: marks.collect(),
        }
    }

    /// Rows that are not deleted, of one table and key group.
    pub(super) fn live(&self, table: TableId, key_group: KeyGroup) -> Vec<PageRow> {
        let rows = self
            .rows
            .iter()
            .filter(|(key, row)| key.0 == table && key.1 == key_group && row.1.is_some());
        rows.map(
            |((_, _, namespace, hash, identity), (epoch, value))| PageRow {
                namespace: *namespace,
                hash: *hash,
                identity: identity.clone(),
                epoch: Epoch(*epoch),
                value: value.clone(),
            },
        )
        .collect()
    }
}

/// What reads of a test see.
#[derive(Clone, Copy)]
pub(super) enum Seen<'a> {
    /// The newest.
    Newest(&'a PageStore),
    /// What was there when a view was taken.
    View {
        store: &'a PageStore,
        view: &'a View,
        /// What was closed since the view was taken may be gone from it: nobody asks for it any more.
        marks: &'a BTreeMap<(TableId, KeyGroup), i64>,
    },
    /// A checkpoint.
    Kept(&'a KeptPages),
}

impl<'a> From<&'a PageStore> for Seen<'a> {
    fn from(store: &'a PageStore) -> Self {
        Seen::Newest(store)
    }
}

impl Seen<'_> {
    pub(super) async fn read(
        &self,
        requests: &[KeyRequest],
    ) -> Result<Vec<Vec<PageRow>>, PageError> {
        match self {
            Seen::Newest(store) => store.read(requests).await,
            Seen::View { store, view, .. } => store.shared.read_at(view, requests).await,
            Seen::Kept(pages) => pages.read(requests).await,
        }
    }

    async fn scan(
        &self,
        table: TableId,
        key_group: KeyGroup,
        cursor: Option<Bytes>,
        bytes_max: usize,
    ) -> Result<PageScan, PageError> {
        match self {
            Seen::Newest(store) => store.scan(table, key_group, None, cursor, bytes_max).await,
            Seen::Kept(pages) => pages.scan(table, key_group, None, cursor, bytes_max).await,
            Seen::View { view, marks, .. } => {
                let of = (table, key_group, None);
                let mut scan = view.scan(of, cursor, bytes_max).await?;
                let mark = marks.get(&(table, key_group));
                scan.rows.retain(|row| mark <= Some(&row.namespace));
                Ok(scan)
            }
        }
    }
}

/// Every row of a table in a key group, by scans of about `bytes_max` bytes.
pub(super) async fn scan_all(
    seen: impl Into<Seen<'_>>,
    table: TableId,
    key_group: KeyGroup,
    bytes_max: usize,
) -> Vec<PageRow> {
    let seen = seen.into();
    let mut rows = Vec::new();
    let mut cursor = None;
    loop {
        let scan = seen.scan(table, key_group, cursor, bytes_max).await;
        let scan = scan.expect("the shard can be scanned");
        rows.extend(scan.rows);
        cursor = scan.cursor;
        if cursor.is_none() {
            return rows;
        }
    }
}

/// Asserts that a store has exactly the model's rows, and scans them in order.
pub(super) async fn assert_same(
    seen: impl Into<Seen<'_>>,
    model: &Model,
    bytes_max: usize,
    tables: u32,
) {
    let seen = seen.into();
    let range: KeyGroupRange = key_groups().range(0, 1);
    for table in (0..tables).map(TableId) {
        for key_group in range.iter() {
            let mut rows = scan_all(seen, table, key_group, bytes_max).await;
            let order = |row: &PageRow| (row.namespace, row.hash, row.identity.clone());
            assert!(rows.is_sorted_by(|a, b| order(a) < order(b)), "scan order");
            for row in rows.iter().filter(|row| row.value.is_none()) {
                let key = (
                    table,
                    key_group,
                    row.namespace,
                    row.hash,
                    row.identity.clone(),
                );
                let expected = model.rows.get(&key);
                assert_eq!(
                    expected,
                    Some(&(row.epoch.0, None)),
                    "delete mark of {key:?}"
                );
            }
            rows.retain(|row| row.value.is_some());
            let expected = model.live(table, key_group);
            assert_eq!(rows, expected, "table {table:?} key group {key_group:?}");
        }
    }
}

/// Maintains until there is nothing more to do.
pub(super) async fn maintain_all(store: &PageStore) {
    for _ in 0..10_000 {
        if !store.maintain(Vec::new()).await.expect("maintenance works") {
            return;
        }
    }
    panic!("maintenance never ends");
}
