//! One writer, its costs, its garbage, and readers beside it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use proto::types::{Epoch, KeyGroup};
use state_client::KeyRequest;

use super::shard::{Shard, TABLE, hash, rows};
use crate::{
    pages::{
        PageError, PageStore, block_cache,
        testing::{Link, Model, assert_same, config, key_groups, limits, maintain_all, open},
    },
    testing::{Fault, FaultStore, Request, RequestKind},
};

#[tokio::test(start_paused = true)]
async fn a_database_that_closed_itself_is_to_be_opened_again() {
    let mut shard = Shard::new().await;
    shard.flush(1, &rows(0..20, 1, Some(b"v"))).await;
    // It looks at its manifest now and then, and gives up.
    shard.link.cut_after(0);
    tokio::time::sleep(Duration::from_secs(600)).await;
    shard.link.cut_after(i64::MAX);
    let request = KeyRequest {
        table: TABLE,
        namespace: 0,
        hash: hash(3),
        sub: None,
    };
    let read = shard.store.read(&[request]).await;
    assert!(matches!(read, Err(PageError::Reopen(_))), "{read:?}");
    assert_eq!(shard.crash().await, Epoch(1));
    shard.check().await;
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
async fn a_closed_shard_collects_no_garbage() {
    let mut shard = Shard::new().await;
    for epoch in 1..=3 {
        shard.flush(epoch, &rows(0..100, epoch, Some(b"v"))).await;
    }
    shard.store.close().await.expect("closing works");
    let files = shard.files().await;
    let collected = shard.store.collect_garbage(vec![Epoch(3)]).await;
    assert!(
        matches!(collected, Err(PageError::Reopen(_))),
        "{collected:?}"
    );
    assert_eq!(shard.files().await, files, "it may be deleted meanwhile");
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
async fn reads_that_come_together_ask_for_no_index_or_filter() {
    let mut shard = Shard::new().await;
    let faults = FaultStore::new(Arc::new(shard.link.clone()));
    shard.config.store = Arc::new(faults.clone());
    shard.config.page_cache = None;
    shard.config.block_cache = Some((block_cache(8 << 20), 1));
    (shard.store, _) = open(&shard.config).await;
    for epoch in 1..=3 {
        shard.flush(epoch, &rows(0..2_000, epoch, Some(b"v"))).await;
    }
    let files = Request {
        kind: RequestKind::Get,
        path: ".sst",
    };
    let compactions = shard.store.stats().compactions;
    maintain_all(&shard.store).await;
    assert!(shard.store.stats().compactions > compactions);
    for opens in [false, true] {
        if opens {
            // By another process, which has none of this in memory.
            shard.config.block_cache = Some((block_cache(8 << 20), 2));
            (shard.store, _) = open(&shard.config).await;
        }
        faults.reset_counts();
        let reads = (0..100).map(|number| shard.get(hash(number)));
        let found = futures::future::join_all(reads).await;
        assert!(found.iter().all(Option::is_some));
        let (asked, pages) = (faults.count(files).0, shard.store.stats().fetched_pages);
        assert!(
            asked > 0 && asked <= pages,
            "{asked} requests for {pages} pages"
        );
    }
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
            .maintain(vec![Epoch(1), Epoch(epoch)])
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
            .collect_garbage([1, 12].map(Epoch).to_vec())
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
    assert_eq!(kept, [1, 12].map(Epoch));
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
    assert!(largest < Some(2 * limits().page_bytes_max), "{largest:?}");
    let depths = shard.store.shared.layout().await.depths_of(TABLE, 0);
    let depths = depths.expect("it has rows");
    assert!(depths.max > 0, "{depths:?}");
    assert_eq!(depths.min, depths.max, "no page has stayed behind");
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
    let admin = crate::pages::checkpoint::admin(&shard.config, 9);
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
