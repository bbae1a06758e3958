//! STDDEV_* and VAR_*. Of integers exactly, by sums; of other numbers by Welford's recurrence,
//! which also runs backwards, and Chan's for merging (Chan, Golub, LeVeque 1979).

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray as _, BinaryArray, Float64Array},
    compute::cast,
    datatypes::{DataType, Float64Type, Int64Type},
};
use engine::operator::OperatorError;

use super::{Accumulator, short};
use crate::aggregate::{
    native::{Native as _, primitive},
    rows::Rows,
    steps::Steps,
};

/// Which of the four functions, and its type.
pub(super) struct VarianceResult {
    /// `_SAMP`: of n - 1, NULL for one row.
    pub(super) sample: bool,
    /// `STDDEV_`.
    pub(super) root: bool,
    /// Result; integers truncate.
    pub(super) data_type: DataType,
}

impl VarianceResult {
    /// What the sum of squares is divided by.
    fn divisor(&self, count: i64) -> Option<i64> {
        let divisor = if self.sample { count - 1 } else { count };
        (divisor > 0).then_some(divisor)
    }

    /// The result of integers.
    fn exactly(&self, (count, sum, squares): ExactSums) -> Option<f64> {
        let divisor = self.divisor(count)?;
        let (n, d) = (i128::from(count), i128::from(divisor));
        let exact = n
            .checked_mul(squares)
            .zip(sum.checked_mul(sum))
            .and_then(|(a, b)| a.checked_sub(b));
        let Some(numerator) = exact else {
            let (n, s) = (count as f64, sum as f64);
            let variance = (squares as f64 - s * s / n) / divisor as f64;
            return Some(if self.root { variance.sqrt() } else { variance });
        };
        Some(if self.root {
            (numerator as f64 / (n * d) as f64).sqrt()
        } else if self.data_type.is_integer() {
            (numerator / (n * d)) as f64
        } else {
            numerator as f64 / (n * d) as f64
        })
    }

    /// The result of fractions.
    fn roughly(&self, moments: Moments) -> Option<f64> {
        let variance = moments.squares / self.divisor(moments.count)? as f64;
        Some(if self.root { variance.sqrt() } else { variance })
    }

    fn array(&self, values: impl Iterator<Item = Option<f64>>) -> Result<ArrayRef, OperatorError> {
        let array: ArrayRef = Arc::new(Float64Array::from_iter(values));
        Ok(match self.data_type {
            DataType::Float64 => array,
            _ => cast(&array, &self.data_type)?,
        })
    }
}

/// Count, sum and sum of squares.
type ExactSums = (i64, i128, i128);

/// Of integers.
pub(super) struct ExactVariance {
    sums: Vec<ExactSums>,
    how: VarianceResult,
}

impl ExactVariance {
    pub(super) fn new(how: VarianceResult) -> Self {
        ExactVariance {
            sums: Vec::new(),
            how,
        }
    }
}

/// Count, sum and sum of squares with one value more, or less.
fn add_exactly(sums: &mut ExactSums, value: i64, add: bool) {
    let sign = if add { 1_i128 } else { -1 };
    let value = i128::from(value);
    sums.0 += sign as i64;
    sums.1 = sums.1.wrapping_add(sign * value);
    sums.2 = sums.2.wrapping_add((value * value).wrapping_mul(sign));
}

impl Accumulator for ExactVariance {
    fn reserve(&mut self, slots: usize) {
        if self.sums.len() < slots {
            self.sums.resize(slots, (0, 0, 0));
        }
    }

    fn reset(&mut self, slot: u32) {
        self.sums[slot as usize] = (0, 0, 0);
    }

    fn update(&mut self, rows: &Rows<'_>, args: &[ArrayRef]) -> Result<(), OperatorError> {
        let widened = cast(&args[0], &DataType::Int64)?;
        let column = primitive::<Int64Type>(&widened)?;
        let values = column.values();
        rows.for_each_valid(column.nulls(), |slot, row, add| {
            add_exactly(&mut self.sums[slot], values[row], add);
        });
        Ok(())
    }

