//! Runs against models: round trip, golden bytes, merging against the plain k-way merge.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

type Model = BTreeMap<(u64, Vec<u8>), (u64, Option<Vec<u8>>)>;

fn run_of(model: &Model) -> Run {
    let mut builder = RunBuilder::default();
    for ((hash, identity), (epoch, value)) in model {
        let value = value.as_deref();
        builder.push(RowRef {
            hash: *hash,
            identity,
            epoch: *epoch,
            value,
        });
    }
    assert_eq!(builder.len(), model.len());
    let encoded_len = builder.encoded_len();
    let run = Run::open(builder.finish()).expect("own bytes");
    assert_eq!(run.encoded_len(), encoded_len);
    run
}

fn rows(run: &Run) -> Model {
    let row = |row: RowRef<'_>| {
        (
            (row.hash, row.identity.to_vec()),
            (row.epoch, row.value.map(<[u8]>::to_vec)),
        )
    };
    run.iter().map(row).collect()
}

/// Rows of which widths, epochs and kinds vary or do not, each by itself.
fn model(least_epoch: u64) -> impl Strategy<Value = Model> {
    let widths = (prop::bool::ANY, prop::bool::ANY, prop::bool::ANY);
    let spread = prop_oneof![Just(1_u64), Just(300), Just(100_000)];
    (widths, spread).prop_flat_map(move |((same_identity, same_value, deletes), spread)| {
        let identity = if same_identity { 2..3 } else { 0..3_usize };
        let key = (0..4_u64, prop::collection::vec(0..3_u8, identity));
        let length = if same_value { 3..4 } else { 0..5_usize };
        let value = prop::collection::vec(any::<u8>(), length);
        let some = if deletes { 0.6 } else { 0.999 };
        let value = prop::option::weighted(some, value);
        let row = (least_epoch..least_epoch + spread, value);
        prop::collection::btree_map(key, row, 0..12)
    })
}

/// The obvious merge.
fn plain_merge(runs: &[Run], drop_marks: bool) -> Model {
    let mut merged = Model::new();
    for (key, row) in runs.iter().flat_map(rows) {
        match merged.get_mut(&key) {
            Some(kept) if kept.0 > row.0 => {}
            Some(kept) => *kept = row,
            None => drop(merged.insert(key, row)),
        }
    }
    merged.retain(|_, row| row.1.is_some() || !drop_marks);
    merged
}

fn open(bytes: Bytes) -> Run {
    Run::open(bytes).expect("own bytes")
}

proptest! {
    #[test]
    fn round_trip_and_lookup(model in model(7)) {
        let run = run_of(&model);
        prop_assert_eq!(rows(&run), model.clone());
        for hash in 0..5 {
            let found = run.rows_of(hash).len();
            prop_assert_eq!(found, model.keys().filter(|key| key.0 == hash).count());
        }
    }

    #[test]
    fn stretches_of_runs_round_trip(a in model(1), b in model(1), cut in 0..12_usize) {
        let (a, mut b) = (run_of(&a), b);
        // All of a, then what of b lies behind it: the builder changes form on the way.
        if let Some(last) = a.len().checked_sub(1).map(|last| a.row(last)) {
            b.retain(|key, _| *key > (last.hash, last.identity.to_vec()));
        }
        let b = run_of(&b);
        let mut builder = RunBuilder::default();
        let cut = cut.min(a.len());
        builder.extend_from_run(&a, 0..cut);
        builder.extend_from_run(&a, cut..a.len());
        builder.extend_from_run(&b, 0..b.len());
        let mut expected = rows(&a);
        expected.extend(rows(&b));
        prop_assert_eq!(rows(&open(builder.finish())), expected);
    }

    #[test]
    fn merging_is_associative_and_newest_wins(a in model(1), b in model(1), c in model(50_000)) {
        let (a, b, c) = (run_of(&a), run_of(&b), run_of(&c));
        let all = [a.clone(), b.clone(), c.clone()];
        let expected = plain_merge(&all, false);
        let at_once = open(merge(&all, false));
        let left = open(merge(&[open(merge(&[a.clone(), b.clone()], false)), c.clone()], false));
        let right = open(merge(&[a.clone(), open(merge(&[b, c], false))], false));
        prop_assert_eq!(rows(&at_once), expected.clone());
        prop_assert_eq!(rows(&left), expected.clone());
        prop_assert_eq!(rows(&right), expected);
        let base = open(merge(&all, true));
        prop_assert!(base.is_base());
        prop_assert_eq!(rows(&base), plain_merge(&all, true));
        prop_assert!(!open(merge(&[base], false)).is_base());
    }

    #[test]
    fn damaged_bytes_are_refused(model in model(1), cut in 0..40_usize) {
        let bytes = run_of(&model).bytes().clone();
        if cut > 0 && cut <= bytes.len() {
            prop_assert!(Run::open(bytes.slice(..bytes.len() - cut)).is_err());
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused_without_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 8..80),
        flags in 0..64_u8,
        count in 0..6_u32,
    ) {
        bytes[..4].copy_from_slice(&[0x53, 0x4d, 1, flags]);
        bytes[4..8].copy_from_slice(&count.to_le_bytes());
        if let Ok(run) = Run::open(bytes.into()) {
            prop_assert_eq!(run.iter().count(), count as usize);
        }
    }
}

