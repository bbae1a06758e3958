//! The running values of frames: rows also leave them, first in, first out. They are never saved,
//! since they follow from the frame's rows.
//!
//! | call | how a row leaves |
//! |---|---|
//! | COUNT; SUM, AVG of integers and decimals; STDDEV and VAR of integers | it is subtracted, exactly |
//! | SUM, AVG of floats | likewise: the sum is kept exactly, in as many digits as it takes |
//! | MIN, MAX | out of a list of those that could still be it |
//! | FIRST_VALUE, LAST_VALUE | out of the list of values; the last one goes with all others |
//!
//! All others are computed from the frame's rows anew, for each row: what would have to be kept of
//! them is all values, or (variances of floats) cannot be taken back exactly.

mod ends;
mod exact_sum;
mod extreme;
mod float_sum;

use arrow::{array::ArrayRef, datatypes::DataType};
use engine::operator::OperatorError;
use proto::plan::AggregateFunction as F;

use self::{ends::Ends, extreme::Extreme, float_sum::FloatSum};
use super::{
    accumulator::{Accumulator, AccumulatorSpec, accumulator},
    native::with_primitive,
    plan::AccumulatorPlan,
    steps::Steps,
};

/// The running values of one call, by slot.
pub(crate) trait Sliding: Send {
    /// Makes room for slots below `slots`.
    fn reserve(&mut self, slots: usize);

    /// Nothing is in a slot.
    fn reset(&mut self, slot: u32);

    /// Takes rows in and lets them go, those of a slot in the order in which they came.
    fn run(&mut self, steps: &Steps<'_>, args: &[ArrayRef]) -> Result<ArrayRef, OperatorError>;

    /// Bytes of memory.
    fn memory(&self) -> usize;
}

/// Makes the running values of a call; `None` where rows cannot leave.
pub(crate) fn sliding(call: &AccumulatorPlan) -> Result<Option<Box<dyn Sliding>>, OperatorError> {
    let arg = call.types.first();
    let is_float = matches!(arg, Some(DataType::Float32 | DataType::Float64));
    let is_integer = arg.is_some_and(DataType::is_signed_integer);
    Ok(match (call.function, arg) {
        (F::Count, _) => Some(subtracted(call)?),
        (F::Sum | F::Avg, _) if is_float => {
            let average = call.function == F::Avg;
            Some(Box::new(FloatSum::new(average, call.result.clone())))
        }
        (F::Sum | F::Avg, _) => Some(subtracted(call)?),
        (F::StddevPop | F::StddevSamp | F::VarPop | F::VarSamp, _) if is_integer => {
            Some(subtracted(call)?)
        }
        (F::Min | F::Max, Some(arg)) => extreme(call.function == F::Max, arg),
        (F::FirstValue | F::LastValue, Some(arg)) => ends(call.function == F::LastValue, arg),
        _ => None,
    })
}

fn extreme(greatest: bool, arg: &DataType) -> Option<Box<dyn Sliding>> {
    if *arg == DataType::Boolean {
        let extreme = Extreme::<arrow::datatypes::Int8Type>::new(greatest, arg.clone());
        return Some(Box::new(extreme));
    }
    with_primitive!(arg, T => Some(Box::new(Extreme::<T>::new(greatest, arg.clone()))), else None)
}

fn ends(last: bool, arg: &DataType) -> Option<Box<dyn Sliding>> {
    if *arg == DataType::Boolean {
        let ends = Ends::<arrow::datatypes::Int8Type>::new(last, arg.clone());
        return Some(Box::new(ends));
    }
    with_primitive!(arg, T => Some(Box::new(Ends::<T>::new(last, arg.clone()))), else None)
}

/// An accumulator that takes rows back exactly.
struct Subtracted(Box<dyn Accumulator>);

fn subtracted(call: &AccumulatorPlan) -> Result<Box<dyn Sliding>, OperatorError> {
    let accumulator = accumulator(&AccumulatorSpec {
        function: call.function,
        args: &call.types,
        result: &call.result,
        retracts: true,
    })?;
    Ok(Box::new(Subtracted(accumulator)))
}

impl Sliding for Subtracted {
    fn reserve(&mut self, slots: usize) {
        self.0.reserve(slots);
    }

    fn reset(&mut self, slot: u32) {
        self.0.reset(slot);
    }

    fn run(&mut self, steps: &Steps<'_>, args: &[ArrayRef]) -> Result<ArrayRef, OperatorError> {
        self.0.run(steps, args)
    }

    fn memory(&self) -> usize {
        self.0.memory()
    }
}
