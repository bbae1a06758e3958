//! A shard, its object store, and what it should have.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::{ObjectStore as _, memory::InMemory};
use proto::types::{Epoch, TableId};
use slatedb::config::ScanOptions;
use state_client::{KeyRequest, page::Run};

use crate::pages::{
    PageStore, PageStoreConfig,
    kv::PageKey,
    testing::{Link, Model, assert_same, config, maintain_all, open},
};

pub(super) const TABLE: TableId = TableId(0);

/// A shard, its object store, and what it should have.
pub(super) struct Shard {
    pub(super) bucket: Arc<InMemory>,
    pub(super) link: Link,
    pub(super) config: PageStoreConfig,
    pub(super) store: PageStore,
    pub(super) model: Model,
}

impl Shard {
    pub(super) async fn new() -> Shard {
        let bucket = Arc::new(InMemory::new());
        let link = Link::new(&bucket);
        let config = config(Arc::new(link.clone()), "job/0", 1);
        let (store, opened) = open(&config).await;
        assert_eq!(opened.durable, Epoch::ZERO);
        let model = Model::default();
        Shard {
            bucket,
            link,
            config,
            store,
            model,
        }
    }

    pub(super) async fn flush(&mut self, epoch: u64, changes: &Model) {
        let flushed = self.store.flush(changes.batch(epoch)).await;
        flushed.expect("flushing works");
        self.model.apply(changes);
    }

    /// The process dies and another one opens the shard.
    pub(super) async fn crash(&mut self) -> Epoch {
        self.link.cut_after(0);
        self.link = Link::new(&self.bucket);
        self.config.store = Arc::new(self.link.clone());
        let (store, opened) = open(&self.config).await;
        self.store = store;
        opened.durable
    }

    pub(super) async fn check(&self) {
        assert_same(&self.store, &self.model, 2000, 2).await;
    }

    /// Live value of the row with an empty identity.
    pub(super) async fn get(&self, hash: u64) -> Option<Bytes> {
        let request = KeyRequest {
            table: TABLE,
            namespace: 0,
            hash,
            sub: None,
        };
        let mut rows = self.store.read(&[request]).await.expect("reading works");
        rows.remove(0).pop().and_then(|row| row.value)
    }

    /// New rows go deeper; pages stay where they are until they are swept.
    pub(super) async fn deepen(&self) {
        let layout = self.store.shared.layout().await;
        let depths = layout.depths_of(TABLE, 0).expect("it has rows");
        self.store.shared.deepen_soon(TABLE, 0, depths.max + 2);
        self.store
            .shared
            .rewrite_step()
            .await
            .expect("writing works");
    }

    /// Moves all pages to where new rows go.
    pub(super) async fn sweep(&self) {
        let layout = self.store.shared.layout().await;
        self.store.shared.sweep_soon(&layout, TABLE, 0);
        maintain_all(&self.store).await;
        let layout = self.store.shared.layout().await;
        let depths = layout.depths_of(TABLE, 0).expect("it has rows");
        assert_eq!(depths.min, depths.max);
    }

    /// What the snapshot has, page by page.
    pub(super) async fn pages(&self) -> Vec<(PageKey, Run)> {
        let view = self.store.shared.view().await.expect("readable");
        let mut pages = view
            .rows
            .scan(vec![0]..=vec![0x80], &ScanOptions::default())
            .await
            .expect("scan");
        let mut found = Vec::new();
        while let Some(pair) = pages.next().await.expect("next") {
            let page = PageKey::decode(&pair.key).expect("a page");
            found.push((page, Run::open(pair.value).expect("a run")));
        }
        found
    }

    pub(super) async fn files(&self) -> usize {
        let list = self.bucket.list(None).try_collect::<Vec<_>>().await;
        list.expect("listing works").len()
    }
}

pub(super) fn hash(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// One row for each of some keys.
pub(super) fn rows(numbers: std::ops::Range<u64>, epoch: u64, value: Option<&[u8]>) -> Model {
    let mut changes = Model::default();
    for number in numbers {
        changes.set((TABLE.0, 0, hash(number)), b"", epoch, value);
    }
    changes
}
