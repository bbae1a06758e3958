//! AVG: integers truncate, DECIMALs round half up to the result's scale.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, Int64Array},
    compute::cast,
    datatypes::{DataType, Decimal128Type, Float64Type, Int64Type},
};
use engine::operator::OperatorError;

use super::{Accumulator, short, sum::DECIMAL_MAX};
use crate::aggregate::{
    native::{Native, array_of, primitive},
    rows::Rows,
    steps::Steps,
};

/// Sums in the widest type of the argument's family, and counts.
pub(super) struct Average<T: ArrowPrimitiveType> {
    sums: Vec<T::Native>,
    counts: Vec<i64>,
    /// Type of the sums as a partial column.
    sum_type: DataType,
    result: DataType,
}

impl Average<Int64Type> {
    /// For an argument, or a partial sum, of type `arg`.
    pub(super) fn make(arg: &DataType, result: DataType) -> Option<Box<dyn Accumulator>> {
        Some(match arg {
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
                Box::new(Average::<Int64Type>::new(DataType::Int64, result))
            }
            DataType::Float32 | DataType::Float64 => {
                Box::new(Average::<Float64Type>::new(DataType::Float64, result))
            }
            DataType::Decimal128(_, scale) => {
                let sum_type = DataType::Decimal128(38, *scale);
                Box::new(Average::<Decimal128Type>::new(sum_type, result))
            }
            _ => return None,
        })
    }
}

impl<T: ArrowPrimitiveType> Average<T> {
    fn new(sum_type: DataType, result: DataType) -> Self {
        Average {
            sums: Vec::new(),
            counts: Vec::new(),
            sum_type,
            result,
        }
    }
}

impl<T: ArrowPrimitiveType> Average<T>
where
    T::Native: Native + Quotient,
{
    fn widened(&self, column: &ArrayRef) -> Result<ArrayRef, OperatorError> {
        Ok(match (column.data_type(), &self.sum_type) {
            (DataType::Decimal128(..), DataType::Decimal128(..)) => column.clone(),
            (found, wanted) if found == wanted => column.clone(),
            _ => cast(column, &self.sum_type)?,
        })
    }

    /// Digits that a quotient has more than a sum.
    fn digits(&self) -> i32 {
        match (&self.result, &self.sum_type) {
            (DataType::Decimal128(_, to), DataType::Decimal128(_, from)) => i32::from(to - from),
            _ => 0,
        }
    }

    fn array(&self, quotients: &[Option<T::Native>]) -> Result<ArrayRef, OperatorError> {
        let values = quotients
            .iter()
            .map(|value| value.unwrap_or_default())
            .collect();
        let valid = quotients.iter().map(Option::is_some);
        Ok(match &self.result {
            DataType::Decimal128(..) => array_of::<T>(&self.result, values, valid),
            result if *result == self.sum_type => array_of::<T>(result, values, valid),
            result => cast(&array_of::<T>(&self.sum_type, values, valid), result)?,
        })
    }

    fn valid<'a>(&'a self, slots: &'a [u32]) -> impl Iterator<Item = bool> + 'a {
        slots.iter().map(|slot| self.counts[*slot as usize] != 0)
    }
}

impl<T: ArrowPrimitiveType> Accumulator for Average<T>
where
    T::Native: Native + Quotient,
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
        let widened = self.widened(&args[0])?;
        let column = primitive::<T>(&widened)?;
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
        let widened = self.widened(&args[0])?;
        let column = primitive::<T>(&widened)?;
        let values = &column.values()[..];
        let digits = self.digits();
        let told = Vec::with_capacity(steps.results.len());
        let mut state = (&mut self.sums[..], &mut self.counts[..], told);
        steps.run(
            column.nulls(),
            &mut state,
            |(sums, counts, _), slot, row, comes| {
                if comes {
                    sums[slot] = sums[slot].add_wrapping(values[row]);
                    counts[slot] += 1;
                } else {
                    sums[slot] = sums[slot].sub_wrapping(values[row]);
                    counts[slot] -= 1;
                }
            },
            |(sums, counts, told), slot| told.push(quotient(sums[slot], counts[slot], digits)),
        );
        let told = state.2;
        self.array(&told)
    }

    fn update_partial(
        &mut self,
        rows: &Rows<'_>,
        partials: &[ArrayRef],
    ) -> Result<(), OperatorError> {
        let column = primitive::<T>(&partials[0])?;
        let more = primitive::<Int64Type>(&partials[1])?.values();
        let values = column.values();
        rows.for_each_valid(column.nulls(), |slot, row, _| {
            self.sums[slot] = self.sums[slot].add_wrapping(values[row]);
            self.counts[slot] += more[row];
        });
        Ok(())
    }

    fn partials(&self, slots: &[u32]) -> Result<Vec<ArrayRef>, OperatorError> {
        let sums = slots.iter().map(|slot| self.sums[*slot as usize]).collect();
        let counts = slots.iter().map(|slot| self.counts[*slot as usize]);
        Ok(vec![
            array_of::<T>(&self.sum_type, sums, self.valid(slots)),
            Arc::new(Int64Array::from_iter_values(counts)),
        ])
    }

    fn results(&self, slots: &[u32]) -> Result<ArrayRef, OperatorError> {
        let digits = self.digits();
        let quotient = |slot: &u32| {
            let slot = *slot as usize;
            quotient(self.sums[slot], self.counts[slot], digits)
        };
        self.array(&slots.iter().map(quotient).collect::<Vec<_>>())
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

/// The quotient of a sum of so many values; `None` where there is none, or it does not fit.
fn quotient<N: Quotient>(sum: N, count: i64, digits: i32) -> Option<N> {
    if count == 0 {
        return None;
    }
    sum.quotient(count, digits)
}

/// Division by a count.
pub(super) trait Quotient: Sized {
    /// `self / count` with `digits` more digits after the point; `None` where it does not fit.
    fn quotient(self, count: i64, digits: i32) -> Option<Self>;
}

impl Quotient for i64 {
    fn quotient(self, count: i64, _digits: i32) -> Option<Self> {
        Some(self.wrapping_div(count))
    }
}

impl Quotient for f64 {
    fn quotient(self, count: i64, _digits: i32) -> Option<Self> {
        Some(self / count as f64)
    }
}

impl Quotient for i128 {
    fn quotient(self, count: i64, digits: i32) -> Option<Self> {
        // Whole part and remainder apart: the sum times 10^digits may not fit 128 bits.
        let count = i128::from(count);
        let factor = 10_i128.checked_pow(digits.max(0) as u32)?;
        let (whole, rest) = (self / count, self % count);
        let scaled = rest.checked_mul(factor)?;
        let (fraction, left) = (scaled / count, scaled % count);
        let up = if left.unsigned_abs() * 2 >= count.unsigned_abs() {
            if (left < 0) == (count < 0) { 1 } else { -1 }
        } else {
            0
        };
        let result = whole.checked_mul(factor)?.checked_add(fraction + up)?;
        (result.unsigned_abs() <= DECIMAL_MAX.unsigned_abs()).then_some(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_quotients_round_half_away_from_zero() {
        assert_eq!((-4846_i128).quotient(31, 5), Some(-15_632_258));
        assert_eq!(10_i128.quotient(4, 0), Some(3));
        assert_eq!((-10_i128).quotient(4, 0), Some(-3));
        assert_eq!(9_i128.quotient(4, 0), Some(2));
        assert_eq!(DECIMAL_MAX.quotient(1, 6), None);
        assert_eq!(DECIMAL_MAX.quotient(1, 0), Some(DECIMAL_MAX));
    }
}
