//! MIN, MAX, FIRST_VALUE and LAST_VALUE of strings, bytes and nested values that are never taken
//! back.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, BinaryArray, StringArray},
    datatypes::DataType,
};
use engine::{
    codec::{ByteRows, RowCodec},
    operator::OperatorError,
    state::Values as _,
};

use super::{
    Accumulator, Rule,
    bytes::{ByteColumn, read_bytes, write_bytes},
    short,
};
use crate::{
    aggregate::{native::Native as _, rows::Rows, steps::Steps},
    rows::RowCells,
};

/// One byte string per slot, as [`ByteColumn`] has it.
pub(super) struct PickBytes {
    rule: Rule,
    values: RowCells,
    codec: RowCodec,
    data_type: DataType,
}

impl PickBytes {
    /// `None` where values have no order to pick by.
    pub(super) fn new(rule: Rule, data_type: DataType) -> Result<Option<Self>, OperatorError> {
        let is_ordered = matches!(data_type, DataType::Utf8 | DataType::Binary);
        if !is_ordered && matches!(rule, Rule::Min | Rule::Max) {
            return Ok(None);
        }
        let codec = RowCodec::new(std::slice::from_ref(&data_type))?;
        Ok(Some(PickBytes {
            rule,
            values: RowCells::default(),
            codec,
            data_type,
        }))
    }
}

impl PickBytes {
    /// Whether a new value takes the place of an old one.
    fn replaces(rule: Rule, old: Option<&[u8]>, new: &[u8]) -> bool {
        old.is_none_or(|old| match rule {
            Rule::Min => new < old,
            Rule::Max => new > old,
            Rule::First => false,
            Rule::Last => true,
        })
    }

    fn array<'a>(
        &self,
        values: impl Iterator<Item = Option<&'a [u8]>>,
    ) -> Result<ArrayRef, OperatorError> {
        Ok(match self.data_type {
            DataType::Utf8 => {
                let text = |value| std::str::from_utf8(value).unwrap_or_default();
                Arc::new(StringArray::from_iter(values.map(|value| value.map(text))))
            }
            DataType::Binary => Arc::new(BinaryArray::from_iter(values)),
            _ => {
                let null = arrow::array::new_null_array(&self.data_type, 1);
                let null = self.codec.encode(&[null], 1)?;
                let rows: Vec<&[u8]> = values.map(|value| value.unwrap_or(null.row(0))).collect();
                self.codec.decode_column(0, &rows)?
            }
        })
    }
}

impl Accumulator for PickBytes {
    fn reserve(&mut self, slots: usize) {
        self.values.reserve(slots);
    }

    fn reset(&mut self, slot: u32) {
        self.values.clear(slot);
    }

    fn update(&mut self, rows: &Rows<'_>, args: &[ArrayRef]) -> Result<(), OperatorError> {
        let column = ByteColumn::new(&args[0], &self.codec)?;
        let nulls = args[0].logical_nulls();
        let (picked, rule) = (&mut self.values, self.rule);
        rows.for_each_valid(nulls.as_ref(), |slot, row, _| {
            let (new, slot) = (column.value(row), slot as u32);
            if PickBytes::replaces(rule, picked.get(slot), new) {
                picked.set(slot, new);
            }
        });
        Ok(())
    }

    fn run(&mut self, steps: &Steps<'_>, args: &[ArrayRef]) -> Result<ArrayRef, OperatorError> {
        let column = ByteColumn::new(&args[0], &self.codec)?;
        let nulls = args[0].logical_nulls();
        let rule = self.rule;
        let valid: Vec<bool> = Vec::with_capacity(steps.results.len());
        let mut state = (&mut self.values, ByteRows::default(), valid);
        steps.run(
            nulls.as_ref(),
            &mut state,
            |(picked, ..), slot, row, _| {
                let (new, slot) = (column.value(row), slot as u32);
                if PickBytes::replaces(rule, picked.get(slot), new) {
                    picked.set(slot, new);
                }
            },
            |(picked, told, valid), slot| {
                let value = picked.get(slot as u32);
                told.push(value.unwrap_or_default());
                valid.push(value.is_some());
            },
        );
        let (_, told, valid) = state;
        let valid = valid.into_iter().enumerate();
        self.array(valid.map(|(at, valid)| valid.then(|| told.row(at))))
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
        self.array(slots.iter().map(|slot| self.values.get(*slot)))
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        let value = self.values.get(slot);
        out.push(u8::from(value.is_some()));
        if let Some(value) = value {
            write_bytes(value, out);
        }
    }

    fn decode(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<(), String> {
        self.reset(slot);
        if i8::read(bytes).ok_or_else(short)? != 0 {
            self.values.set(slot, read_bytes(bytes)?);
        }
        Ok(())
    }

    fn truncate(&mut self, slots: usize) {
        self.values.truncate(slots);
    }

    fn memory(&self) -> usize {
        self.values.memory()
    }

    fn heap_memory(&self) -> (usize, usize) {
        self.values.heap_memory()
    }
}
