//! Accumulators: the running values of one aggregate call for all groups, as columns by slot.
//!
//! [`Accumulator`] is called once per batch and call, never per row. Its *partial* columns carry
//! a running value to another accumulator of the same call: from a local aggregation over an
//! exchange, or from a slice into a window.
//!
//! | call | partial columns |
//! |---|---|
//! | COUNT | BIGINT |
//! | SUM | the sum, NULL if there was no value |
//! | AVG | sum (BIGINT, DOUBLE or DECIMAL(38, s)), count (BIGINT) |
//! | MIN, MAX, FIRST_VALUE, LAST_VALUE | the value |
//! | all others | BYTES |

mod average;
mod bytes;
mod count;
mod elements;
mod elements_result;
mod pick;
mod pick_bytes;
mod sum;
mod variance;

use arrow::{array::ArrayRef, datatypes::DataType};
use engine::operator::OperatorError;
use proto::plan::AggregateFunction;

pub(crate) use pick::Rule;

use self::{
    average::Average,
    count::Count,
    elements::Elements,
    elements_result::ElementsResult,
    pick::Pick,
    pick_bytes::PickBytes,
    sum::Sum,
    variance::{ExactVariance, Variance, VarianceResult},
};
use super::{native::with_primitive, rows::Rows, steps::Steps};

/// The running values of one call.
pub(crate) trait Accumulator: Send {
    /// Makes room for slots below `slots`.
    fn reserve(&mut self, slots: usize);

    /// A new group begins in `slot`.
    fn reset(&mut self, slot: u32);

    /// Takes rows in; NULLs as the call wants it.
    fn update(&mut self, rows: &Rows<'_>, args: &[ArrayRef]) -> Result<(), OperatorError>;

    /// Takes rows in, or back, one after the other, and tells results in between.
    fn run(&mut self, steps: &Steps<'_>, args: &[ArrayRef]) -> Result<ArrayRef, OperatorError>;

    /// Takes partial columns in.
    fn update_partial(
        &mut self,
        rows: &Rows<'_>,
        partials: &[ArrayRef],
    ) -> Result<(), OperatorError>;

    /// Adds what slot `from` has to slot `into`, so that rows of both may be taken back.
    fn merge_within(&mut self, into: u32, from: u32) -> Result<(), OperatorError> {
        let partials = self.partials(&[from])?;
        self.update_partial(&Rows::all(&[into]), &partials)
    }

    /// The partial columns of slots.
    fn partials(&self, slots: &[u32]) -> Result<Vec<ArrayRef>, OperatorError>;

    /// The results of slots.
    fn results(&self, slots: &[u32]) -> Result<ArrayRef, OperatorError>;

    /// Appends the bytes of a slot.
    fn encode(&self, slot: u32, out: &mut Vec<u8>);

    /// Reads bytes that [`Accumulator::encode`] wrote off the front.
    fn decode(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<(), String>;

    /// Slots from `slots` on, in which there are no groups, are not there any more.
    fn truncate(&mut self, slots: usize);

    /// Bytes of memory.
    fn memory(&self) -> usize;

    /// Bytes of it that are not a fixed number per slot, and how many of those are free.
    fn heap_memory(&self) -> (usize, usize) {
        (0, 0)
    }
}

/// What an accumulator is made for.
pub(crate) struct AccumulatorSpec<'a> {
    /// The function.
    pub(crate) function: AggregateFunction,
    /// Types of its arguments. Of the partial columns, if it takes those.
    pub(crate) args: &'a [DataType],
    /// Type of the result.
    pub(crate) result: &'a DataType,
    /// Whether rows may be taken back.
    pub(crate) retracts: bool,
}

/// Makes an accumulator.
pub(crate) fn accumulator(
    spec: &AccumulatorSpec<'_>,
) -> Result<Box<dyn Accumulator>, OperatorError> {
    use AggregateFunction as F;
    let result = spec.result.clone();
    let unsupported = || {
        let types: Vec<String> = spec.args.iter().map(ToString::to_string).collect();
        OperatorError::Plan(format!(
            "{} of ({}) is not supported",
            spec.function,
            types.join(", ")
        ))
    };
    if spec.function == F::Count {
        return Ok(Box::new(Count::default()));
    }
    let arg = spec.args.first().ok_or_else(unsupported)?.clone();
    let elements = |result: ElementsResult| -> Result<Box<dyn Accumulator>, OperatorError> {
        Ok(Box::new(Elements::new(spec.args, result)?))
    };
    match spec.function {
        F::Count => Ok(Box::new(Count::default())),
        F::Sum => {
            with_primitive!(&arg, T => Ok(Box::new(Sum::<T>::new(result))), else Err(unsupported()))
        }
        F::Avg => Average::make(&arg, result).ok_or_else(unsupported),
        F::Min => picked(Rule::Min, arg, unsupported),
        F::Max => picked(Rule::Max, arg, unsupported),
        F::FirstValue if spec.retracts => elements(ElementsResult::First),
        F::LastValue if spec.retracts => elements(ElementsResult::Last),
        F::FirstValue => picked(Rule::First, arg, unsupported),
        F::LastValue => picked(Rule::Last, arg, unsupported),
        F::StddevPop | F::StddevSamp | F::VarPop | F::VarSamp => {
            let how = VarianceResult {
                sample: matches!(spec.function, F::StddevSamp | F::VarSamp),
                root: matches!(spec.function, F::StddevPop | F::StddevSamp),
                data_type: result,
            };
            match arg {
                DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
                    Ok(Box::new(ExactVariance::new(how)))
                }
                DataType::Float32 | DataType::Float64 | DataType::Decimal128(..) => {
                    Ok(Box::new(Variance::new(how)))
                }
                _ => Err(unsupported()),
            }
        }
        F::SingleValue => elements(ElementsResult::Single),
        F::ListAgg if arg == DataType::Utf8 => elements(ElementsResult::Text {
            separated: spec.args.len() > 1,
        }),
        F::ArrayAgg => elements(ElementsResult::Array(result)),
        F::Collect => elements(ElementsResult::Multiset(result)),
        F::Percentile if spec.args.len() == 2 => elements(ElementsResult::Percentile(result)),
        _ => Err(unsupported()),
    }
}

fn picked(
    rule: Rule,
    arg: DataType,
    unsupported: impl Fn() -> OperatorError,
) -> Result<Box<dyn Accumulator>, OperatorError> {
    if arg == DataType::Boolean {
        return Ok(Box::new(Pick::<arrow::datatypes::Int8Type>::new(rule, arg)));
    }
    with_primitive!(&arg, T => Ok(Box::new(Pick::<T>::new(rule, arg))), else {
        PickBytes::new(rule, arg)?.map(|pick| Box::new(pick) as _).ok_or_else(unsupported)
    })
}

/// The error of bytes that end too early.
fn short() -> String {
    "an accumulator has too few bytes".to_owned()
}
