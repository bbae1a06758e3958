//! The results of some rows of partitions that are kept in order: computed from the rows that they see.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int64Array},
    buffer::ScalarBuffer,
    datatypes::DataType,
};
use engine::{operator::OperatorError, schema::arrow_type};
use proto::{plan::OverNumber, types::Field};

use super::{
    calls::{FrameCalls, Frames},
    frame::{Frame, FrameSteps, InOrder as _, go_through},
    region::{Listed, Reach, first_peer},
    shape::{Output, OverShape, fail},
    values::ValueColumns,
};
use crate::{
    aggregate::StepList,
    rank::{RankShape, Ranking},
    rows::instants,
};

/// Computes results of rows.
pub(super) struct Results {
    calls: FrameCalls,
    values: ValueColumns,
    reach: Reach,
    /// What frames are a range of.
    time_column: Option<usize>,
}

/// Rows whose results are wanted, and what is to be done for them.
pub(super) struct Wanted<'a> {
    ranking: &'a Ranking,
    steps: StepList,
    frames: Frames,
    wants_frames: bool,
    /// Rows that calls read: slots of the ranking.
    rows: Vec<u32>,
    /// By result: its own row among them.
    own: Vec<u32>,
    /// By LAG and result: the row that it is of.
    lags: Vec<Vec<Option<u32>>>,
    /// By kind of number and result.
    numbers: [Vec<i64>; 3],
    partitions: u32,
}

impl Results {
    pub(super) fn new(shape: &OverShape, input: &[Field]) -> Result<Results, OperatorError> {
        let values = ValueColumns::new(shape, input)?;
        let time_column = match shape.frame {
            Frame::Range(reach) if reach > 0 => {
                shape.order_by.first().map(|key| key.column as usize)
            }
            _ => None,
        };
        if let Some(column) = time_column
            && !matches!(
                arrow_type(&input[column].data_type.logical),
                DataType::Timestamp(..)
            )
        {
            return fail("a frame that is a range of time has no order of time");
        }
        Ok(Results {
            calls: FrameCalls::new(&values.aggregates, &values.fields, shape.frame)?,
            values,
            reach: Reach::of(shape),
            time_column,
        })
    }

    /// How far changes reach.
    pub(super) fn reach(&self) -> &Reach {
        &self.reach
    }

    /// Nothing is wanted yet.
    pub(super) fn want<'a>(&self, ranking: &'a Ranking) -> Wanted<'a> {
        Wanted {
            ranking,
            steps: StepList::default(),
            frames: Frames::default(),
            wants_frames: self.calls.wants_frames(),
            rows: Vec::new(),
            own: Vec::new(),
            lags: vec![Vec::new(); self.values.lags.len()],
            numbers: Default::default(),
            partitions: 0,
        }
    }

    /// By row, the time that frames are a range of, in a unit of which a millisecond has so many.
    pub(super) fn times(
        &self,
        shape: &RankShape,
        ranking: &Ranking,
        slots: &[u32],
    ) -> Result<Option<(ScalarBuffer<i64>, i64)>, OperatorError> {
        let Some(column) = self.time_column else {
            return Ok(None);
        };
        let rows = ranking.bytes(slots.iter().copied());
        Ok(Some(instants(&shape.codec.decode_column(column, &rows)?)?))
    }

    /// By call, the results of what is wanted.
    pub(super) fn compute(
        &mut self,
        over: &OverShape,
        shape: &RankShape,
        wanted: Wanted<'_>,
    ) -> Result<Vec<ArrayRef>, OperatorError> {
        let rows = wanted.ranking.bytes(wanted.rows.iter().copied());
        let columns = self.values.columns.iter();
        let columns = columns.map(|column| shape.codec.decode_column(*column, &rows));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let columns = self.values.batch(columns, rows.len())?;
        let told = match self.values.aggregates.is_empty() {
            true => Vec::new(),
            false => {
                self.calls.reserve(wanted.partitions as usize);
                let (steps, frames) = (&wanted.steps, &wanted.frames);
                let told = self
                    .calls
                    .run(steps, frames, &columns, &wanted.ranking.index)?;
                // The next ones have other rows.
                (0..wanted.partitions).for_each(|slot| self.calls.reset(slot));
                self.calls.forget_values()?;
                told
            }
        };
        let own: Vec<&[u8]> = wanted.own.iter().map(|row| rows[*row as usize]).collect();
        let result = |output: &Output| match output {
            Output::Aggregate(call) => Ok(told[*call].clone()),
            Output::Lag(lag) => {
                let default = match over.lags[*lag].default {
                    Some(column) => Some(shape.codec.decode_column(column, &own)?),
                    None => None,
                };
                let sources = &wanted.lags[*lag];
                self.values.lag(*lag, sources, &columns, default.as_ref())
            }
            Output::Number(number) => {
                let Some(kind) = kind_of(*number) else {
                    return fail("an OVER call has an unknown number");
                };
                Ok(Arc::new(Int64Array::from(wanted.numbers[kind].clone())) as ArrayRef)
            }
        };
        over.outputs.iter().map(result).collect()
    }
}

