//! What each row of a batch sees of its partition: the kept rows, and those of the batch itself.

use std::collections::VecDeque;

use engine::Timestamp;

use super::{
    calls::Frames,
    frame::{Frame, FrameSteps, InOrder, go_through},
    shape::Lag,
};
use crate::{
    aggregate::StepList,
    rows::{OrderKeys, RowTable},
};

/// What calls are to do for a batch. Rows are numbered as those of the batch, then `old` ones.
pub(super) struct Looked {
    pub(super) steps: StepList,
    pub(super) frames: Frames,
    /// By LAG and row of the batch, the row that it is of.
    pub(super) lags: Vec<Vec<Option<u32>>>,
    /// Kept rows that are read.
    pub(super) old: Vec<u32>,
    wants_frames: bool,
    batch_rows: u32,
}

impl Looked {
    /// Of a batch of so many rows, with so many LAGs.
    pub(super) fn new(rows: usize, lags: usize, wants_frames: bool) -> Looked {
        Looked {
            steps: StepList::default(),
            frames: Frames::default(),
            lags: vec![vec![None; rows]; lags],
            old: Vec::new(),
            wants_frames,
            batch_rows: rows as u32,
        }
    }
}

/// A partition and the rows that come to it.
pub(super) struct LookBack<'a> {
    pub(super) frame: Frame,
    pub(super) lags: &'a [Lag],
    /// Kept rows, the oldest one first.
    pub(super) kept: &'a VecDeque<u32>,
    pub(super) table: &'a RowTable,
    /// Rows of the batch.
    pub(super) rows: &'a [u32],
    /// By row of the batch, where frames are a range of it.
    pub(super) times: Option<&'a [Timestamp]>,
    /// Tells rows of the batch apart; `None`: all are.
    pub(super) peers: Option<&'a OrderKeys>,
}

impl LookBack<'_> {
    /// Says what each row sees. Places are counted through kept rows and those of the batch; returns the
    /// first one that rows to come see.
    pub(super) fn go(&self, key_slot: u32, looked: &mut Looked) -> usize {
        let known = self.kept.len();
        let all = known + self.rows.len();
        let start = self.frame_start();
        let (from, to) = self.read_places(start, looked.wants_frames);
        let first_old = looked.batch_rows + looked.old.len() as u32;
        looked.old.extend(self.kept.range(from..to));
        let first_place = looked.frames.rows.len();
        if looked.wants_frames {
            let old = (first_old..).take(to - from);
            looked
                .frames
                .rows
                .extend(old.chain(self.rows.iter().copied()));
        }
        let row = |at: usize| match at.checked_sub(known) {
            Some(at) => self.rows[at],
            None => first_old + (at - from) as u32,
        };
        for (lag, sources) in self.lags.iter().zip(&mut looked.lags) {
            for (at, came) in (known..).zip(self.rows) {
                sources[*came as usize] = at.checked_sub(lag.offset).map(row);
            }
        }
        let mut walk = Walk {
            steps: &mut looked.steps,
            spans: looked.wants_frames.then_some(&mut looked.frames.spans),
            key_slot,
            row,
            // Of the place that stands first in `frames`.
            first: first_place as i64 - from as i64,
        };
        let mut start = go_through(self.frame, self, start, (known, all), &mut walk);
        if self.frame == Frame::Range(0) {
            // None of these rows is seen by another one to come.
            (start..all).for_each(|at| walk.goes(at));
            start = all;
        }
        let looked_back_at = self.lags.iter().map(|lag| lag.offset).max().unwrap_or(0);
        start.min(all.saturating_sub(looked_back_at))
    }

    /// Where the frame begins whose values are there.
    fn frame_start(&self) -> usize {
        let known = self.kept.len();
        match self.frame {
            Frame::Rows(rows) => {
                let rows = usize::try_from(rows).unwrap_or(usize::MAX);
                known.saturating_sub(rows)
            }
            _ => 0,
        }
    }

    /// Places of kept rows that are read: those that leave frames, or are asked for by LAG; or all that
    /// are in a frame.
    fn read_places(&self, start: usize, wants_frames: bool) -> (usize, usize) {
        let known = self.kept.len();
        let came = self.rows.len();
        let mut places = (known, 0);
        let mut read = |from: usize, to: usize| {
            if from < to.min(known) {
                places = (places.0.min(from), places.1.max(to.min(known)));
            }
        };
        if wants_frames {
            read(start, known);
        }
        match self.frame {
            Frame::Rows(rows) => {
                let rows = usize::try_from(rows).unwrap_or(usize::MAX);
                read(start, (known + came).saturating_sub(rows));
            }
            Frame::Range(reach) => {
                let last = known + came - 1;
                let leaves = |at: &usize| self.distance(*at, last) > reach;
                read(0, (0..known).take_while(leaves).count());
            }
            Frame::Unbounded { .. } => {}
        }
        for lag in self.lags {
            let from = known.saturating_sub(lag.offset);
            read(from, (known + came).saturating_sub(lag.offset));
        }
        match places {
            // Those of the batch follow them in frames.
            (from, to) if from < to && wants_frames => (from, to.max(known)),
            (from, to) if from < to => (from, to),
            _ => (known, known),
        }
    }

    fn time(&self, at: usize) -> Timestamp {
        match (at.checked_sub(self.kept.len()), self.times) {
            (Some(at), Some(times)) => times[self.rows[at] as usize],
            _ => self.table.stamp(self.kept[at]),
        }
    }
}

impl InOrder for LookBack<'_> {
    /// Kept rows are no peers of those that come.
    fn begins(&self, at: usize) -> bool {
        let came = at - self.kept.len();
        self.peers.is_none_or(|keys| {
            let row = |at: usize| keys.row(self.rows[at] as usize);
            came == 0 || row(came) != row(came - 1)
        })
    }

    fn distance(&self, from: usize, to: usize) -> i64 {
        self.time(to).saturating_sub(self.time(from))
    }
}

/// Writes down what happens to frames.
struct Walk<'a, R> {
    steps: &'a mut StepList,
    spans: Option<&'a mut Vec<(u32, u32)>>,
    key_slot: u32,
    row: R,
    first: i64,
}

impl<R: Fn(usize) -> u32> FrameSteps for Walk<'_, R> {
    fn comes(&mut self, at: usize) {
        self.steps.change(self.key_slot, (self.row)(at), true);
    }

    fn goes(&mut self, at: usize) {
        self.steps.change(self.key_slot, (self.row)(at), false);
    }

    fn is_complete(&mut self, _at: usize, start: usize, end: usize) {
        self.steps.result(self.key_slot);
        if let Some(spans) = &mut self.spans {
            let place = |at: usize| (at as i64 + self.first) as u32;
            spans.push((place(start), place(end)));
        }
    }
}