fn row<'a>(hash: u64, identity: &'a [u8], epoch: u64, value: Option<&'a [u8]>) -> RowRef<'a> {
    RowRef {
        hash,
        identity,
        epoch,
        value,
    }
}

fn bytes_of(rows: &[RowRef<'_>]) -> Bytes {
    let mut builder = RunBuilder::default();
    rows.iter().for_each(|row| builder.push(*row));
    builder.finish()
}

#[test]
fn layout_is_fixed() {
    // Nothing in common: every column in full.
    let far = 1_u64 << 40;
    let mixed = bytes_of(&[row(1, b"a", 2, Some(b"xy")), row(3, b"", far, None)]);
    let expected = [
        &[0x53, 0x4d, 1, 0, 2, 0, 0, 0][..],
        &1_u64.to_le_bytes(),
        &3_u64.to_le_bytes(),
        &2_u64.to_le_bytes(),
        &far.to_le_bytes(),
        &[0, 1],
        &1_u32.to_le_bytes(),
        &1_u32.to_le_bytes(),
        &2_u32.to_le_bytes(),
        &2_u32.to_le_bytes(),
        b"a",
        b"xy",
    ]
    .concat();
    assert_eq!(&mixed[..], &expected[..]);
    assert_eq!(open(mixed).iter().count(), 2);
}

#[test]
fn narrow_layouts_are_fixed() {
    let one_epoch = bytes_of(&[row(1, b"a", 9, Some(b"xy")), row(3, b"b", 9, Some(b"zw"))]);
    let expected = [
        &[0x53, 0x4d, 1, 2 | 4 | 8 | 32, 2, 0, 0, 0][..],
        &1_u64.to_le_bytes(),
        &3_u64.to_le_bytes(),
        &9_u64.to_le_bytes(),
        &1_u32.to_le_bytes(),
        &2_u32.to_le_bytes(),
        b"ab",
        b"xyzw",
    ]
    .concat();
    assert_eq!(&one_epoch[..], &expected[..]);

    let rows = [row(1, b"a", 12, Some(b"xy")), row(3, b"b", 9, Some(b"zw"))];
    let run = open(bytes_of(&rows));
    let near_epochs = merge(&[run], true);
    let expected = [
        &[0x53, 0x4d, 1, 1 | 2 | 4 | 16 | 32, 2, 0, 0, 0][..],
        &1_u64.to_le_bytes(),
        &3_u64.to_le_bytes(),
        &9_u64.to_le_bytes(),
        &3_u16.to_le_bytes(),
        &0_u16.to_le_bytes(),
        &1_u32.to_le_bytes(),
        &2_u32.to_le_bytes(),
        b"ab",
        b"xyzw",
    ]
    .concat();
    assert_eq!(&near_epochs[..], &expected[..]);
}

#[test]
fn unknown_flags_and_marks_in_a_base_are_refused() {
    let mut unknown = bytes_of(&[row(1, b"a", 2, Some(b"xy"))]).to_vec();
    unknown[3] |= 64;
    assert_eq!(Run::open(unknown.into()).err(), Some(RunError::Header));
    let mut marked = bytes_of(&[row(1, b"a", 2, None)]).to_vec();
    marked[3] |= 1;
    assert!(Run::open(marked.into()).is_err());
}

#[test]
fn an_empty_run_has_its_length() {
    assert_eq!(RunBuilder::default().finish().len(), Run::EMPTY_BYTES);
    let empty = open(merge(&[], true));
    assert_eq!(empty.encoded_len(), Run::EMPTY_BYTES);
    assert!(empty.is_base() && empty.is_empty());
}
