//! FIRST_VALUE and LAST_VALUE of a frame: the oldest and the newest value that is not NULL.

use std::collections::VecDeque;

use arrow::{
    array::{Array, ArrayRef, ArrowPrimitiveType},
    datatypes::DataType,
};
use engine::operator::OperatorError;

use super::{
    Sliding,
    extreme::{numbers, results},
};
use crate::aggregate::{
    native::{Native, primitive},
    steps::Steps,
};

/// Values by slot.
pub(super) struct Ends<T: ArrowPrimitiveType> {
    last: bool,
    slots: Vec<Values<T::Native>>,
    /// Of the argument and the result.
    data_type: DataType,
    /// Bytes of all values.
    heap: usize,
}

/// Values in the order in which they came; where the last is asked for it is alone, and goes with the
/// last of all.
#[derive(Clone, Default)]
struct Values<N> {
    queue: VecDeque<N>,
    count: u64,
}

impl<N: Copy> Values<N> {
    fn push(&mut self, value: N, last: bool) {
        if last {
            self.queue.clear();
        }
        self.queue.push_back(value);
        self.count += 1;
    }

    /// The oldest value leaves.
    fn pop(&mut self, last: bool) {
        self.count -= 1;
        if !last || self.count == 0 {
            self.queue.pop_front();
        }
    }

    fn memory(&self) -> usize {
        self.queue.capacity() * size_of::<N>()
    }
}

impl<T: ArrowPrimitiveType> Ends<T> {
    pub(super) fn new(last: bool, data_type: DataType) -> Self {
        Ends {
            last,
            slots: Vec::new(),
            data_type,
            heap: 0,
        }
    }
}

impl<T: ArrowPrimitiveType> Sliding for Ends<T>
where
    T::Native: Native,
{
    fn reserve(&mut self, slots: usize) {
        if self.slots.len() < slots {
            self.slots.resize(slots, Values::default());
        }
    }

    fn reset(&mut self, slot: u32) {
        self.heap -= std::mem::take(&mut self.slots[slot as usize]).memory();
    }

    fn run(&mut self, steps: &Steps<'_>, args: &[ArrayRef]) -> Result<ArrayRef, OperatorError> {
        let column = numbers(&args[0], &self.data_type)?;
        let column = primitive::<T>(&column)?;
        let values = &column.values()[..];
        let last = self.last;
        let told = Vec::with_capacity(steps.results.len());
        let valid: Vec<bool> = Vec::with_capacity(steps.results.len());
        let mut state = (&mut self.slots[..], &mut self.heap, told, valid);
        steps.run(
            column.nulls(),
            &mut state,
            |(slots, heap, ..), slot, row, comes| {
                let there = &mut slots[slot];
                if comes {
                    let before = there.memory();
                    there.push(values[row], last);
                    **heap = **heap + there.memory() - before;
                } else {
                    there.pop(last);
                }
            },
            |(slots, _, told, valid), slot| {
                let value = slots[slot].queue.front().copied();
                told.push(value.unwrap_or_default());
                valid.push(value.is_some());
            },
        );
        let (_, _, told, valid) = state;
        results::<T>(&self.data_type, told, valid)
    }

    fn memory(&self) -> usize {
        self.slots.len() * size_of::<Values<T::Native>>() + self.heap
    }
}
