//! Time to learn whether a key is in memory, in the store, or nowhere, where there are many that are not in
//! memory; and to note that one has gone.

use std::collections::HashSet;

use divan::{Bencher, counter::ItemsCount};
use engine::{
    key::{KeyWidth, mix},
    state::KeyIndex,
};
use proto::types::{KeyGroupCount, KeyGroupSet};

const PROBES: u64 = 100_000;

fn main() {
    divan::main();
}

fn hashes(range: std::ops::Range<u64>) -> HashSet<u64> {
    range.map(|key| mix(key, 1)).collect()
}

/// With so many keys elsewhere.
fn index(keys: u64) -> KeyIndex {
    let groups = KeyGroupCount::DEFAULT;
    let all = KeyGroupSet::all(groups);
    let mut index = KeyIndex::new(KeyWidth::U64, groups, &all, false);
    index.mark_unknown(&hashes(0..keys));
    index
}

fn probe(bencher: Bencher<'_, '_>, keys: u64, first: u64) {
    let index = index(keys);
    let probes: Vec<u64> = hashes(first..first + PROBES).into_iter().collect();
    bencher.counter(ItemsCount::new(PROBES)).bench_local(|| {
        probes
            .iter()
            .filter(|hash| index.is_unknown(**hash))
            .count()
    });
}

/// Of keys that are in the store.
#[divan::bench(args = [100_000, 1_000_000, 3_000_000])]
fn stored(bencher: Bencher<'_, '_>, keys: u64) {
    probe(bencher, keys, 0);
}

/// Of keys that are nowhere.
#[divan::bench(args = [100_000, 1_000_000, 3_000_000])]
fn new(bencher: Bencher<'_, '_>, keys: u64) {
    probe(bencher, keys, keys);
}

/// Of keys that go.
#[divan::bench(args = [100_000, 1_000_000, 3_000_000])]
fn gone(bencher: Bencher<'_, '_>, keys: u64) {
    let mut index = index(keys);
    let mut next = keys;
    bencher
        .counter(ItemsCount::new(PROBES))
        .with_inputs(|| {
            next += PROBES;
            hashes(next - PROBES..next)
        })
        .bench_local_values(|gone| index.mark_unknown(&gone));
}
