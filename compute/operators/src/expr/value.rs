//! Operands of kernels: a column or one constant for all rows, and typed readers over both.
//!
//! A constant stays an array of one row; readers multiply the row by a step of 0 or 1, so that a
//! kernel's loop is the same for both.

use arrow::{
    array::{
        Array, ArrayRef, ArrowPrimitiveType, AsArray as _, BinaryArray, BooleanArray, Datum,
        PrimitiveArray, StringArray, UInt32Array,
    },
    buffer::NullBuffer,
    compute::take,
};

use super::EvalError;

/// What an evaluation may depend on beside its row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EvalContext {
    /// Time of the statement or of processing, in ms since 1970.
    pub now_ms: i64,
    /// Current watermark in event-time ms, if there is one.
    pub watermark: Option<i64>,
}

/// A column, or a constant for all rows (an array of one row).
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Array(ArrayRef),
    Scalar(ArrayRef),
}

impl Value {
    pub(crate) fn array(&self) -> &ArrayRef {
        match self {
            Value::Array(array) | Value::Scalar(array) => array,
        }
    }

    pub(crate) fn is_scalar(&self) -> bool {
        matches!(self, Value::Scalar(_))
    }

    /// Index step per row: a constant has one row for all.
    pub(crate) fn step(&self) -> usize {
        usize::from(!self.is_scalar())
    }

    /// For a BOOLEAN constant: whether it is TRUE.
    pub(crate) fn is_constant_true(&self) -> Option<bool> {
        match self {
            Value::Scalar(array) => Some(!array.is_null_at(0) && array.as_boolean().value(0)),
            Value::Array(_) => None,
        }
    }

    /// As a column of `rows` rows.
    pub(crate) fn into_array(self, rows: usize) -> Result<ArrayRef, EvalError> {
        match self {
            Value::Array(array) => Ok(array),
            Value::Scalar(array) if rows == 1 => Ok(array),
            Value::Scalar(array) => {
                let indices = UInt32Array::from(vec![0; rows]);
                Ok(take(&array, &indices, None)?)
            }
        }
    }

    /// Nulls of the value seen as a column of `rows` rows.
    pub(crate) fn nulls(&self, rows: usize) -> Option<NullBuffer> {
        match self {
            Value::Array(array) => array.logical_nulls().filter(|nulls| nulls.null_count() > 0),
            Value::Scalar(array) => array.is_null_at(0).then(|| NullBuffer::new_null(rows)),
        }
    }
}

impl Datum for Value {
    fn get(&self) -> (&dyn Array, bool) {
        (self.array().as_ref(), self.is_scalar())
    }
}

/// Whether a row is NULL, the NULL type included (whose arrays carry no null buffer).
pub(crate) trait NullAt {
    fn is_null_at(&self, row: usize) -> bool;
}

impl<A: Array + ?Sized> NullAt for A {
    fn is_null_at(&self, row: usize) -> bool {
        self.data_type().is_null() || self.is_null(row)
    }
}

/// The operands of one kernel call.
pub(crate) struct Args<'a> {
    pub(crate) values: &'a [Value],
    /// Rows that the result has.
    pub(crate) rows: usize,
    pub(crate) context: &'a EvalContext,
}

impl<'a> Args<'a> {
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn value(&self, index: usize) -> &'a Value {
        &self.values[index]
    }

    pub(crate) fn strings(&self, index: usize) -> Strings<'a> {
        let value = &self.values[index];
        Strings {
            array: value.array().as_string(),
            step: value.step(),
        }
    }

    pub(crate) fn bytes(&self, index: usize) -> Bytes<'a> {
        let value = &self.values[index];
        Bytes {
            array: value.array().as_binary(),
            step: value.step(),
        }
    }

    pub(crate) fn booleans(&self, index: usize) -> Booleans<'a> {
        let value = &self.values[index];
        Booleans {
            array: value.array().as_boolean(),
            step: value.step(),
        }
    }

    pub(crate) fn numbers<T: ArrowPrimitiveType>(&self, index: usize) -> Numbers<'a, T> {
        Numbers::new(&self.values[index])
    }

    /// Rows where any operand is NULL.
    pub(crate) fn nulls(&self) -> Option<NullBuffer> {
        self.nulls_of(0..self.values.len())
    }

    /// Rows where any of these operands is NULL.
    pub(crate) fn nulls_of(&self, indices: std::ops::Range<usize>) -> Option<NullBuffer> {
        indices.fold(None, |nulls, index| {
            NullBuffer::union(nulls.as_ref(), self.values[index].nulls(self.rows).as_ref())
        })
    }
}

/// Whether row `row` is valid under an optional null buffer.
#[inline]
pub(crate) fn is_valid(nulls: Option<&NullBuffer>, row: usize) -> bool {
    nulls.is_none_or(|nulls| nulls.is_valid(row))
}

/// Texts of an operand.
#[derive(Clone, Copy)]
pub(crate) struct Strings<'a> {
    array: &'a StringArray,
    step: usize,
}

impl<'a> Strings<'a> {
    /// The text of a row, whatever is there if the row is NULL.
    #[inline]
    pub(crate) fn at(&self, row: usize) -> &'a str {
        self.array.value(row * self.step)
    }

    #[inline]
    pub(crate) fn get(&self, row: usize) -> Option<&'a str> {
        let row = row * self.step;
        self.array.is_valid(row).then(|| self.array.value(row))
    }

    /// Bytes of all texts: a first guess at the size of a result made of them.
    pub(crate) fn capacity(&self) -> usize {
        let offsets = self.array.value_offsets();
        match (offsets.first(), offsets.last()) {
            (Some(first), Some(last)) => (last - first) as usize,
            _ => 0,
        }
    }
}

/// Byte strings of an operand.
#[derive(Clone, Copy)]
pub(crate) struct Bytes<'a> {
    array: &'a BinaryArray,
    step: usize,
}

impl<'a> Bytes<'a> {
    #[inline]
    pub(crate) fn at(&self, row: usize) -> &'a [u8] {
        self.array.value(row * self.step)
    }
}

/// Truth values of an operand.
#[derive(Clone, Copy)]
pub(crate) struct Booleans<'a> {
    array: &'a BooleanArray,
    step: usize,
}

impl Booleans<'_> {
    #[inline]
    pub(crate) fn get(&self, row: usize) -> Option<bool> {
        let row = row * self.step;
        self.array.is_valid(row).then(|| self.array.value(row))
    }
}

/// Fixed-width values of an operand.
pub(crate) struct Numbers<'a, T: ArrowPrimitiveType> {
    array: &'a PrimitiveArray<T>,
    step: usize,
}

impl<'a, T: ArrowPrimitiveType> Numbers<'a, T> {
    pub(crate) fn new(value: &'a Value) -> Self {
        Numbers {
            array: value.array().as_primitive(),
            step: value.step(),
        }
    }

    #[inline]
    pub(crate) fn at(&self, row: usize) -> T::Native {
        self.array.values()[row * self.step]
    }

    #[inline]
    pub(crate) fn get(&self, row: usize) -> Option<T::Native> {
        let row = row * self.step;
        self.array.is_valid(row).then(|| self.array.values()[row])
    }

    /// The one value of a constant that is not NULL.
    pub(crate) fn constant(&self) -> Option<T::Native> {
        (self.step == 0).then(|| self.get(0)).flatten()
    }

    /// All values, NULLs' included, of a column.
    pub(crate) fn values(&self) -> &'a [T::Native] {
        self.array.values()
    }
}
