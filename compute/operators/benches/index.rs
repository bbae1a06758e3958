//! Time to find the slots of keys that are in memory, a batch at a time: far more keys than the processor's
//! caches have room for, or few.

use divan::{Bencher, counter::ItemsCount};
use engine::{
    key::{KeyBatch, KeyWidth, Keys, hash_u64, mix},
    state::KeyIndex,
};
use proto::types::{KeyGroupCount, KeyGroupSet};

const BATCH: u64 = 8192;
const BATCHES: u64 = 16;

fn main() {
    divan::main();
}

fn batch(keys: impl Iterator<Item = u64>) -> KeyBatch {
    let keys: Vec<u64> = keys.collect();
    KeyBatch {
        hashes: keys.iter().map(|key| hash_u64(*key)).collect(),
        keys: Keys::U64(keys),
    }
}

fn index(keys: u64) -> (KeyIndex, Vec<KeyBatch>) {
    let groups = KeyGroupCount::DEFAULT;
    let all = KeyGroupSet::all(groups);
    let mut index = KeyIndex::new(KeyWidth::U64, groups, &all, false);
    index.find_or_insert(&batch(0..keys), &mut Vec::new(), |_| ());
    let anywhere = |n: u64| (0..BATCH).map(move |row| mix(n, row) % keys);
    (index, (0..BATCHES).map(|n| batch(anywhere(n))).collect())
}

/// All keys of a batch at once.
#[divan::bench(args = [10_000, 1_000_000, 4_000_000])]
fn batches(bencher: Bencher<'_, '_>, keys: u64) {
    let (mut index, batches) = index(keys);
    let mut slots = Vec::new();
    let rows = ItemsCount::new(BATCH * BATCHES);
    bencher.counter(rows).bench_local(|| {
        for batch in &batches {
            index.find_or_insert(batch, &mut slots, |_| ());
        }
    });
}

/// One key after the other.
#[divan::bench(args = [10_000, 1_000_000, 4_000_000])]
fn rows(bencher: Bencher<'_, '_>, keys: u64) {
    let (mut index, batches) = index(keys);
    let rows = ItemsCount::new(BATCH * BATCHES);
    bencher.counter(rows).bench_local(|| {
        for batch in &batches {
            for (row, hash) in batch.hashes.iter().enumerate() {
                index.find_or_insert_row(&batch.keys, row, *hash, &mut |_| ());
            }
        }
    });
}
