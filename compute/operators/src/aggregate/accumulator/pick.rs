//! MIN, MAX, FIRST_VALUE and LAST_VALUE of fixed-width values that are never taken back.

use arrow::{
    array::{Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType},
    compute::cast,
    datatypes::DataType,
};
use engine::operator::OperatorError;

use super::{Accumulator, short};
use crate::aggregate::{
    native::{Native, array_of, primitive},
    rows::Rows,
    steps::Steps,
};

/// Which of two values stays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rule {
    /// The smaller.
    Min,
    /// The greater.
    Max,
    /// The one that was there.
    First,
    /// The new one.
    Last,
}

/// One value per slot.
pub(super) struct Pick<T: ArrowPrimitiveType> {
    rule: Rule,
    values: Vec<T::Native>,
    present: Vec<bool>,
    /// Of the argument and the result; BOOLEAN is picked as 0 and 1.
    data_type: DataType,
}

impl<T: ArrowPrimitiveType> Pick<T> {
    pub(super) fn new(rule: Rule, data_type: DataType) -> Self {
        Pick {
            rule,
            values: Vec::new(),
            present: Vec::new(),
            data_type,
        }
    }

    fn pick(
        &mut self,
        rows: &Rows<'_>,
        column: &ArrayRef,
        replaces: impl Fn(T::Native, T::Native) -> bool,
    ) -> Result<(), OperatorError> {
        let column = primitive::<T>(column)?;
        let values = &column.values()[..];
        let (picked, present) = (&mut self.values[..], &mut self.present[..]);
        rows.for_each_valid(column.nulls(), |slot, row, _| {
            if !present[slot] || replaces(values[row], picked[slot]) {
                picked[slot] = values[row];
                present[slot] = true;
            }
        });
        Ok(())
    }
}

impl<T: ArrowPrimitiveType> Pick<T>
where
    T::Native: Native,
{
    fn array(
        &self,
        values: Vec<T::Native>,
        present: impl Iterator<Item = bool>,
    ) -> Result<ArrayRef, OperatorError> {
        Ok(match self.data_type {
            DataType::Boolean => cast(
                &array_of::<T>(&T::DATA_TYPE, values, present),
                &DataType::Boolean,
            )?,
            _ => array_of::<T>(&self.data_type, values, present),
        })
    }

    /// The column as it is picked from.
    fn numbers(&self, column: &ArrayRef) -> Result<ArrayRef, OperatorError> {
        Ok(match self.data_type {
            DataType::Boolean => cast(column, &DataType::Int8)?,
            _ => column.clone(),
        })
    }

    fn pick_each(
        &mut self,
        steps: &Steps<'_>,
        column: &ArrayRef,
        replaces: impl Fn(T::Native, T::Native) -> bool,
    ) -> Result<ArrayRef, OperatorError> {
        let column = primitive::<T>(column)?;
        let values = &column.values()[..];
        let told = Vec::with_capacity(steps.results.len());
        let valid: Vec<bool> = Vec::with_capacity(steps.results.len());
        let mut state = (&mut self.values[..], &mut self.present[..], told, valid);
        steps.run(
            column.nulls(),
            &mut state,
            |(picked, present, ..), slot, row, _| {
                if !present[slot] || replaces(values[row], picked[slot]) {
                    picked[slot] = values[row];
                    present[slot] = true;
                }
            },
            |(picked, present, told, valid), slot| {
                told.push(picked[slot]);
                valid.push(present[slot]);
            },
        );
        let (_, _, told, valid) = state;
        self.array(told, valid.into_iter())
    }
}

impl<T: ArrowPrimitiveType> Accumulator for Pick<T>
where
    T::Native: Native,
{
    fn reserve(&mut self, slots: usize) {
        if self.values.len() < slots {
            self.values.resize(slots, T::Native::ZERO);
            self.present.resize(slots, false);
        }
    }

    fn reset(&mut self, slot: u32) {
        self.present[slot as usize] = false;
    }

    fn update(&mut self, rows: &Rows<'_>, args: &[ArrayRef]) -> Result<(), OperatorError> {
        let column = &self.numbers(&args[0])?;
        match self.rule {
            Rule::Min => self.pick(rows, column, |new, old| new.is_lt(old)),
            Rule::Max => self.pick(rows, column, |new, old| new.is_gt(old)),
            Rule::First => self.pick(rows, column, |_, _| false),
            Rule::Last => self.pick(rows, column, |_, _| true),
        }
    }

    fn run(&mut self, steps: &Steps<'_>, args: &[ArrayRef]) -> Result<ArrayRef, OperatorError> {
        let column = &self.numbers(&args[0])?;
        match self.rule {
            Rule::Min => self.pick_each(steps, column, |new, old| new.is_lt(old)),
            Rule::Max => self.pick_each(steps, column, |new, old| new.is_gt(old)),
            Rule::First => self.pick_each(steps, column, |_, _| false),
            Rule::Last => self.pick_each(steps, column, |_, _| true),
        }
    }

    fn update_partial(
        &mut self,
        rows: &Rows<'_>,
        partials: &[ArrayRef],
    ) -> Result<(), OperatorError> {
        self.update(rows, partials)
    }

    fn partials(&self, slots: &[u32]) -> Result<Vec<ArrayRef>, OperatorError> {
        Ok(vec![self.results(slots)?])
    }

    fn results(&self, slots: &[u32]) -> Result<ArrayRef, OperatorError> {
        let values = slots
            .iter()
            .map(|slot| self.values[*slot as usize])
            .collect();
        let present = slots.iter().map(|slot| self.present[*slot as usize]);
        self.array(values, present)
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        let present = self.present[slot as usize];
        out.push(u8::from(present));
        if present {
            self.values[slot as usize].write(out);
        }
    }

    fn decode(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<(), String> {
        let present = i8::read(bytes).ok_or_else(short)? != 0;
        self.present[slot as usize] = present;
        if present {
            self.values[slot as usize] = T::Native::read(bytes).ok_or_else(short)?;
        }
        Ok(())
    }

    fn truncate(&mut self, slots: usize) {
        self.values.truncate(slots);
        self.values.shrink_to_fit();
        self.present.truncate(slots);
        self.present.shrink_to_fit();
    }

    fn memory(&self) -> usize {
        self.values.len() * size_of::<T::Native>() + self.present.len()
    }
}
