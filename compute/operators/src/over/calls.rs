//! The aggregate calls of one node over frames: which values run along, and which are computed from
//! the frame's rows anew.

use arrow::array::{ArrayRef, RecordBatch};
use engine::{operator::OperatorError, state::KeyIndex};
use proto::{plan::AggregateCall, types::Field};

use super::{anew::Anew, frame::Frame};
use crate::aggregate::{
    Accumulator, AggregatePlan, DistinctTable, Output, Rowset, Sliding, StepList, sliding,
};

/// Rows of frames for calls that are computed anew.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// Rows of the columns, partition by partition in order.
    pub(super) rows: Vec<u32>,
    /// By result: its frame, from one place among them to before another.
    pub(super) spans: Vec<(u32, u32)>,
}

/// What computes a call.
enum Values {
    /// Rows leave it.
    Sliding(Box<dyn Sliding>),
    /// Rows only come.
    Growing(Box<dyn Accumulator>),
    Anew(Anew),
}

/// The calls of a node over some columns.
pub(super) struct FrameCalls {
    plan: AggregatePlan,
    /// By planned call.
    values: Vec<Values>,
    distincts: Vec<DistinctTable>,
    slots: usize,
}

impl FrameCalls {
    /// Calls over columns `fields`.
    pub(super) fn new(
        calls: &[AggregateCall],
        fields: &[Field],
        frame: Frame,
    ) -> Result<FrameCalls, OperatorError> {
        let plan = AggregatePlan::new(calls, fields, Rowset::Appended)?;
        let grows = matches!(frame, Frame::Unbounded { .. });
        let mut values = Vec::with_capacity(plan.accumulators.len());
        for (call, accumulator) in plan.accumulators.iter().zip(plan.accumulators()?) {
            values.push(match grows {
                true => Values::Growing(accumulator),
                false => match sliding(call)? {
                    Some(sliding) => Values::Sliding(sliding),
                    None => Values::Anew(Anew::new(call, accumulator)?),
                },
            });
        }
        let mut calls = FrameCalls {
            distincts: Vec::new(),
            values,
            slots: 0,
            plan,
        };
        calls.forget_values()?;
        Ok(calls)
    }

    /// Whether a call wants to see all rows of each frame.
    pub(super) fn wants_frames(&self) -> bool {
        let is_anew = |values: &Values| matches!(values, Values::Anew(_));
        self.values.iter().any(is_anew)
    }

    /// Whether anything of a slot is kept that [`FrameCalls::reset`] does not forget.
    pub(super) fn has_distinct(&self) -> bool {
        !self.distincts.is_empty()
    }

    /// Makes room for slots below `slots`.
    pub(super) fn reserve(&mut self, slots: usize) {
        if slots <= self.slots {
            return;
        }
        // By more than one, so that columns are not resized slot by slot.
        self.slots = slots.next_power_of_two().max(64);
        for values in &mut self.values {
            match values {
                Values::Sliding(values) => values.reserve(self.slots),
                Values::Growing(values) => values.reserve(self.slots),
                Values::Anew(_) => {}
            }
        }
    }

    /// Nothing is in a slot any more; its distinct values have left one by one.
    pub(super) fn reset(&mut self, slot: u32) {
        for values in &mut self.values {
            match values {
                Values::Sliding(values) => values.reset(slot),
                Values::Growing(values) => values.reset(slot),
                Values::Anew(_) => {}
            }
        }
    }

    /// Forgets the distinct values of all slots.
    pub(super) fn forget_values(&mut self) -> Result<(), OperatorError> {
        let tables = self.plan.distincts.iter().enumerate();
        let tables = tables.map(|(number, table)| DistinctTable::unsaved(number, table));
        self.distincts = tables.collect::<Result<_, _>>()?;
        Ok(())
    }

    /// Goes through the steps, whose rows are those of `columns`: by call, its results. `frames` are
    /// needed if they are wanted.
    pub(super) fn run(
        &mut self,
        steps: &StepList,
        frames: &Frames,
        columns: &RecordBatch,
        index: &KeyIndex,
    ) -> Result<Vec<ArrayRef>, OperatorError> {
        let mut news = Vec::with_capacity(self.distincts.len());
        for table in &mut self.distincts {
            let keys = table.keys(columns)?;
            let mut selections = Vec::new();
            table.update(index, &steps.rows(), columns, &keys, &mut selections);
            let selected = selections.iter().map(|selection| steps.selected(selection));
            news.push(selected.collect::<Vec<StepList>>());
        }
        let mut told = Vec::with_capacity(self.values.len());
        for (values, call) in self.values.iter_mut().zip(&self.plan.accumulators) {
            let args = call.columns.iter().map(|column| columns.column(*column));
            let args: Vec<ArrayRef> = args.cloned().collect();
            let filtered;
            let steps = match call.distinct {
                Some((table, filter)) => &news[table][filter],
                None => {
                    filtered = call.filtered(steps, columns);
                    filtered.as_ref().unwrap_or(steps)
                }
            };
            told.push(match values {
                Values::Sliding(values) => values.run(&steps.steps(), &args)?,
                Values::Growing(values) => values.run(&steps.steps(), &args)?,
                Values::Anew(values) => values.run(call, frames, columns, &args)?,
            });
        }
        let result = |output: &Output| match output {
            Output::Accumulator(index) => Ok(told[*index].clone()),
            Output::Ordered { .. } => Err(OperatorError::Plan("values in order".to_owned())),
        };
        self.plan.outputs.iter().map(result).collect()
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        let of = |values: &Values| match values {
            Values::Sliding(values) => values.memory(),
            Values::Growing(values) => values.memory(),
            Values::Anew(_) => 0,
        };
        let values: usize = self.values.iter().map(of).sum();
        values
            + self
                .distincts
                .iter()
                .map(DistinctTable::memory)
                .sum::<usize>()
    }
}
