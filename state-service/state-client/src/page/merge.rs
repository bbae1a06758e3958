//! Merging runs: of rows with the same (hash, identity) the newest epoch wins, so merging is
//! associative. Works on row numbers sorted by hash and copies whole stretches of rows.

use std::cmp::Ordering;

use bytes::Bytes;

use super::{Run, RunBuilder};

/// A row, by where it lies.
#[derive(Clone, Copy)]
struct Place {
    hash: u64,
    run: u32,
    row: u32,
}

/// Merges runs: of rows with the same (hash, identity) the newest epoch wins, and on equal epochs
/// the later run. `onto_base`: nothing lies below, so delete marks are dropped and the result is
/// a base image.
#[must_use]
pub fn merge(runs: &[Run], onto_base: bool) -> Bytes {
    if let [run] = runs
        && run.is_base() == onto_base
    {
        return run.bytes().clone();
    }
    let merged = merge_into(runs, onto_base);
    if onto_base {
        merged.finish_base()
    } else {
        merged.finish()
    }
}

/// As [`merge`], not yet encoded; without delete marks if `drop_marks`.
#[must_use]
pub fn merge_into(runs: &[Run], drop_marks: bool) -> RunBuilder {
    let places = newest_places(runs);
    let payload = runs.iter().map(Run::encoded_len).sum();
    let mut out = RunBuilder::with_capacity(places.len(), payload);
    let mut from = 0;
    while from < places.len() {
        let first = places[from];
        let run = &runs[first.run as usize];
        let keep = |row: usize| !drop_marks || run.has_value(row);
        let mut row = first.row as usize;
        if !keep(row) {
            from += 1;
            continue;
        }
        let start = row;
        // As long as rows follow each other in their run they are copied together.
        loop {
            from += 1;
            row += 1;
            let follows = (places.get(from))
                .is_some_and(|next| next.run == first.run && next.row as usize == row);
            if !follows || !keep(row) {
                break;
            }
        }
        out.extend_from_run(run, start..row);
    }
    out
}

/// The rows that win, in order.
fn newest_places(runs: &[Run]) -> Vec<Place> {
    let mut places = Vec::with_capacity(runs.iter().map(Run::len).sum());
    for (index, run) in runs.iter().enumerate() {
        let place = |row| Place {
            hash: run.hash(row),
            run: index as u32,
            row: row as u32,
        };
        places.extend((0..run.len()).map(place));
    }
    let identity = |place: &Place| runs[place.run as usize].identity(place.row as usize);
    let order = |a: &Place, b: &Place| match a.hash.cmp(&b.hash) {
        Ordering::Equal => identity(a).cmp(identity(b)),
        unequal => unequal,
    };
    if runs.len() > 1 {
        // Stable, and made for input of sorted stretches, which this is.
        places.sort_by(order);
        let epoch = |place: &Place| runs[place.run as usize].epoch(place.row as usize);
        places.dedup_by(|later, kept| {
            let same = order(later, kept) == Ordering::Equal;
            if same && epoch(later) >= epoch(kept) {
                *kept = *later;
            }
            same
        });
    }
    places
}
