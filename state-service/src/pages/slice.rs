//! Cuts a run of one (table, key group, namespace) into its pages. Pure.

use std::ops::Range;

use proto::types::{KeyGroup, TableId};
use state_client::page::{Run, RunBuilder};

use super::{
    kv::{PageKey, lead},
    layout::Layout,
};

/// Calls `page` with every page that the run has rows of, and these rows, in the order of the
/// keys. Rows of hot keys go to their chunks.
pub(super) fn slice(
    layout: &Layout,
    table: TableId,
    key_group: KeyGroup,
    namespace: i64,
    depth: u8,
    run: &Run,
    mut page: impl FnMut(PageKey, RunBuilder),
) {
    let first = PageKey::first(key_group, table, namespace, depth);
    let hot: Vec<u64> = (layout.hot_between(first, u32::MAX))
        .map(|(_, hot)| hot.hash)
        .collect();
    let mut hot_rows = Vec::new();
    let mut row = 0;
    while row < run.len() {
        let hash = run.hash(row);
        let end = match layout.end_hash(hash, depth) {
            Some(end) => run.lower_bound_from(row, end),
            None => run.len(),
        };
        let rows = without_hot(run, row..end, &hot, &mut hot_rows);
        if !rows.is_empty() {
            let prefix = layout.prefix(hash, depth);
            page(PageKey { prefix, ..first }, rows);
        }
        row = end;
    }
    for rows in hot_rows {
        slice_hot(layout, table, namespace, run, rows, &mut page);
    }
}

/// The rows of a page; those of hot keys are set aside.
fn without_hot(
    run: &Run,
    page: Range<usize>,
    hot: &[u64],
    hot_rows: &mut Vec<Range<usize>>,
) -> RunBuilder {
    let payload = run.encoded_len() / run.len() * page.len();
    let mut rows = RunBuilder::with_capacity(page.len(), payload);
    let mut from = page.start;
    let (low, high) = (run.hash(page.start), run.hash(page.end - 1));
    let start = hot.partition_point(|hash| *hash < low);
    for hash in hot[start..].iter().take_while(|hash| **hash <= high) {
        let of_hash = run.rows_of(*hash);
        if of_hash.is_empty() {
            continue;
        }
        rows.extend_from_run(run, from..of_hash.start);
        from = of_hash.end;
        hot_rows.push(of_hash);
    }
    rows.extend_from_run(run, from..page.end);
    rows
}

/// Rows of one hot key by chunk.
fn slice_hot(
    layout: &Layout,
    table: TableId,
    namespace: i64,
    run: &Run,
    rows: Range<usize>,
    page: &mut impl FnMut(PageKey, RunBuilder),
) {
    let hash = run.hash(rows.start);
    let Some((slot, hot)) = layout.hot(table, namespace, hash) else {
        return;
    };
    cut_chunks(
        run,
        rows,
        |identity| hot.chunk_of(lead(identity)),
        |chunk, rows| {
            page(slot.page(chunk), rows);
        },
    );
}

/// Calls `chunk` with every chunk and its rows, which follow each other.
pub(super) fn cut_chunks(
    run: &Run,
    rows: Range<usize>,
    chunk_of: impl Fn(&[u8]) -> u16,
    mut chunk: impl FnMut(u16, RunBuilder),
) {
    let mut from = rows.start;
    while from < rows.end {
        let number = chunk_of(run.identity(from));
        let same = |row: &usize| chunk_of(run.identity(*row)) == number;
        let end = from + (from..rows.end).take_while(same).count();
        let mut builder = RunBuilder::default();
        builder.extend_from_run(run, from..end);
        chunk(number, builder);
        from = end;
    }
}

/// The least depth at which `bytes` bytes of a key group make pages of at most `page_bytes`.
pub(super) fn fitting_depth(bytes: usize, page_bytes: usize) -> u8 {
    let pages = bytes.div_ceil(page_bytes.max(1)).max(1);
    // More than 2^20 pages per key group is a wrong figure rather than a large table.
    pages.next_power_of_two().trailing_zeros().min(20) as u8
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use proto::types::{KeyGroupCount, TableId};
    use state_client::page::RowRef;

    use super::{
        super::kv::{DepthRecord, HOT_DEPTH, HotKey, ShardScope},
        *,
    };

    const TABLE: TableId = TableId(3);

    fn layout(depth: u8) -> Layout {
        let key_groups = KeyGroupCount::new(2).expect("two");
        let range = key_groups.range(0, 1);
        let mut layout = Layout::new(ShardScope { key_groups, range });
        layout.set_depths(&DepthRecord {
            table: TABLE,
            namespace: 0,
            min: depth,
            max: depth,
        });
        layout
    }

    proptest! {
        #[test]
        fn every_row_goes_to_the_page_where_it_is_looked_for(
            hashes in prop::collection::btree_set(0..64_u64, 1..40),
            depth in 0..5_u8,
            hot in prop::option::of(0..64_u64),
        ) {
            let spread = |hash: u64| hash << 57;
            let mut layout = layout(depth);
            if let Some(hot) = hot.map(spread) {
                let slot = layout.hot_slot(TABLE, 0, hot);
                let key = HotKey { hash: hot, bits: 1, next_bits: 1, boundary: 2 };
                layout.hot.insert(slot, key);
            }
            let mut run = RunBuilder::default();
            for hash in &hashes {
                for identity in [&[0_u8][..], &[200]] {
                    let value = Some(&b"v"[..]);
                    run.push(RowRef { hash: spread(*hash), identity, epoch: 1, value });
                }
            }
            let run = Run::open(run.finish()).expect("a run");
            let mut pages = BTreeMap::new();
            let mut order = Vec::new();
            slice(&layout, TABLE, KeyGroup(0), 0, depth, &run, |key, rows| {
                order.push(key);
                pages.insert(key, Run::open(rows.finish()).expect("a run"));
            });
            prop_assert!(order.is_sorted());
            prop_assert_eq!(pages.values().map(Run::len).sum::<usize>(), run.len());
            for row in run.iter() {
                let mut found = Vec::new();
                let sub = Some(lead(row.identity));
                layout.pages_of(TABLE, 0, row.hash, sub, |key| found.push(key));
                let of_row = found.iter().filter_map(|key| pages.get(key));
                let rows = of_row.flat_map(|page| page.iter()).filter(|r| *r == row).count();
                prop_assert_eq!(rows, 1);
                let is_hot = hot.map(spread) == Some(row.hash);
                prop_assert_eq!(found.iter().any(|key| key.depth == HOT_DEPTH), is_hot);
            }
        }
    }

    #[test]
    fn depth_fits_the_bytes() {
        assert_eq!(fitting_depth(0, 100), 0);
        assert_eq!(fitting_depth(100, 100), 0);
        assert_eq!(fitting_depth(101, 100), 1);
        assert_eq!(fitting_depth(400, 100), 2);
        assert_eq!(fitting_depth(usize::MAX / 2, 1), 20);
    }
}
