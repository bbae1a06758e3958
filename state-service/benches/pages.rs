//! Flushes, compaction and rewriting of one shard over a local directory, in CPU seconds of the
//! whole process per million rows: `cargo bench -p state-service`.

use std::{hint::black_box, sync::Arc};

use object_store::local::LocalFileSystem;
use proto::types::{Epoch, KeyGroup, KeyGroupCount, TableId};
use state_client::{
    Block,
    page::{RowRef, Run, RunBuilder, merge},
};
use state_service::pages::{FlushBatch, PageCache, PageLimits, PageStore, PageStoreConfig};

const TABLE: TableId = TableId(1);

fn main() {
    divan::main();
}

/// A quarter of the default key groups.
fn key_groups() -> (KeyGroupCount, u32) {
    (KeyGroupCount::DEFAULT, 64)
}

fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Hash of a key, within the shard.
fn hash(key: u64) -> u64 {
    mix(key) >> 2
}

/// Rows of some keys: an identity of 8 bytes and the rest of `row_bytes` as value.
fn batch(epoch: u64, keys: impl Iterator<Item = u64>, row_bytes: usize) -> FlushBatch {
    let mut keys: Vec<(u64, u64)> = keys.map(|key| (hash(key), key)).collect();
    keys.sort_unstable();
    keys.dedup();
    let (groups, count) = key_groups();
    let mut value = vec![7; row_bytes - 8];
    value[..8].copy_from_slice(&mix(epoch).to_le_bytes());
    let mut runs: Vec<RunBuilder> = (0..count).map(|_| RunBuilder::default()).collect();
    for (hash, key) in keys {
        runs[usize::from(groups.of_hash(hash).0)].push(RowRef {
            hash,
            identity: &key.to_be_bytes(),
            epoch,
            value: Some(&value),
        });
    }
    let blocks = runs.into_iter().enumerate().map(|(group, run)| Block {
        table: TABLE,
        key_group: KeyGroup(group as u16),
        namespace: 0,
        run: run.finish(),
    });
    FlushBatch {
        epoch: Epoch(epoch),
        blocks: blocks.collect(),
        low_water_marks: Vec::new(),
    }
}

/// CPU seconds that the process has used.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let field = |index: usize| {
        let text = after_name.split_whitespace().nth(index);
        text.and_then(|text| text.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    (field(11) + field(12)) / 100.0
}

struct Shard {
    store: PageStore,
    runtime: tokio::runtime::Runtime,
    cpu_seconds: f64,
    rows: usize,
    _directory: tempfile::TempDir,
}

impl Shard {
    fn new() -> Shard {
        let directory = tempfile::tempdir().expect("a directory");
        let local = LocalFileSystem::new_with_prefix(directory.path()).expect("a store");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let (groups, count) = key_groups();
        let mut range = groups.range(0, 1);
        range.end = count;
        let config = PageStoreConfig {
            path: "job/0".to_string(),
            store: Arc::new(local),
            key_groups: groups,
            range,
            block_cache: None,
            page_cache: Some(PageCache::new(32 << 20)),
            seed: 1,
            clock: None,
            runtime: runtime.handle().clone(),
            limits: PageLimits::default(),
        };
        let opened = runtime.block_on(PageStore::open(config, |_| async { Ok(()) }));
        Shard {
            store: opened.expect("an empty directory opens").0,
            runtime,
            cpu_seconds: 0.0,
            rows: 0,
            _directory: directory,
        }
    }

    fn flush(&mut self, batch: FlushBatch) {
        let before = cpu_seconds();
        let rows = |block: &Block| Run::open(block.run.clone()).map_or(0, |run| run.len());
        self.rows += batch.blocks.iter().map(rows).sum::<usize>();
        self.runtime.block_on(async {
            self.store.flush(batch).await.expect("flushing works");
            while self
                .store
                .maintain(Vec::new())
                .await
                .expect("maintenance works")
            {}
        });
        self.cpu_seconds += cpu_seconds() - before;
    }

    fn report(&self, name: &str) {
        let per_million = self.cpu_seconds / self.rows as f64 * 1e6;
        println!(
            "{name}: {per_million:.3} CPU seconds per million rows of {}; {:?}",
            self.rows,
            self.store.stats()
        );
    }
}

/// Every row has a new key.
#[divan::bench(args = [32, 128], sample_count = 1, sample_size = 1)]
fn new_keys(row_bytes: usize) {
    let mut shard = Shard::new();
    let per_flush = (64 << 20) / (row_bytes as u64 + 10);
    for epoch in 1..=14 {
        let first = epoch * per_flush;
        shard.flush(batch(epoch, first..first + per_flush, row_bytes));
    }
    shard.report(&format!("new keys, {row_bytes} B"));
}

/// A million and a quarter keys, half a million of them change between two flushes.
#[divan::bench(args = [32, 100], sample_count = 1, sample_size = 1)]
fn changes(row_bytes: usize) {
    const KEYS: u64 = 1_250_000;
    let mut shard = Shard::new();
    shard.flush(batch(1, 0..KEYS, row_bytes));
    (shard.cpu_seconds, shard.rows) = (0.0, 0);
    for epoch in 2..=25 {
        let changed = (0..500_000).map(|row| mix(epoch << 32 | row) % KEYS);
        shard.flush(batch(epoch, changed, row_bytes));
    }
    shard.report(&format!("changes, {row_bytes} B"));
}

/// A page of 300 rows and as many operands of 60 rows as a compaction usually sees.
#[divan::bench(args = [1, 6])]
fn merge_page(bencher: divan::Bencher<'_, '_>, operands: u64) {
    let run = |epoch: u64, count: u64| {
        let mut keys: Vec<u64> = (0..count).map(|row| mix(epoch << 8 | row) % 600).collect();
        keys.sort_unstable();
        keys.dedup();
        let mut run = RunBuilder::default();
        for key in keys {
            let (hash, identity) = (mix(0) ^ key, &key.to_be_bytes()[..]);
            let value = Some(&[7_u8; 24][..]);
            run.push(RowRef {
                hash,
                identity,
                epoch,
                value,
            });
        }
        Run::open(run.finish()).expect("a run")
    };
    let mut runs = vec![run(1, 500)];
    runs.extend((2..2 + operands).map(|epoch| run(epoch, 60)));
    let rows: usize = runs.iter().map(Run::len).sum();
    bencher
        .counter(divan::counter::ItemsCount::new(rows))
        .bench(|| merge(black_box(&runs), true));
}