    fn run(&mut self, steps: &Steps<'_>, args: &[ArrayRef]) -> Result<ArrayRef, OperatorError> {
        let widened = cast(&args[0], &DataType::Int64)?;
        let column = primitive::<Int64Type>(&widened)?;
        let values = column.values();
        let how = &self.how;
        let mut state = (&mut self.sums[..], Vec::with_capacity(steps.results.len()));
        steps.run(
            column.nulls(),
            &mut state,
            |(sums, _), slot, row, comes| add_exactly(&mut sums[slot], values[row], comes),
            |(sums, told), slot| told.push(how.exactly(sums[slot])),
        );
        how.array(state.1.into_iter())
    }

    fn update_partial(
        &mut self,
        rows: &Rows<'_>,
        partials: &[ArrayRef],
    ) -> Result<(), OperatorError> {
        merge_bytes(rows, &partials[0], |slot, bytes| {
            let (count, sum, squares) = read_sums(bytes)?;
            let sums = &mut self.sums[slot];
            *sums = (
                sums.0 + count,
                sums.1.wrapping_add(sum),
                sums.2.wrapping_add(squares),
            );
            Some(())
        })
    }

    fn partials(&self, slots: &[u32]) -> Result<Vec<ArrayRef>, OperatorError> {
        Ok(vec![encoded(self, slots)])
    }

    fn results(&self, slots: &[u32]) -> Result<ArrayRef, OperatorError> {
        let sums = slots.iter().map(|slot| self.sums[*slot as usize]);
        self.how.array(sums.map(|sums| self.how.exactly(sums)))
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        let (count, sum, squares) = self.sums[slot as usize];
        count.write(out);
        sum.write(out);
        squares.write(out);
    }

    fn decode(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<(), String> {
        self.sums[slot as usize] = read_sums(bytes).ok_or_else(short)?;
        Ok(())
    }

    fn truncate(&mut self, slots: usize) {
        self.sums.truncate(slots);
        self.sums.shrink_to_fit();
    }

    fn memory(&self) -> usize {
        self.sums.len() * size_of::<(i64, i128, i128)>()
    }
}

fn read_sums(bytes: &mut &[u8]) -> Option<(i64, i128, i128)> {
    Some((i64::read(bytes)?, i128::read(bytes)?, i128::read(bytes)?))
}

/// Of fractions: count, mean, and sum of squared distances from it.
pub(super) struct Variance {
    moments: Vec<Moments>,
    how: VarianceResult,
}

#[derive(Clone, Copy, Default)]
struct Moments {
    count: i64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn change(&mut self, value: f64, add: bool) {
        if add {
            self.add(value);
        } else {
            self.take_back(value);
        }
    }

    fn add(&mut self, value: f64) {
        self.count += 1;
        let distance = value - self.mean;
        self.mean += distance / self.count as f64;
        self.squares += distance * (value - self.mean);
    }

    fn take_back(&mut self, value: f64) {
        self.count -= 1;
        if self.count <= 0 {
            *self = Moments {
                count: self.count,
                ..Moments::default()
            };
            return;
        }
        let distance = value - self.mean;
        self.mean -= distance / self.count as f64;
        self.squares = (self.squares - distance * (value - self.mean)).max(0.0);
    }

    fn merge(&mut self, other: Moments) {
        let count = self.count + other.count;
        if count == 0 {
            return;
        }
        let (a, b, n) = (self.count as f64, other.count as f64, count as f64);
        let distance = other.mean - self.mean;
        self.squares += other.squares + distance * distance * a * b / n;
        self.mean += distance * b / n;
        self.count = count;
    }

    fn read(bytes: &mut &[u8]) -> Option<Moments> {
        Some(Moments {
            count: i64::read(bytes)?,
            mean: f64::read(bytes)?,
            squares: f64::read(bytes)?,
        })
    }
}

impl Variance {
    pub(super) fn new(how: VarianceResult) -> Self {
        Variance {
            moments: Vec::new(),
            how,
        }
    }
}

impl Accumulator for Variance {
    fn reserve(&mut self, slots: usize) {
        if self.moments.len() < slots {
            self.moments.resize(slots, Moments::default());
        }
    }

    fn reset(&mut self, slot: u32) {
        self.moments[slot as usize] = Moments::default();
    }

