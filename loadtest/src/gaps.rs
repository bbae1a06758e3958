//! Pauses of key groups, out of the rows that they put out.
//!
//! A gap lasts from a row of a key group to the next one with something newer in it: rows that come
//! again after a recovery end none. So a gap holds all that a user waits for: that a failure is
//! noticed, that tasks begin anew, that rows are read again, and the first read of state. What it
//! cannot be shorter than is the time between two rows of a group, which depends on the load: the same
//! figures of an equally long time before show it. Gaps count that begin until a second after the change is
//! done.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::listen::{Owner, Row};

/// Gaps that begin so long after a change are none of it.
pub(crate) const AFTER_MS: i64 = 1_000;
/// Lateness is judged in pieces of this time.
const PIECE_MS: i64 = 100;
/// Nothing is late any more when that has been so for this time.
const CALM_MS: i64 = 1_000;

/// Times in ms.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(crate) struct Spread {
    /// How many there are.
    pub(crate) count: usize,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

impl Spread {
    /// `None` of none.
    pub(crate) fn of(times: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut times: Vec<f64> = times.into_iter().collect();
        times.sort_by(f64::total_cmp);
        Some(Spread {
            count: times.len(),
            p50_ms: *percentile(&times, 50)?,
            p99_ms: *percentile(&times, 99)?,
            max_ms: *times.last()?,
        })
    }
}

/// The value that so many of a hundred are not above, of sorted ones.
fn percentile(sorted: &[f64], percent: usize) -> Option<&f64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.max(1) - 1)
}

/// When rows of the source were due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Due {
    /// The first one, in ms since 1970.
    pub(crate) first_ms: i64,
    pub(crate) rows_per_second: u64,
}

impl Due {
    /// When a row was, by its number.
    pub(crate) fn at_ms(self, row: u64) -> i64 {
        let after = u128::from(row) * 1000 / u128::from(self.rows_per_second.max(1));
        self.first_ms
            .saturating_add(i64::try_from(after).unwrap_or(i64::MAX))
    }
}

/// The longest gap of each key group, of those that end after `from_ms` and begin before `until_ms`;
/// one that goes on counts to `to_ms`. Rows are in the order in which they came.
pub(crate) fn longest(
    rows: &[Row],
    (from_ms, until_ms, to_ms): (i64, i64, i64),
) -> BTreeMap<u16, i64> {
    struct Last {
        at_ms: i64,
        newest: u64,
        gap_ms: i64,
    }
    let mut groups: BTreeMap<u16, Last> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.at_ms < to_ms) {
        let (at_ms, newest, gap_ms) = (row.at_ms, row.newest, 0);
        let first = Last {
            at_ms,
            newest,
            gap_ms,
        };
        let last = groups.entry(row.group).or_insert(first);
        if newest <= last.newest {
            continue;
        }
        if at_ms >= from_ms && last.at_ms < until_ms {
            last.gap_ms = last.gap_ms.max(at_ms - last.at_ms);
        }
        (last.at_ms, last.newest) = (at_ms, newest);
    }
    let gap = |(group, last): (u16, Last)| match last.at_ms < until_ms {
        true => (group, last.gap_ms.max(to_ms - last.at_ms)),
        false => (group, last.gap_ms),
    };
    groups.into_iter().map(gap).collect()
}

/// The same of as long a time before, where nothing was disturbed: what gaps there are anyway.
pub(crate) fn usual(rows: &[Row], (from_ms, until_ms): (i64, i64)) -> Option<Spread> {
    let before = from_ms - (until_ms - from_ms);
    let gaps = longest(rows, (before, from_ms, from_ms));
    Spread::of(gaps.into_values().map(|gap_ms| gap_ms as f64))
}

/// The task that put out the last row of each key group before a time.
pub(crate) fn owners(rows: &[Row], before_ms: i64) -> BTreeMap<u16, Owner> {
    let before = rows.iter().take_while(|row| row.at_ms < before_ms);
    before.map(|row| (row.group, row.owner)).collect()
}

/// For each key group whose rows another task puts out than before: how long after a time the first one
/// came from there.
pub(crate) fn first_outputs(
    rows: &[Row],
    from_ms: i64,
    before: &BTreeMap<u16, Owner>,
) -> BTreeMap<u16, i64> {
    let mut first = BTreeMap::new();
    for row in rows.iter().filter(|row| row.at_ms >= from_ms) {
        if before.get(&row.group).is_some_and(|was| *was != row.owner) {
            first.entry(row.group).or_insert(row.at_ms - from_ms);
        }
    }
    first
}

/// The most that is no lateness beyond what there was before.
pub(crate) fn late_bound_ms(before: Option<Spread>) -> f64 {
    before.map_or(0.0, |late| (2.0 * late.p99_ms).max(late.p99_ms + 100.0))
}

/// How late rows came between two times.
pub(crate) fn lateness(rows: &[Row], due: Due, from_ms: i64, to_ms: i64) -> Option<Spread> {
    let within = rows
        .iter()
        .filter(|row| (from_ms..to_ms).contains(&row.at_ms));
    Spread::of(within.map(|row| late(row, due)))
}

