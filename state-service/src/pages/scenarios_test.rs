//! Interleavings that once lost or doubled rows on paper, each as a script.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::{ObjectStore as _, memory::InMemory};
use proto::types::{Epoch, KeyGroup, TableId};
use state_client::{KeyRequest, page::Run};

use crate::testing::{Fault, FaultStore, Request, RequestKind};

use super::{
    PageError, PageStore, PageStoreConfig,
    kv::{LowWaterMarkRecord, PageKey},
    layout::Layout,
    store::PendingWrite,
    testing::{Link, Model, assert_same, config, key_groups, limits, maintain_all, open},
};

const TABLE: TableId = TableId(0);

/// A shard, its object store, and what it should have.
struct Shard {
    bucket: Arc<InMemory>,
    link: Link,
    config: PageStoreConfig,
    store: PageStore,
    model: Model,
}

impl Shard {
    async fn new() -> Shard {
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

    async fn flush(&mut self, epoch: u64, changes: &Model) {
        let flushed = self.store.flush(changes.batch(epoch)).await;
        flushed.expect("flushing works");
        self.model.apply(changes);
    }

    /// The process dies and another one opens the shard.
    async fn crash(&mut self) -> Epoch {
        self.link.cut_after(0);
        self.link = Link::new(&self.bucket);
        self.config.store = Arc::new(self.link.clone());
        let (store, opened) = open(&self.config).await;
        self.store = store;
        opened.durable
    }

    async fn check(&self) {
        assert_same(&self.store, &self.model, 2000, 2).await;
    }

    /// Live value of the row with an empty identity.
    async fn get(&self, hash: u64) -> Option<Bytes> {
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
    async fn deepen(&self) {
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
    async fn sweep(&self) {
        let layout = self.store.shared.layout().await;
        self.store.shared.sweep_soon(&layout, TABLE, 0);
        maintain_all(&self.store).await;
        let layout = self.store.shared.layout().await;
        let depths = layout.depths_of(TABLE, 0).expect("it has rows");
        assert_eq!(depths.min, depths.max);
    }

    /// What the snapshot has, page by page.
    async fn pages(&self) -> Vec<(PageKey, Run)> {
        let view = self.store.shared.view().await.expect("readable");
        let mut pages = view.snapshot.scan(vec![0]..vec![0x80]).await.expect("scan");
        let mut found = Vec::new();
        while let Some(pair) = pages.next().await.expect("next") {
            let page = PageKey::decode(&pair.key).expect("a page");
            found.push((page, Run::open(pair.value).expect("a run")));
        }
        found
    }

    async fn files(&self) -> usize {
        let list = self.bucket.list(None).try_collect::<Vec<_>>().await;
        list.expect("listing works").len()
    }
}

fn hash(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// One row for each of some keys.
fn rows(numbers: std::ops::Range<u64>, epoch: u64, value: Option<&[u8]>) -> Model {
    let mut changes = Model::default();
    for number in numbers {
        changes.set((TABLE.0, 0, hash(number)), b"", epoch, value);
    }
    changes
}

#[tokio::test]
async fn s09_an_opener_that_dies_at_any_point_does_not_lock_the_shard() {
    let mut shard = Shard::new().await;
    shard.flush(1, &rows(0..20, 1, Some(b"v"))).await;
    for writes in 1..6 {
        let link = Link::new(&shard.bucket);
        link.cut_after(writes);
        let mut dying = config(Arc::new(link), "job/0", writes as u64);
        dying.limits.deadline = Duration::from_millis(300);
        drop(PageStore::open(dying, |_| async { Ok(()) }).await);
        assert_eq!(shard.crash().await, Epoch(1));
        shard.check().await;
    }
}

#[tokio::test]
async fn s10_a_crash_at_any_write_of_a_flush_leaves_all_or_nothing() {
    for lose_answer in [false, true] {
        for writes in 0..5 {
            let mut shard = Shard::new().await;
            shard.flush(1, &rows(0..100, 1, Some(b"old"))).await;
            // Rewriting has used up sequence numbers that no flush has made durable.
            shard.deepen().await;
            shard.sweep().await;
            shard.link.lose_answer = lose_answer;
            shard.link.cut_after(writes);
            let changes = rows(50..150, 2, Some(b"new"));
            let flush = shard.store.flush(changes.batch(2));
            drop(tokio::time::timeout(Duration::from_millis(50), flush).await);
            let durable = shard.crash().await;
            if durable == Epoch(2) {
                shard.model.apply(&changes);
            } else {
                assert_eq!(durable, Epoch(1));
                shard.check().await;
                shard.flush(2, &changes).await;
            }
            shard.check().await;
        }
    }
}

#[tokio::test]
async fn s11_a_delete_mark_in_a_child_outlives_compactions_while_its_parent_is_there() {
    let mut shard = Shard::new().await;
    shard.flush(5, &rows(0..40, 5, Some(b"v"))).await;
    shard.store.compact().await.expect("compaction works");
    shard.deepen().await;
    shard.flush(10, &rows(0..10, 10, None)).await;
    // The lowest run there is, were it not for the parents.
    shard.store.compact().await.expect("compaction works");
    assert_eq!(shard.get(hash(3)).await, None);
    shard.check().await;
    shard.crash().await;
    shard.check().await;
    shard.sweep().await;
    shard.flush(11, &Model::default()).await;
    shard.store.compact().await.expect("compaction works");
    assert_eq!(shard.get(hash(3)).await, None);
    shard.check().await;
    // Once the parents are gone the marks go too.
    let pages = shard.pages().await;
    assert!(
        pages.iter().all(|(_, page)| page.has_only_values()),
        "{pages:?}"
    );
}

#[tokio::test]
async fn s12_rows_flushed_beside_a_sweep_are_not_shadowed() {
    let mut shard = Shard::new().await;
    shard.flush(1, &rows(0..400, 1, Some(b"old"))).await;
    shard.deepen().await;
    let layout = shard.store.shared.layout().await;
    shard.store.shared.sweep_soon(&layout, TABLE, 0);
    for epoch in 2..30 {
        let changes = rows(epoch * 13..epoch * 13 + 30, epoch, Some(b"new"));
        let flush = shard.store.flush(changes.batch(epoch));
        let (flushed, maintained) = tokio::join!(flush, shard.store.maintain(Vec::new()));
        flushed.expect("flushing works");
        maintained.expect("maintenance works");
        shard.model.apply(&changes);
        shard.check().await;
    }
}

#[tokio::test]
async fn s13_rows_at_a_new_depth_are_found_after_a_crash() {
    let mut shard = Shard::new().await;
    shard.flush(1, &rows(0..100, 1, Some(b"old"))).await;
    shard.deepen().await;
    shard.flush(2, &rows(50..150, 2, Some(b"new"))).await;
    assert_eq!(shard.crash().await, Epoch(2));
    shard.check().await;
    assert_eq!(shard.get(hash(120)).await.as_deref(), Some(&b"new"[..]));
}

#[tokio::test]
async fn s14_rewriting_takes_images_out_of_the_cache() {
    let mut shard = Shard::new().await;
    shard.flush(1, &rows(0..100, 1, Some(b"v"))).await;
    shard.deepen().await;
    // Both depths are asked: that there is no child yet is remembered.
    assert_eq!(shard.get(hash(7)).await.as_deref(), Some(&b"v"[..]));
    assert_eq!(shard.get(hash(7)).await.as_deref(), Some(&b"v"[..]));
    assert!(shard.store.stats().cached_pages > 0, "the cache works");
    shard.sweep().await;
    assert_eq!(shard.get(hash(7)).await.as_deref(), Some(&b"v"[..]));
}

#[tokio::test]
async fn s15_an_image_older_than_a_flush_is_not_kept() {
    let mut shard = Shard::new().await;
    shard.flush(1, &rows(0..1, 1, Some(b"old"))).await;
    let view = shard.store.shared.view().await.expect("readable");
    let mut page = None;
    view.layout
        .pages_of(TABLE, 0, hash(0), None, |found| page = Some(found));
    let page = page.expect("a page");
    let image = shard
        .store
        .shared
        .fetch(&view, page)
        .await
        .expect("readable");
    shard.flush(2, &rows(0..1, 2, Some(b"new"))).await;
    shard
        .store
        .shared
        .keep_images(&view, vec![(page.encode(), image)])
        .await;
    assert_eq!(shard.get(hash(0)).await.as_deref(), Some(&b"new"[..]));
}

#[tokio::test]
async fn s16_a_compaction_drops_only_what_a_completed_flush_has_closed() {
    let mut shard = Shard::new().await;
    let mut changes = Model::default();
    for number in 0..20 {
        changes.set((1, 7, hash(number)), b"", 1, Some(b"v"));
    }
    shard.flush(1, &changes).await;
    // A flush that closes the window has begun and not ended.
    let mut layout = Layout::clone(&*shard.store.shared.layout().await);
    let mut write = PendingWrite::default();
    for key_group in key_groups().range(0, 1).iter() {
        let (table, open_from) = (TableId(1), 8);
        let record = LowWaterMarkRecord {
            table,
            key_group,
            open_from,
        };
        layout.set_mark(&record);
        write.batch.put(record.key(), record.encode());
    }
    let layout = Arc::new(layout);
    let commit = shard.store.shared.commit(write, Some(&layout));
    commit.await.expect("writing works");
    shard.store.compact().await.expect("compaction works");
    assert_eq!(shard.crash().await, Epoch(1));
    shard.check().await;

    // Once it has ended the window goes, but not from the checkpoint before.
    let mut closing = rows(0..200, 2, Some(b"so much that all is compacted"));
    for key_group in key_groups().range(0, 1).iter() {
        closing.marks.insert((TableId(1), key_group), 8);
    }
    let before = shard.model.clone();
    shard.flush(2, &closing).await;
    shard.check().await;
    shard.store.compact().await.expect("compaction works");
    let pages = shard.pages().await;
    assert!(
        pages.iter().all(|(page, _)| page.table == TABLE),
        "closed pages are gone"
    );
    let clone = config(Arc::new(shard.link.clone()), "job/clone", 3);
    let cloned = PageStore::clone_from(&clone, "job/0", Epoch(1)).await;
    cloned.expect("cloning works");
    let (clone, opened) = open(&clone).await;
    assert_eq!(opened.durable, Epoch(1));
    assert_same(&clone, &before, 2000, 2).await;
}

#[tokio::test]
async fn s18_no_page_of_a_hot_key_grows_without_bound() {
    const ENTRIES: u64 = 3000;
    let mut shard = Shard::new().await;
    let entry = |number: u64| [&hash(number + 1).to_be_bytes()[..], b"rest"].concat();
    shard.flush(1, &rows(0..30, 1, Some(b"light"))).await;
    for part in 0..6 {
        let mut changes = Model::default();
        for number in part * ENTRIES / 6..(part + 1) * ENTRIES / 6 {
            let at = (TABLE.0, 0, hash(5));
            changes.set(at, &entry(number), 2 + part, Some(b"entry"));
        }
        shard.flush(2 + part, &changes).await;
        shard.store.compact().await.expect("compaction works");
        maintain_all(&shard.store).await;
        shard.check().await;
    }
    shard.flush(20, &Model::default()).await;
    shard.store.compact().await.expect("compaction works");
    maintain_all(&shard.store).await;
    let largest = shard
        .pages()
        .await
        .iter()
        .map(|(_, page)| page.encoded_len())
        .max();
    assert!(largest < Some(4 * limits().page_bytes_max), "{largest:?}");

    // Deleted through whatever chunk it is in now, an entry stays deleted.
    let mut changes = Model::default();
    for number in (0..ENTRIES).step_by(3) {
        changes.set((TABLE.0, 0, hash(5)), &entry(number), 21, None);
    }
    shard.flush(21, &changes).await;
    shard.check().await;
    shard.crash().await;
    shard.store.compact().await.expect("compaction works");
    shard.check().await;
    let request = KeyRequest {
        table: TABLE,
        namespace: 0,
        hash: hash(5),
        sub: Some(hash(2)),
    };
    let found = shard.store.read(&[request]).await.expect("reading works");
    assert_eq!(found[0].len(), 1, "one entry begins so");
    let fetched = shard.store.stats().fetched_pages;
    shard
        .store
        .read(&[KeyRequest {
            sub: Some(hash(3)),
            ..request
        }])
        .await
        .expect("reading works");
    assert!(
        shard.store.stats().fetched_pages <= fetched + 2,
        "only its chunk is read"
    );
}

#[tokio::test]
async fn s19_the_newest_epoch_of_a_row_wins_however_often_it_is_flushed() {
    let mut shard = Shard::new().await;
    let (one, two) = (rows(0..1, 1, Some(b"1")), rows(0..1, 2, Some(b"2")));
    shard.flush(1, &one).await;
    shard.flush(2, &two).await;
    // Replayed, the older one last.
    shard
        .store
        .flush(two.batch(2))
        .await
        .expect("flushing works");
    shard
        .store
        .flush(one.batch(3))
        .await
        .expect("flushing works");
    assert_eq!(shard.get(hash(0)).await.as_deref(), Some(&b"2"[..]));
    shard.store.compact().await.expect("compaction works");
    assert_eq!(shard.get(hash(0)).await.as_deref(), Some(&b"2"[..]));
}

#[tokio::test]
async fn a_second_writer_fences_the_first() {
    let mut shard = Shard::new().await;
    shard.flush(1, &rows(0..20, 1, Some(b"v"))).await;
    let (second, opened) = open(&shard.config).await;
    assert_eq!(opened.durable, Epoch(1));
    let changes = rows(0..20, 2, Some(b"zombie"));
    let error = shard
        .store
        .flush(changes.batch(2))
        .await
        .expect_err("fenced");
    assert!(matches!(error, PageError::Fenced), "{error}");
    let error = shard.store.maintain(Vec::new()).await.expect_err("fenced");
    assert!(matches!(error, PageError::Fenced), "{error}");
    assert_same(&second, &shard.model, 2000, 2).await;
}

#[tokio::test]
async fn who_does_not_own_the_shard_changes_nothing() {
    let shard = Shard::new().await;
    let link = Link::new(&shard.bucket);
    let stranger = config(Arc::new(link.clone()), "job/0", 2);
    let refused = PageStore::open(stranger, |_| async { Err("moved".to_string()) }).await;
    assert!(matches!(refused, Err(PageError::NotOwner(_))));
    assert_eq!(link.writes.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn ownership_is_asked_again_when_another_opener_came_between() {
    let shard = Shard::new().await;
    let asked = AtomicUsize::new(0);
    let opened = PageStore::open(shard.config.clone(), |_| async {
        if asked.fetch_add(1, Ordering::SeqCst) == 0 {
            open(&shard.config).await;
        }
        Ok(())
    });
    opened.await.expect("the owner opens in the end");
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn rows_of_others_are_refused_and_do_no_harm() {
    let mut shard = Shard::new().await;
    let mut half = shard.config.clone();
    half.path = "job/half".to_string();
    half.range = key_groups().range(0, 2);
    let (store, _) = open(&half).await;
    let batch = rows(0..20, 1, Some(b"v")).batch(1);
    let error = store.flush(batch).await.expect_err("not its key groups");
    assert!(matches!(error, PageError::Invalid(_)), "{error}");
    store
        .flush(Model::default().batch(1))
        .await
        .expect("it is as good as before");
    half.range = key_groups().range(1, 2);
    let error = PageStore::open(half, |_| async { Ok(()) }).await.err();
    assert!(matches!(error, Some(PageError::Invalid(_))), "{error:?}");

    let mut batch = rows(0..20, 1, Some(b"v")).batch(1);
    batch.blocks[0].key_group = KeyGroup(3);
    batch.blocks.truncate(1);
    let error = shard
        .store
        .flush(batch)
        .await
        .expect_err("hashes of another group");
    assert!(matches!(error, PageError::Invalid(_)), "{error}");
    shard.flush(1, &rows(0..20, 1, Some(b"v"))).await;
    shard.check().await;
}

#[tokio::test]
async fn a_dead_store_is_an_error_in_time() {
    let mut shard = Shard::new().await;
    shard.config.limits.deadline = Duration::from_millis(400);
    shard.config.page_cache = None;
    shard.crash().await;
    shard.flush(1, &rows(0..20, 1, Some(b"v"))).await;
    shard.link.cut_after(0);
    let started = tokio::time::Instant::now();
    let request = KeyRequest {
        table: TABLE,
        namespace: 0,
        hash: hash(1),
        sub: None,
    };
    let error = shard.store.read(&[request]).await.expect_err("cut off");
    assert!(matches!(error, PageError::Unavailable { .. }), "{error}");
    let error = shard
        .store
        .flush(rows(0..20, 2, None).batch(2))
        .await
        .expect_err("cut off");
    assert!(matches!(error, PageError::Unavailable { .. }), "{error}");
    let error = shard
        .store
        .flush(rows(0..20, 2, None).batch(2))
        .await
        .expect_err("broken");
    assert!(matches!(error, PageError::Reopen(_)), "{error}");
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(shard.crash().await, Epoch(1));
    shard.check().await;
}

#[tokio::test]
async fn closing_flushes_nothing() {
    let mut shard = Shard::new().await;
    shard.flush(1, &rows(0..100, 1, Some(b"v"))).await;
    shard.deepen().await;
    shard.store.close().await.expect("closing works");
    assert_eq!(shard.crash().await, Epoch(1));
    shard.check().await;
    let layout = shard.store.shared.layout().await;
    let depths = layout.depths_of(TABLE, 0).expect("it has rows");
    assert_eq!(depths.min, depths.max, "what was not flushed is gone");
}

#[tokio::test]
async fn closing_ends_a_compaction() {
    let mut shard = Shard::new().await;
    let faults = FaultStore::new(Arc::new(shard.link.clone()));
    shard.config.store = Arc::new(faults.clone());
    shard.config.limits.deadline = Duration::from_millis(400);
    // Nobody waits for that long.
    shard.config.limits.compaction_deadline = Duration::from_secs(600);
    (shard.store, _) = open(&shard.config).await;
    for epoch in 1..=3 {
        shard.flush(epoch, &rows(0..100, epoch, Some(b"v"))).await;
    }
    let files = Request {
        kind: RequestKind::Put,
        path: ".sst",
    };
    faults.reset_counts();
    faults.fail(files, 0, u64::MAX, Fault::Hang);
    let store = shard.store.clone();
    let maintained = tokio::spawn(async move { store.maintain(Vec::new()).await });
    while faults.count(files).0 == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let in_time = Duration::from_secs(5);
    let closed = tokio::time::timeout(in_time, shard.store.close()).await;
    closed.expect("in time").expect("closing works");
    let maintained = tokio::time::timeout(in_time, maintained).await;
    let maintained = maintained.expect("in time").expect("no panic");
    assert!(
        matches!(maintained, Err(PageError::Reopen(_))),
        "{maintained:?}"
    );
    faults.heal();
    assert_eq!(shard.crash().await, Epoch(3));
    shard.check().await;
}

#[tokio::test]
async fn a_flush_costs_two_writes_and_idleness_none() {
    let mut shard = Shard::new().await;
    shard.flush(1, &rows(0..500, 1, Some(b"v"))).await;
    let writes = shard.link.writes.load(Ordering::SeqCst);
    shard.flush(2, &rows(0..500, 2, Some(b"w"))).await;
    let flushed = shard.link.writes.load(Ordering::SeqCst);
    assert!(flushed - writes <= 2, "{} writes", flushed - writes);
    assert!(
        !shard
            .store
            .maintain(Vec::new())
            .await
            .expect("maintenance works")
    );
    assert_eq!(shard.link.writes.load(Ordering::SeqCst), flushed);
}

#[tokio::test]
async fn garbage_goes_and_pinned_checkpoints_stay() {
    let mut shard = Shard::new().await;
    shard.config.limits.garbage_age = Duration::from_millis(1);
    shard.crash().await;
    let mut first = Model::default();
    for epoch in 1..=12 {
        shard.flush(epoch, &rows(0..200, epoch, Some(b"v"))).await;
        while shard
            .store
            .maintain(vec![Epoch(1)])
            .await
            .expect("maintenance works")
        {}
        if epoch == 1 {
            first = shard.model.clone();
        }
    }
    let before = shard.files().await;
    // Until files are old enough; what is checked is that it comes to pass, not when.
    let mut files = before;
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        shard
            .store
            .collect_garbage(vec![Epoch(1)])
            .await
            .expect("collection works");
        files = shard.files().await;
        if files < 20 {
            break;
        }
    }
    assert!(
        files < 20 && files < before,
        "{files} of {before} files are left"
    );
    let kept = shard.store.checkpoints().await.expect("listing works");
    assert_eq!(kept, [1, 10, 11, 12].map(Epoch));
    shard.check().await;
    let clone = config(Arc::new(shard.link.clone()), "fork/0", 3);
    PageStore::clone_from(&clone, "job/0", Epoch(1))
        .await
        .expect("cloning works");
    assert_same(&open(&clone).await.0, &first, 2000, 2).await;

    PageStore::destroy(&clone).await.expect("deleting works");
    shard.store.close().await.expect("closing works");
    PageStore::destroy(&shard.config)
        .await
        .expect("deleting works");
    assert_eq!(shard.files().await, 0);
}

#[tokio::test]
async fn pages_split_as_a_table_grows() {
    let mut shard = Shard::new().await;
    for epoch in 1..12 {
        let changes = rows(
            epoch * 300..epoch * 300 + 300,
            epoch,
            Some(b"value of a row"),
        );
        shard.flush(epoch, &changes).await;
        maintain_all(&shard.store).await;
    }
    shard.store.compact().await.expect("compaction works");
    maintain_all(&shard.store).await;
    shard.check().await;
    let largest = shard
        .pages()
        .await
        .iter()
        .map(|(_, page)| page.encoded_len())
        .max();
    assert!(largest < Some(4 * limits().page_bytes_max), "{largest:?}");
    let depths = shard.store.shared.layout().await.depths_of(TABLE, 0);
    let depths = depths.expect("it has rows");
    assert!(depths.max > depths.min, "new rows go deeper");
    shard.sweep().await;
    shard.check().await;
    assert!(shard.store.stats().rewritten_pages > 0);
}

/// Compaction, reopening and cloning all make ids; with one seed for all they must still differ,
/// else a checkpoint is found under another's id.
#[tokio::test]
async fn ids_differ_between_openings_compactions_and_clones_of_one_seed() {
    let mut shard = Shard::new().await;
    let mut models = Vec::new();
    for epoch in 1..=6 {
        shard.flush(epoch, &rows(0..20, epoch, Some(b"v"))).await;
        models.push(shard.model.clone());
        shard.store.compact().await.expect("compaction works");
        assert_eq!(shard.crash().await, Epoch(epoch));
    }
    let admin = super::checkpoint::admin(&shard.config, 9);
    let found = admin.list_checkpoints(None).await.expect("listing works");
    let mut ids: Vec<_> = found.iter().map(|found| found.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), found.len(), "every checkpoint has its own id");
    assert!(found.len() >= 6);
    for (epoch, model) in (1..=6).zip(&models) {
        let mut clone = shard.config.clone();
        clone.path = format!("clone/{epoch}");
        let cloned = PageStore::clone_from(&clone, "job/0", Epoch(epoch)).await;
        cloned.expect("cloning works");
        let (store, opened) = open(&clone).await;
        assert_eq!(opened.durable, Epoch(epoch));
        assert_same(&store, model, 2000, 2).await;
    }
}

/// Readers go on while rows change, pages split and hot keys are spread: a row that is there is
/// found at every moment, and never older than the last flush that had ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_beside_writers_miss_nothing() {
    const ROWS: u64 = 120;
    let mut shard = Shard::new().await;
    shard.flush(1, &rows(0..ROWS, 1, Some(b"v"))).await;
    let ended = Arc::new(AtomicUsize::new(1));
    let reader = {
        let (store, ended) = (shard.store.clone(), ended.clone());
        tokio::spawn(async move {
            let mut number = 0;
            while ended.load(Ordering::SeqCst) < 40 {
                number = (number + 7) % ROWS;
                let newest = ended.load(Ordering::SeqCst) as u64;
                let request = KeyRequest {
                    table: TABLE,
                    namespace: 0,
                    hash: hash(number),
                    sub: None,
                };
                let rows = store.read(&[request]).await.expect("reading works");
                let row = rows[0].first().expect("the row is there");
                assert!(row.epoch >= Epoch(newest), "{row:?} after {newest}");
                let scan = store.scan(
                    TABLE,
                    key_groups().of_hash(hash(number)),
                    None,
                    None,
                    1 << 20,
                );
                let found = scan.await.expect("scanning works").rows;
                assert!(found.iter().any(|row| row.hash == hash(number)), "scanned");
            }
        })
    };
    for epoch in 2..=40_u64 {
        let mut changes = rows(0..ROWS, epoch, Some(b"v"));
        for (key, row) in rows(1000 + epoch * 50..1050 + epoch * 50, epoch, Some(b"w")).rows {
            changes.rows.insert(key, row);
        }
        for entry in 0..20 {
            let identity = hash(epoch * 100 + entry).to_be_bytes();
            changes.set(
                (TABLE.0, 0, hash(5000)),
                &identity,
                epoch,
                Some(b"entry of a hot key"),
            );
        }
        shard.flush(epoch, &changes).await;
        ended.store(epoch as usize, Ordering::SeqCst);
        shard
            .store
            .maintain(Vec::new())
            .await
            .expect("maintenance works");
        shard
            .store
            .maintain(Vec::new())
            .await
            .expect("maintenance works");
    }
    reader.await.expect("the reader found everything");
    shard.check().await;
}
