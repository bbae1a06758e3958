//! New lists made of elements of other arrays: positions are collected, the elements copied once.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray as _, ListArray, new_null_array},
    buffer::{NullBuffer, OffsetBuffer},
    compute::interleave,
    datatypes::{ArrowNativeType as _, DataType as ArrowType, FieldRef},
    row::{RowConverter, Rows, SortField},
};

use crate::expr::{EvalError, value::Value};

/// A list operand: element range of a row.
pub(super) struct Lists<'a> {
    list: &'a ListArray,
    step: usize,
}

impl<'a> Lists<'a> {
    pub(super) fn new(value: &'a Value) -> Self {
        Lists {
            list: value.array().as_list::<i32>(),
            step: value.step(),
        }
    }

    pub(super) fn elements(&self) -> &'a ArrayRef {
        self.list.values()
    }

    /// Positions of a row's elements among all elements.
    #[inline]
    pub(super) fn range(&self, row: usize) -> std::ops::Range<usize> {
        let offsets = self.list.offsets();
        let row = row * self.step;
        offsets[row].as_usize()..offsets[row + 1].as_usize()
    }
}

/// Collects the positions of the elements of new lists, or of a new column.
pub(super) struct Gather<'a> {
    sources: Vec<&'a dyn Array>,
    positions: Vec<(usize, usize)>,
    ends: Vec<i32>,
}

impl<'a> Gather<'a> {
    /// Elements will come from these arrays, all of one type.
    pub(super) fn new(sources: Vec<&'a dyn Array>) -> Self {
        Gather {
            sources,
            positions: Vec::new(),
            ends: vec![0],
        }
    }

    /// Adds an element of a source to the current list.
    #[inline]
    pub(super) fn push(&mut self, source: usize, position: usize) {
        self.positions.push((source, position));
    }

    /// Ends the current list.
    pub(super) fn end_row(&mut self) {
        self.ends.push(self.positions.len() as i32);
    }

    /// The elements alone.
    pub(super) fn column(self) -> Result<ArrayRef, EvalError> {
        match self.sources.first() {
            Some(_) => Ok(interleave(&self.sources, &self.positions)?),
            None => Err(EvalError::function("a collection", "it has no elements")),
        }
    }

    /// The lists.
    pub(super) fn lists(
        self,
        item: &FieldRef,
        nulls: Option<NullBuffer>,
    ) -> Result<ArrayRef, EvalError> {
        let offsets = OffsetBuffer::new(self.ends.clone().into());
        let elements = self.column()?;
        Ok(Arc::new(ListArray::try_new(
            Arc::clone(item),
            offsets,
            elements,
            nulls,
        )?))
    }

    /// Offsets and elements.
    pub(super) fn into_parts(self) -> Result<(OffsetBuffer<i32>, ArrayRef), EvalError> {
        let offsets = OffsetBuffer::new(self.ends.clone().into());
        Ok((offsets, self.column()?))
    }
}

/// The item field of a list type.
pub(super) fn item_field(data_type: &ArrowType) -> Option<FieldRef> {
    match data_type {
        ArrowType::List(item) => Some(Arc::clone(item)),
        _ => None,
    }
}

/// One NULL of a type.
pub(super) fn null_of(data_type: &ArrowType) -> ArrayRef {
    new_null_array(data_type, 1)
}

/// Values of several arrays of one type as byte rows that compare as the values do, NULL lowest.
pub(super) fn comparable(arrays: &[&ArrayRef]) -> Result<Vec<Rows>, EvalError> {
    let data_type = arrays
        .first()
        .map_or(ArrowType::Null, |array| array.data_type().clone());
    let converter = RowConverter::new(vec![SortField::new(data_type)])?;
    let mut rows = Vec::with_capacity(arrays.len());
    for array in arrays {
        rows.push(converter.convert_columns(&[ArrayRef::clone(array)])?);
    }
    Ok(rows)
}