    fn update(&mut self, rows: &Rows<'_>, args: &[ArrayRef]) -> Result<(), OperatorError> {
        let widened = cast(&args[0], &DataType::Float64)?;
        let column = primitive::<Float64Type>(&widened)?;
        let values = column.values();
        rows.for_each_valid(column.nulls(), |slot, row, add| {
            self.moments[slot].change(values[row], add);
        });
        Ok(())
    }

    fn run(&mut self, steps: &Steps<'_>, args: &[ArrayRef]) -> Result<ArrayRef, OperatorError> {
        let widened = cast(&args[0], &DataType::Float64)?;
        let column = primitive::<Float64Type>(&widened)?;
        let values = column.values();
        let how = &self.how;
        let told = Vec::with_capacity(steps.results.len());
        let mut state = (&mut self.moments[..], told);
        steps.run(
            column.nulls(),
            &mut state,
            |(moments, _), slot, row, comes| moments[slot].change(values[row], comes),
            |(moments, told), slot| told.push(how.roughly(moments[slot])),
        );
        how.array(state.1.into_iter())
    }

    fn update_partial(
        &mut self,
        rows: &Rows<'_>,
        partials: &[ArrayRef],
    ) -> Result<(), OperatorError> {
        merge_bytes(rows, &partials[0], |slot, bytes| {
            self.moments[slot].merge(Moments::read(bytes)?);
            Some(())
        })
    }

    fn partials(&self, slots: &[u32]) -> Result<Vec<ArrayRef>, OperatorError> {
        Ok(vec![encoded(self, slots)])
    }

    fn results(&self, slots: &[u32]) -> Result<ArrayRef, OperatorError> {
        let moments = slots.iter().map(|slot| self.moments[*slot as usize]);
        self.how
            .array(moments.map(|moments| self.how.roughly(moments)))
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        let moments = self.moments[slot as usize];
        moments.count.write(out);
        moments.mean.write(out);
        moments.squares.write(out);
    }

    fn decode(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<(), String> {
        self.moments[slot as usize] = Moments::read(bytes).ok_or_else(short)?;
        Ok(())
    }

    fn truncate(&mut self, slots: usize) {
        self.moments.truncate(slots);
        self.moments.shrink_to_fit();
    }

    fn memory(&self) -> usize {
        self.moments.len() * size_of::<Moments>()
    }
}

/// The slots' bytes as a partial column.
pub(super) fn encoded(accumulator: &dyn Accumulator, slots: &[u32]) -> ArrayRef {
    let mut bytes = Vec::new();
    let mut builder = arrow::array::BinaryBuilder::with_capacity(slots.len(), slots.len() * 24);
    for slot in slots {
        bytes.clear();
        accumulator.encode(*slot, &mut bytes);
        builder.append_value(&bytes);
    }
    Arc::new(builder.finish())
}

/// Calls `merge` with the bytes of each row of such a column.
pub(super) fn merge_bytes(
    rows: &Rows<'_>,
    column: &ArrayRef,
    mut merge: impl FnMut(usize, &mut &[u8]) -> Option<()>,
) -> Result<(), OperatorError> {
    let column: &BinaryArray = column
        .as_binary_opt()
        .ok_or_else(|| OperatorError::Plan("a partial column is not of bytes".to_owned()))?;
    let mut whole = true;
    rows.for_each_valid(column.nulls(), |slot, row, _| {
        whole &= merge(slot, &mut column.value(row)).is_some();
    });
    match whole {
        true => Ok(()),
        false => Err(OperatorError::Evaluate(short())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_merge_and_run_backwards() {
        let values = [3.5, -1.0, 8.25, 8.25, 100.0];
        let mut whole = Moments::default();
        let (mut left, mut right) = (Moments::default(), Moments::default());
        for (index, value) in values.into_iter().enumerate() {
            whole.add(value);
            if index < 2 {
                left.add(value)
            } else {
                right.add(value)
            }
        }
        left.merge(right);
        assert!((left.squares - whole.squares).abs() < 1e-9 * whole.squares);
        whole.take_back(100.0);
        whole.take_back(8.25);
        let mut expected = Moments::default();
        [3.5, -1.0, 8.25]
            .into_iter()
            .for_each(|value| expected.add(value));
        assert!((expected.squares - whole.squares).abs() < 1e-9);
        assert!((expected.mean - whole.mean).abs() < 1e-9);
    }
}
