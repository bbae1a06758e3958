//! Interleavings that once lost or doubled rows on paper, each as a script.

use std::{sync::Arc, time::Duration};

use proto::types::{Epoch, TableId};
use state_client::KeyRequest;

use super::shard::{Shard, TABLE, hash, rows};
use crate::pages::{
    PageStore,
    kv::LowWaterMarkRecord,
    layout::Layout,
    store::PendingWrite,
    testing::{Link, Model, assert_same, config, key_groups, limits, maintain_all, open},
};

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

#[tokio::test(start_paused = true)]
async fn s12_rows_flushed_beside_a_sweep_are_not_shadowed() {
    let mut shard = Shard::new().await;
    shard.flush(1, &rows(0..400, 1, Some(b"old"))).await;
    shard.deepen().await;
    let layout = shard.store.shared.layout().await;
    shard.store.shared.sweep_soon(&layout, TABLE, 0);
    // While a flush writes, nothing is read ahead for rewriting.
    let flushing = shard.store.shared.writer.lock().await;
    let step = shard.store.shared.rewrite_step();
    let step = tokio::time::timeout(Duration::from_secs(1), step).await;
    assert!(
        step.is_err(),
        "the writer is locked from reading to writing"
    );
    drop(flushing);
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
    let image = view.fetch(page).await.expect("readable");
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
