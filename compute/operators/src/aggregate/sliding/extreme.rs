//! MIN and MAX of a frame: the values that may still be it, each better than all behind it that came
//! before. (The monotonic queue of sliding window minima.)

use std::collections::VecDeque;

use arrow::{
    array::{Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType},
    compute::cast,
    datatypes::DataType,
};
use engine::operator::OperatorError;

use super::Sliding;
use crate::aggregate::{
    native::{Native, array_of, primitive},
    steps::Steps,
};

/// Candidates by slot.
pub(super) struct Extreme<T: ArrowPrimitiveType> {
    greatest: bool,
    slots: Vec<Candidates<T::Native>>,
    /// Of the argument and the result; BOOLEAN is compared as 0 and 1.
    data_type: DataType,
    /// Bytes of all candidates.
    heap: usize,
}

/// Values and how many came before each, the best one first.
#[derive(Clone, Default)]
struct Candidates<N> {
    queue: VecDeque<(u64, N)>,
    /// Values that came, and that went.
    came: u64,
    gone: u64,
}

impl<N: ArrowNativeTypeOp> Candidates<N> {
    fn push(&mut self, value: N, greatest: bool) {
        let beats = |old: N| match greatest {
            true => value.is_ge(old),
            false => value.is_le(old),
        };
        while self.queue.back().is_some_and(|(_, old)| beats(*old)) {
            self.queue.pop_back();
        }
        self.queue.push_back((self.came, value));
        self.came += 1;
    }

    /// The oldest value leaves.
    fn pop(&mut self) {
        if self.queue.front().is_some_and(|(at, _)| *at == self.gone) {
            self.queue.pop_front();
        }
        self.gone += 1;
    }

    fn memory(&self) -> usize {
        self.queue.capacity() * size_of::<(u64, N)>()
    }
}

impl<T: ArrowPrimitiveType> Extreme<T> {
    pub(super) fn new(greatest: bool, data_type: DataType) -> Self {
        Extreme {
            greatest,
            slots: Vec::new(),
            data_type,
            heap: 0,
        }
    }
}

impl<T: ArrowPrimitiveType> Sliding for Extreme<T>
where
    T::Native: Native,
{
    fn reserve(&mut self, slots: usize) {
        if self.slots.len() < slots {
            self.slots.resize(slots, Candidates::default());
        }
    }

    fn reset(&mut self, slot: u32) {
        self.heap -= std::mem::take(&mut self.slots[slot as usize]).memory();
    }

    fn run(&mut self, steps: &Steps<'_>, args: &[ArrayRef]) -> Result<ArrayRef, OperatorError> {
        let column = numbers(&args[0], &self.data_type)?;
        let column = primitive::<T>(&column)?;
        let values = &column.values()[..];
        let greatest = self.greatest;
        let told = Vec::with_capacity(steps.results.len());
        let valid: Vec<bool> = Vec::with_capacity(steps.results.len());
        let mut state = (&mut self.slots[..], &mut self.heap, told, valid);
        steps.run(
            column.nulls(),
            &mut state,
            |(slots, heap, ..), slot, row, comes| {
                let candidates = &mut slots[slot];
                if comes {
                    let before = candidates.memory();
                    candidates.push(values[row], greatest);
                    **heap = **heap + candidates.memory() - before;
                } else {
                    candidates.pop();
                }
            },
            |(slots, _, told, valid), slot| {
                let best = slots[slot].queue.front();
                told.push(best.map(|(_, value)| *value).unwrap_or_default());
                valid.push(best.is_some());
            },
        );
        let (_, _, told, valid) = state;
        results::<T>(&self.data_type, told, valid)
    }

    fn memory(&self) -> usize {
        self.slots.len() * size_of::<Candidates<T::Native>>() + self.heap
    }
}

/// The column as primitive values.
pub(super) fn numbers(column: &ArrayRef, data_type: &DataType) -> Result<ArrayRef, OperatorError> {
    Ok(match data_type {
        DataType::Boolean => cast(column, &DataType::Int8)?,
        _ => column.clone(),
    })
}

/// Primitive values as the column that they were.
pub(super) fn results<T: ArrowPrimitiveType>(
    data_type: &DataType,
    values: Vec<T::Native>,
    valid: Vec<bool>,
) -> Result<ArrayRef, OperatorError> {
    let valid = valid.into_iter();
    Ok(match data_type {
        DataType::Boolean => cast(&array_of::<T>(&T::DATA_TYPE, values, valid), data_type)?,
        _ => array_of::<T>(data_type, values, valid),
    })
}
