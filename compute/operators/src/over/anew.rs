//! A call whose results are computed from all rows of each frame: those of which rows cannot leave.

use arrow::{
    array::{Array, ArrayRef, AsArray as _, RecordBatch},
    compute::concat,
};
use engine::{key::KeyEncoder, operator::OperatorError, state::KeyIndex};
use proto::{
    plan::AggregateFunction,
    types::{KeyGroupCount, KeyGroupSet},
};

use super::calls::Frames;
use crate::aggregate::{Accumulator, AccumulatorPlan, Rows};

/// Rows of frames that are taken in at once, about.
const ROWS_MAX: usize = 1 << 16;
/// A value that was not there before.
const NOWHERE: u32 = u32::MAX;

/// The call, with a slot for each result under way.
pub(super) struct Anew {
    accumulator: Box<dyn Accumulator>,
    /// Of DISTINCT, what tells values apart.
    values: Option<KeyEncoder>,
    slots: usize,
}

impl Anew {
    /// Of a planned call and an accumulator of it that takes nothing back.
    pub(super) fn new(
        call: &AccumulatorPlan,
        accumulator: Box<dyn Accumulator>,
    ) -> Result<Anew, OperatorError> {
        let values = match call.distinct {
            None => None,
            Some(_) => {
                let columns = (0..call.columns.len()).collect();
                Some(KeyEncoder::new(columns, call.types.clone())?)
            }
        };
        Ok(Anew {
            accumulator,
            values,
            slots: 0,
        })
    }

    /// The result of each frame.
    pub(super) fn run(
        &mut self,
        call: &AccumulatorPlan,
        frames: &Frames,
        columns: &RecordBatch,
        args: &[ArrayRef],
    ) -> Result<ArrayRef, OperatorError> {
        let filter = call
            .filter
            .map(|filter| columns.column(filter).as_boolean());
        let passes = |row: u32| {
            let row = row as usize;
            filter.is_none_or(|filter| filter.value(row) && !filter.is_null(row))
        };
        let before = match &self.values {
            None => None,
            Some(values) => Some(places_before(values, call, frames, args, &passes)?),
        };
        let (mut slots, mut rows) = (Vec::new(), Vec::new());
        let mut told = Vec::new();
        let mut results = 0_u32;
        for (at, (start, end)) in frames.spans.iter().enumerate() {
            for place in *start..*end {
                // Of equal values, only the first of the frame counts.
                let counts = before.as_ref().is_none_or(|before| {
                    before[place as usize].is_some_and(|at| at == NOWHERE || at < *start)
                });
                let row = frames.rows[place as usize];
                if counts && passes(row) {
                    slots.push(results);
                    rows.push(row);
                }
            }
            results += 1;
            if rows.len() >= ROWS_MAX || at + 1 == frames.spans.len() {
                told.push(self.take_in(&slots, &rows, results, args)?);
                slots.clear();
                rows.clear();
                results = 0;
            }
        }
        let told: Vec<&dyn Array> = told.iter().map(AsRef::as_ref).collect();
        match told.is_empty() {
            true => self.accumulator.results(&[]),
            false => Ok(concat(&told)?),
        }
    }

    /// The results of so many slots that have these rows.
    fn take_in(
        &mut self,
        slots: &[u32],
        rows: &[u32],
        results: u32,
        args: &[ArrayRef],
    ) -> Result<ArrayRef, OperatorError> {
        if self.slots < results as usize {
            self.slots = results as usize;
            self.accumulator.reserve(self.slots);
        }
        (0..results).for_each(|slot| self.accumulator.reset(slot));
        let rows = Rows {
            slots,
            indices: Some(rows),
            adds: None,
        };
        self.accumulator.update(&rows, args)?;
        let results: Vec<u32> = (0..results).collect();
        self.accumulator.results(&results)
    }
}

/// By place, the last place before it that has an equal value, which may be one of another partition;
/// `None` where the row does not count.
fn places_before(
    values: &KeyEncoder,
    call: &AccumulatorPlan,
    frames: &Frames,
    args: &[ArrayRef],
    passes: &dyn Fn(u32) -> bool,
) -> Result<Vec<Option<u32>>, OperatorError> {
    use AggregateFunction::{ArrayAgg, SingleValue};
    let keys = values.encode_arrays(args, args[0].len())?;
    let one = KeyGroupCount::new(1).unwrap_or(KeyGroupCount::DEFAULT);
    let mut index = KeyIndex::new(values.width(), one, &KeyGroupSet::all(one), false);
    let mut numbers = Vec::new();
    index.find_or_insert(&keys, &mut numbers, |_| {});
    let skips_null = !matches!(call.function, ArrayAgg | SingleValue);
    let nulls = args[0].logical_nulls().filter(|_| skips_null);
    let mut last = vec![NOWHERE; index.slots()];
    let place = |(place, row): (u32, &u32)| {
        let is_null = nulls
            .as_ref()
            .is_some_and(|nulls| nulls.is_null(*row as usize));
        if is_null || !passes(*row) {
            return None;
        }
        Some(std::mem::replace(
            &mut last[numbers[*row as usize] as usize],
            place,
        ))
    };
    Ok((0..).zip(&frames.rows).map(place).collect())
}
