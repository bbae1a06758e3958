//! SUM and AVG of floats in a frame.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, Float64Array},
    compute::cast,
    datatypes::{DataType, Float64Type},
};
use engine::operator::OperatorError;

use super::{Sliding, exact_sum::ExactSum};
use crate::aggregate::{native::primitive, steps::Steps};

/// Sums, and of how many values each is: a sum of none is NULL.
pub(super) struct FloatSum {
    average: bool,
    slots: Vec<(ExactSum, i64)>,
    result: DataType,
    /// Bytes of all digits.
    heap: usize,
}

impl FloatSum {
    /// `average`: AVG rather than SUM.
    pub(super) fn new(average: bool, result: DataType) -> Self {
        FloatSum {
            average,
            slots: Vec::new(),
            result,
            heap: 0,
        }
    }
}

impl Sliding for FloatSum {
    fn reserve(&mut self, slots: usize) {
        if self.slots.len() < slots {
            self.slots.resize_with(slots, Default::default);
        }
    }

    fn reset(&mut self, slot: u32) {
        let (sum, _) = std::mem::take(&mut self.slots[slot as usize]);
        self.heap -= sum.memory();
    }

    fn run(&mut self, steps: &Steps<'_>, args: &[ArrayRef]) -> Result<ArrayRef, OperatorError> {
        let widened = cast(&args[0], &DataType::Float64)?;
        let column = primitive::<Float64Type>(&widened)?;
        let values = &column.values()[..];
        let average = self.average;
        let told: Vec<Option<f64>> = Vec::with_capacity(steps.results.len());
        let mut state = (&mut self.slots[..], &mut self.heap, told);
        steps.run(
            column.nulls(),
            &mut state,
            |(slots, heap, _), slot, row, comes| {
                let (sum, count) = &mut slots[slot];
                let before = sum.memory();
                sum.change(values[row], comes);
                **heap = **heap + sum.memory() - before;
                *count += if comes { 1 } else { -1 };
            },
            |(slots, heap, told), slot| {
                let (sum, count) = &mut slots[slot];
                let before = sum.memory();
                let value = (*count != 0).then(|| sum.value());
                **heap = **heap + sum.memory() - before;
                told.push(match average {
                    true => value.map(|value| value / *count as f64),
                    false => value,
                });
            },
        );
        let told: ArrayRef = Arc::new(Float64Array::from(state.2));
        Ok(match self.result {
            DataType::Float64 => told,
            _ => cast(&told, &self.result)?,
        })
    }

    fn memory(&self) -> usize {
        self.slots.len() * size_of::<(ExactSum, i64)>() + self.heap
    }
}