fn late(row: &Row, due: Due) -> f64 {
    (row.at_ms - due.at_ms(row.newest)) as f64
}

/// How long after `from_ms` rows come no later than `bound_ms` again, but for one of a hundred, and
/// stay so for a second. `None`: not before `to_ms`.
pub(crate) fn caught_up(
    rows: &[Row],
    due: Due,
    (from_ms, to_ms): (i64, i64),
    bound_ms: f64,
) -> Option<i64> {
    let pieces = usize::try_from((to_ms - from_ms) / PIECE_MS).ok()?;
    let mut lateness: Vec<Vec<f64>> = vec![Vec::new(); pieces];
    for row in rows {
        let piece = usize::try_from((row.at_ms - from_ms).div_euclid(PIECE_MS));
        let piece = piece.ok().and_then(|piece| lateness.get_mut(piece));
        if let Some(piece) = piece {
            piece.push(late(row, due));
        }
    }
    let is_good = |piece: Vec<f64>| {
        let spread = Spread::of(piece);
        spread.is_some_and(|spread| spread.p99_ms <= bound_ms)
    };
    let good: Vec<bool> = lateness.into_iter().map(is_good).collect();
    let calm = usize::try_from(CALM_MS / PIECE_MS).ok()?;
    let first = good
        .windows(calm)
        .position(|pieces| pieces.iter().all(|good| *good))?;
    Some(i64::try_from(first).ok()? * PIECE_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(at_ms: i64, group: u16, newest: u64, worker: u16) -> Row {
        Row {
            at_ms,
            job: 0,
            group,
            newest,
            owner: Owner { worker, task: 0 },
        }
    }

    #[test]
    fn a_gap_ends_with_something_newer() {
        let rows = [
            row(80, 1, 1, 0),
            row(90, 1, 2, 0),
            row(95, 2, 3, 1),
            // Again, after a recovery.
            row(300, 1, 1, 1),
            row(310, 1, 2, 1),
            row(340, 1, 9, 1),
            row(350, 2, 8, 1),
            row(360, 1, 10, 1),
            // Unknown before.
            row(370, 3, 11, 1),
        ];
        let gaps = |until_ms, to_ms| longest(&rows, (100, until_ms, to_ms));
        assert_eq!(gaps(100, 400), [(1, 250), (2, 255), (3, 0)].into());
        // One that goes on at the end counts as long as it has been,
        assert_eq!(gaps(900, 900), [(1, 540), (2, 550), (3, 530)].into());
        assert_eq!(gaps(100, 320), [(1, 230), (2, 225)].into());
        // if it began in time.
        assert_eq!(gaps(355, 900), [(1, 250), (2, 550), (3, 0)].into());
        let before = usual(&rows, (100, 120)).expect("rows");
        assert!((before.max_ms - 10.0).abs() < f64::EPSILON, "{before:?}");
        let owner = |worker| Owner { worker, task: 0 };
        assert_eq!(owners(&rows, 100), [(1, owner(0)), (2, owner(1))].into());
        assert_eq!(owners(&rows, 900)[&1], owner(1));
        // The group that moved, and not that which nobody had before.
        assert_eq!(
            first_outputs(&rows, 100, &owners(&rows, 100)),
            [(1, 200)].into()
        );
    }

    #[test]
    fn spreads_are_by_rank() {
        let spread = Spread::of((1..=200).rev().map(f64::from)).expect("there are some");
        let expected = (200, 100.0, 198.0, 200.0);
        let Spread {
            count,
            p50_ms,
            p99_ms,
            max_ms,
        } = spread;
        assert_eq!((count, p50_ms, p99_ms, max_ms), expected);
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([7.0]).map(|spread| spread.p99_ms), Some(7.0));
    }

    #[test]
    fn who_catches_up_is_calm_for_a_second() {
        let due = Due {
            first_ms: 0,
            rows_per_second: 100,
        };
        assert_eq!(due.at_ms(250), 2_500);
        // A row each 10 ms, which comes 5 ms late; those of the fourth second wait for its end.
        let came = |row: u64| match due.at_ms(row) {
            held @ 3_000..4_000 => held.max(4_000),
            other => other + 5,
        };
        let rows: Vec<Row> = (0..1_000)
            .map(|number| row(came(number), 1, number, 0))
            .collect();
        let caught = |to_ms| caught_up(&rows, due, (3_000, to_ms), 50.0);
        // The piece in which they all come is late, too.
        assert_eq!(caught(9_000), Some(1_100));
        assert_eq!(caught(4_500), None);
        let before = lateness(&rows, due, 0, 3_000).expect("rows");
        assert!((before.max_ms - 5.0).abs() < f64::EPSILON);
        let after = lateness(&rows, due, 3_000, 5_000).expect("rows");
        assert!((after.max_ms - 1_000.0).abs() < f64::EPSILON);
    }
}