/// Place of a number's kind among the lists.
fn kind_of(number: OverNumber) -> Option<usize> {
    match number {
        OverNumber::RowNumber => Some(0),
        OverNumber::Rank => Some(1),
        OverNumber::DenseRank => Some(2),
        OverNumber::Unspecified => None,
    }
}

impl Wanted<'_> {
    /// Wants the results of rows `start..end` of a partition. Returns the number of the first one.
    pub(super) fn add(
        &mut self,
        shape: &OverShape,
        reach: &Reach,
        list: &Listed<'_>,
        (start, end): (usize, usize),
    ) -> usize {
        let first = self.own.len();
        if start == end {
            return first;
        }
        let from = reach.context(list, start);
        let base = self.rows.len() as u32;
        self.rows.extend_from_slice(&list.slots[from..end]);
        let row = |at: usize| base + (at - from) as u32;
        self.own.extend((start..end).map(row));
        for (lag, sources) in shape.lags.iter().zip(&mut self.lags) {
            let source = |at: usize| at.checked_sub(lag.offset).map(row);
            sources.extend((start..end).map(source));
        }
        self.number(shape, list, (start, end));
        if !shape.aggregates.is_empty() {
            let place = self.frames.rows.len();
            if self.wants_frames {
                self.frames.rows.extend((from..end).map(row));
            }
            let mut walk = Walk {
                wanted: self,
                start,
                from,
                base,
                place,
            };
            go_through(shape.frame, list, from, (from, end), &mut walk);
        }
        self.partitions += 1;
        first
    }

    fn number(&mut self, shape: &OverShape, list: &Listed<'_>, (start, end): (usize, usize)) {
        if shape.has_number(OverNumber::RowNumber) {
            let numbers = (start..end).map(|at| at as i64 + 1);
            self.numbers[0].extend(numbers);
        }
        if shape.has_number(OverNumber::Rank) {
            let mut first = first_peer(list, start);
            for at in start..end {
                if at > 0 && list.begins(at) {
                    first = at;
                }
                self.numbers[1].push(first as i64 + 1);
            }
        }
        if shape.has_number(OverNumber::DenseRank) {
            let begins = |at: usize| at == 0 || list.begins(at);
            let mut peers = (0..start).filter(|at| begins(*at)).count() as i64;
            for at in start..end {
                peers += i64::from(begins(at));
                self.numbers[2].push(peers);
            }
        }
    }
}

/// Writes down what happens to frames.
struct Walk<'a, 'b> {
    wanted: &'a mut Wanted<'b>,
    /// The first row whose result is wanted, and the first that is read.
    start: usize,
    from: usize,
    /// Where that is among all rows that are read.
    base: u32,
    /// And among those of frames.
    place: usize,
}

impl Walk<'_, '_> {
    fn row(&self, at: usize) -> u32 {
        self.base + (at - self.from) as u32
    }
}

impl FrameSteps for Walk<'_, '_> {
    fn comes(&mut self, at: usize) {
        let row = self.row(at);
        self.wanted.steps.change(self.wanted.partitions, row, true);
    }

    fn goes(&mut self, at: usize) {
        let row = self.row(at);
        self.wanted.steps.change(self.wanted.partitions, row, false);
    }

    fn is_complete(&mut self, at: usize, start: usize, end: usize) {
        if at < self.start {
            return;
        }
        self.wanted.steps.result(self.wanted.partitions);
        if self.wanted.wants_frames {
            let place = |at: usize| (self.place + at - self.from) as u32;
            self.wanted.frames.spans.push((place(start), place(end)));
        }
    }
}
