//! SUM, wrapping around in the type of its argument.

use arrow::{
    array::{Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType},
    datatypes::DataType,
};
use engine::operator::OperatorError;

use super::{Accumulator, short};
use crate::aggregate::{
    native::{Native, array_of, primitive},
    rows::Rows,
    steps::Steps,
};

/// Largest unscaled DECIMAL of 38 digits.
pub(super) const DECIMAL_MAX: i128 = 10_i128.pow(38) - 1;

/// Sums, and of how many values each is: a sum of none is NULL.
pub(super) struct Sum<T: ArrowPrimitiveType> {
    sums: Vec<T::Native>,
    counts: Vec<i64>,
    result: DataType,
}

impl<T: ArrowPrimitiveType> Sum<T> {
    pub(super) fn new(result: DataType) -> Self {
        Sum {
            sums: Vec::new(),
            counts: Vec::new(),
            result,
        }
    }

    /// The greatest sum that is one, where there is a bound.
    fn limit(&self) -> Option<T::Native> {
        match self.result {
            DataType::Decimal128(..) => i128_of::<T>(DECIMAL_MAX),
            _ => None,
        }
    }
}

fn fits<N: ArrowNativeTypeOp>(sum: N, limit: Option<N>) -> bool {
    limit.is_none_or(|limit| sum.is_le(limit) && sum.is_ge(limit.neg_wrapping()))
}

/// The value as a native of a DECIMAL; `None` for other types.
fn i128_of<T: ArrowPrimitiveType>(value: i128) -> Option<T::Native> {
    let value: &dyn std::any::Any = &value;
    value.downcast_ref::<T::Native>().copied()
}

impl<T: ArrowPrimitiveType> Accumulator for Sum<T>
where
    T::Native: Native,
{
    fn reserve(&mut self, slots: usize) {
        if self.sums.len() < slots {
            self.sums.resize(slots, T::Native::ZERO);
            self.counts.resize(slots, 0);
        }
    }

    fn reset(&mut self, slot: u32) {
        self.sums[slot as usize] = T::Native::ZERO;
        self.counts[slot as usize] = 0;
    }

    fn update(&mut self, rows: &Rows<'_>, args: &[ArrayRef]) -> Result<(), OperatorError> {
        let column = primitive::<T>(&args[0])?;
        let values = &column.values()[..];
        let (sums, counts) = (&mut self.sums[..], &mut self.counts[..]);
        rows.for_each_valid(column.nulls(), |slot, row, add| {
            if add {
                sums[slot] = sums[slot].add_wrapping(values[row]);
                counts[slot] += 1;
            } else {
                sums[slot] = sums[slot].sub_wrapping(values[row]);
                counts[slot] -= 1;
            }
        });
        Ok(())
    }

    fn run(&mut self, steps: &Steps<'_>, args: &[ArrayRef]) -> Result<ArrayRef, OperatorError> {
        let column = primitive::<T>(&args[0])?;
        let values = &column.values()[..];
        let limit = self.limit();
        let told = Vec::with_capacity(steps.results.len());
        let valid: Vec<bool> = Vec::with_capacity(steps.results.len());
        let mut state = (&mut self.sums[..], &mut self.counts[..], told, valid);
        steps.run(
            column.nulls(),
            &mut state,
            |(sums, counts, ..), slot, row, comes| {
                if comes {
                    sums[slot] = sums[slot].add_wrapping(values[row]);
                    counts[slot] += 1;
                } else {
                    sums[slot] = sums[slot].sub_wrapping(values[row]);
                    counts[slot] -= 1;
                }
            },
            |(sums, counts, told, valid), slot| {
                told.push(sums[slot]);
                valid.push(counts[slot] != 0 && fits(sums[slot], limit));
            },
        );
        let (_, _, told, valid) = state;
        Ok(array_of::<T>(&self.result, told, valid.into_iter()))
    }

    fn update_partial(
        &mut self,
        rows: &Rows<'_>,
        partials: &[ArrayRef],
    ) -> Result<(), OperatorError> {
        self.update(rows, partials)
    }

    fn merge_within(&mut self, into: u32, from: u32) -> Result<(), OperatorError> {
        let (into, from) = (into as usize, from as usize);
        self.sums[into] = self.sums[into].add_wrapping(self.sums[from]);
        self.counts[into] += self.counts[from];
        Ok(())
    }

    fn partials(&self, slots: &[u32]) -> Result<Vec<ArrayRef>, OperatorError> {
        Ok(vec![self.results(slots)?])
    }

    fn results(&self, slots: &[u32]) -> Result<ArrayRef, OperatorError> {
        let sums = slots.iter().map(|slot| self.sums[*slot as usize]).collect();
        let limit = self.limit();
        let valid = |slot: &u32| {
            let slot = *slot as usize;
            self.counts[slot] != 0 && fits(self.sums[slot], limit)
        };
        Ok(array_of::<T>(&self.result, sums, slots.iter().map(valid)))
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        self.sums[slot as usize].write(out);
        self.counts[slot as usize].write(out);
    }

    fn decode(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<(), String> {
        self.sums[slot as usize] = T::Native::read(bytes).ok_or_else(short)?;
        self.counts[slot as usize] = i64::read(bytes).ok_or_else(short)?;
        Ok(())
    }

    fn truncate(&mut self, slots: usize) {
        self.sums.truncate(slots);
        self.sums.shrink_to_fit();
        self.counts.truncate(slots);
        self.counts.shrink_to_fit();
    }

    fn memory(&self) -> usize {
        self.sums.len() * size_of::<T::Native>() + self.counts.len() * 8
    }
}
