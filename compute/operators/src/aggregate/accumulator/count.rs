//! COUNT.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, Int64Array},
    datatypes::Int64Type,
};
use engine::operator::OperatorError;

use super::{Accumulator, short};
use crate::aggregate::{
    native::{Native as _, primitive},
    rows::Rows,
    steps::Steps,
};

/// Rows, or values of the only argument that are not NULL.
#[derive(Default)]
pub(super) struct Count {
    counts: Vec<i64>,
}

impl Accumulator for Count {
    fn reserve(&mut self, slots: usize) {
        if self.counts.len() < slots {
            self.counts.resize(slots, 0);
        }
    }

    fn reset(&mut self, slot: u32) {
        self.counts[slot as usize] = 0;
    }

    fn update(&mut self, rows: &Rows<'_>, args: &[ArrayRef]) -> Result<(), OperatorError> {
        let nulls = args.first().and_then(|column| column.logical_nulls());
        let counts = &mut self.counts[..];
        rows.for_each_valid(nulls.as_ref(), |slot, _, add| {
            counts[slot] += if add { 1 } else { -1 };
        });
        Ok(())
    }

    fn run(&mut self, steps: &Steps<'_>, args: &[ArrayRef]) -> Result<ArrayRef, OperatorError> {
        let nulls = args.first().and_then(|column| column.logical_nulls());
        let told = Vec::with_capacity(steps.results.len());
        let mut state = (&mut self.counts[..], told);
        steps.run(
            nulls.as_ref(),
            &mut state,
            |(counts, _), slot, _, comes| counts[slot] += if comes { 1 } else { -1 },
            |(counts, told), slot| told.push(counts[slot]),
        );
        Ok(Arc::new(Int64Array::from(state.1)))
    }

    fn update_partial(
        &mut self,
        rows: &Rows<'_>,
        partials: &[ArrayRef],
    ) -> Result<(), OperatorError> {
        let column = primitive::<Int64Type>(&partials[0])?;
        let values = column.values();
        rows.for_each_valid(column.nulls(), |slot, row, _| {
            self.counts[slot] += values[row]
        });
        Ok(())
    }

    fn partials(&self, slots: &[u32]) -> Result<Vec<ArrayRef>, OperatorError> {
        Ok(vec![self.results(slots)?])
    }

    fn results(&self, slots: &[u32]) -> Result<ArrayRef, OperatorError> {
        let counts = slots.iter().map(|slot| self.counts[*slot as usize]);
        Ok(Arc::new(Int64Array::from_iter_values(counts)))
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        self.counts[slot as usize].write(out);
    }

    fn decode(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<(), String> {
        self.counts[slot as usize] = i64::read(bytes).ok_or_else(short)?;
        Ok(())
    }

    fn truncate(&mut self, slots: usize) {
        self.counts.truncate(slots);
        self.counts.shrink_to_fit();
    }

    fn memory(&self) -> usize {
        self.counts.len() * 8
    }
}
