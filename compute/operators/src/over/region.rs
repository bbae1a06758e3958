//! Which results of a partition a change of its rows may change.

use super::{
    frame::{Frame, InOrder},
    shape::{Output, OverShape},
};
use crate::rank::Ranking;

/// Rows of a partition in order, each as often as there are copies of it.
pub(super) struct Listed<'a> {
    pub(super) ranking: &'a Ranking,
    pub(super) slots: &'a [u32],
    /// By row, where frames are a range of it, in a unit of which a millisecond has so many.
    pub(super) times: Option<(&'a [i64], i64)>,
}

impl Listed<'_> {
    fn key(&self, at: usize) -> &[u8] {
        self.ranking.order_key(self.slots[at])
    }
}

impl InOrder for Listed<'_> {
    fn begins(&self, at: usize) -> bool {
        self.key(at) != self.key(at - 1)
    }

    /// In milliseconds, rounded up: what is a little further away than some is not within it. The order
    /// may descend.
    fn distance(&self, from: usize, to: usize) -> i64 {
        let Some((times, per_ms)) = self.times else {
            return 0;
        };
        let units = times[to].saturating_sub(times[from]).saturating_abs();
        units / per_ms + i64::from(units % per_ms != 0)
    }
}

/// The same place in the rows of a partition before and after a change, and where the results end that
/// may differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Region {
    pub(super) start: usize,
    pub(super) before_end: usize,
    pub(super) after_end: usize,
}

/// How far a change of a row reaches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    frame: Frame,
    has_aggregates: bool,
    /// All rows after it are concerned.
    to_the_end: bool,
    /// So many rows after it are.
    rows: usize,
}

impl Reach {
    pub(super) fn of(shape: &OverShape) -> Reach {
        let has_aggregates = !shape.aggregates.is_empty();
        let has_numbers = shape
            .outputs
            .iter()
            .any(|output| matches!(output, Output::Number(_)));
        let lags = shape.lags.iter().map(|lag| lag.offset).max().unwrap_or(0);
        let frame = match shape.frame {
            Frame::Rows(rows) if has_aggregates => usize::try_from(rows).unwrap_or(usize::MAX),
            _ => 0,
        };
        let is_unbounded = matches!(shape.frame, Frame::Unbounded { .. });
        Reach {
            frame: shape.frame,
            has_aggregates,
            to_the_end: has_numbers || has_aggregates && is_unbounded,
            rows: lags.max(frame),
        }
    }

    /// Whether rows that the order does not tell apart see each other.
    fn has_peers(&self) -> bool {
        self.has_aggregates && self.frame.has_peers()
    }

    /// What may differ between two lists of rows; `None`: nothing.
    pub(super) fn region(&self, before: &Listed<'_>, after: &Listed<'_>) -> Option<Region> {
        let (old, new) = (before.slots, after.slots);
        let same = |(a, b): &(&u32, &u32)| a == b;
        let prefix = old.iter().zip(new).take_while(same).count();
        if prefix == old.len() && prefix == new.len() {
            return None;
        }
        let rest = old.len().min(new.len()) - prefix;
        let suffix = old.iter().rev().zip(new.iter().rev()).take(rest);
        let suffix = suffix.take_while(same).count();
        let changed = [(before, old.len() - suffix), (after, new.len() - suffix)];
        let mut start = prefix;
        let is_peer = |(list, end): &(&Listed<'_>, usize)| {
            *end > prefix && prefix > 0 && !list.begins(prefix)
        };
        if self.has_peers() && changed.iter().any(is_peer) {
            start -= 1;
            while start > 0 && !before.begins(start) {
                start -= 1;
            }
        }
        let concerned = match self.to_the_end {
            true => suffix,
            false => self.concerned(&changed, prefix, suffix),
        };
        Some(Region {
            start,
            before_end: old.len() - suffix + concerned,
            after_end: new.len() - suffix + concerned,
        })
    }

    /// How many of the rows behind a change it concerns. Each list comes with where its change ends.
    fn concerned(
        &self,
        changed: &[(&Listed<'_>, usize); 2],
        prefix: usize,
        suffix: usize,
    ) -> usize {
        let by_rows = self.rows.min(suffix);
        let Frame::Range(reach) = self.frame else {
            return by_rows;
        };
        if !self.has_aggregates {
            return by_rows;
        }
        let by_range = changed.iter().filter(|(_, end)| *end > prefix);
        let by_range = by_range.map(|(list, end)| {
            let sees = |at: &usize| match reach {
                0 => (*end..=*at).all(|at| !list.begins(at)),
                _ => list.distance(end - 1, *at) <= reach,
            };
            (*end..end + suffix).take_while(sees).count()
        });
        by_range.max().unwrap_or(0).max(by_rows)
    }

    /// Where the rows begin that the results from `start` on are of.
    pub(super) fn context(&self, rows: &Listed<'_>, start: usize) -> usize {
        let by_rows = start.saturating_sub(self.rows);
        if !self.has_aggregates {
            return by_rows;
        }
        match self.frame {
            Frame::Unbounded { .. } => 0,
            Frame::Rows(_) => by_rows,
            Frame::Range(0) => by_rows.min(first_peer(rows, start)),
            Frame::Range(reach) => {
                let sees =
                    |at: &usize| start < rows.slots.len() && rows.distance(*at, start) <= reach;
                let seen = (0..start).rev().take_while(sees).count();
                by_rows.min(start - seen)
            }
        }
    }
}

/// The first row that the order does not tell apart from a row.
pub(super) fn first_peer(rows: &Listed<'_>, at: usize) -> usize {
    let mut first = at.min(rows.slots.len());
    while first > 0 && first < rows.slots.len() && !rows.begins(first) {
        first -= 1;
    }
    first
}
