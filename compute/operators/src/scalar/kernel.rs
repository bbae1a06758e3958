//! The loops that kernels of fixed-width values and strings are made of.

use std::{fmt::Write as _, sync::Arc};

use arrow::{
    array::{ArrayRef, ArrowPrimitiveType, BooleanArray, PrimitiveArray, StringBuilder},
    buffer::{BooleanBuffer, NullBuffer, ScalarBuffer},
    datatypes::DataType as ArrowType,
};

use crate::expr::{
    EvalError,
    value::{Args, is_valid},
};

/// An array of values with the given nulls and exact type (zone, precision).
pub(crate) fn finish<O: ArrowPrimitiveType>(
    values: Vec<O::Native>,
    nulls: Option<NullBuffer>,
    data_type: &ArrowType,
) -> ArrayRef {
    let array = PrimitiveArray::<O>::new(ScalarBuffer::from(values), nulls);
    Arc::new(array.with_data_type(data_type.clone()))
}

/// `f` of one operand; runs on NULL rows' values too, so it must be total.
pub(crate) fn unary<A, O>(
    args: &Args<'_>,
    data_type: &ArrowType,
    f: impl Fn(A::Native) -> O::Native,
) -> ArrayRef
where
    A: ArrowPrimitiveType,
    O: ArrowPrimitiveType,
{
    let operand = args.numbers::<A>(0);
    let values = (0..args.rows).map(|row| f(operand.at(row))).collect();
    finish::<O>(values, args.nulls(), data_type)
}

/// `f` of two operands; runs on NULL rows' values too, so it must be total.
pub(crate) fn binary<A, B, O>(
    args: &Args<'_>,
    data_type: &ArrowType,
    f: impl Fn(A::Native, B::Native) -> O::Native,
) -> ArrayRef
where
    A: ArrowPrimitiveType,
    B: ArrowPrimitiveType,
    O: ArrowPrimitiveType,
{
    let (a, b) = (args.numbers::<A>(0), args.numbers::<B>(1));
    // The common shapes get loops that the compiler can vectorise.
    let values: Vec<O::Native> = match (a.constant(), b.constant()) {
        (None, Some(b)) if args.value(0).step() == 1 => {
            a.values().iter().map(|a| f(*a, b)).collect()
        }
        (Some(a), None) if args.value(1).step() == 1 => {
            b.values().iter().map(|b| f(a, *b)).collect()
        }
        (None, None) if args.value(0).step() == 1 && args.value(1).step() == 1 => a
            .values()
            .iter()
            .zip(b.values())
            .map(|(a, b)| f(*a, *b))
            .collect(),
        _ => (0..args.rows).map(|row| f(a.at(row), b.at(row))).collect(),
    };
    finish::<O>(values, args.nulls(), data_type)
}

/// `f` of the operands' row where none is NULL; `None` makes the row NULL.
pub(crate) fn by_row<O: ArrowPrimitiveType>(
    args: &Args<'_>,
    data_type: &ArrowType,
    f: impl FnMut(usize) -> Result<Option<O::Native>, EvalError>,
) -> Result<ArrayRef, EvalError> {
    by_row_with_nulls::<O>(args.rows, args.nulls(), data_type, f)
}

/// As [`by_row`] with nulls of the caller's choice.
pub(crate) fn by_row_with_nulls<O: ArrowPrimitiveType>(
    rows: usize,
    nulls: Option<NullBuffer>,
    data_type: &ArrowType,
    mut f: impl FnMut(usize) -> Result<Option<O::Native>, EvalError>,
) -> Result<ArrayRef, EvalError> {
    let mut values: Vec<O::Native> = vec![Default::default(); rows];
    let mut made_null: Option<Vec<bool>> = None;
    for (row, value) in values.iter_mut().enumerate() {
        if !is_valid(nulls.as_ref(), row) {
            continue;
        }
        match f(row)? {
            Some(computed) => *value = computed,
            None => made_null.get_or_insert_with(|| vec![true; rows])[row] = false,
        }
    }
    let made_null = made_null.map(NullBuffer::from);
    let nulls = NullBuffer::union(nulls.as_ref(), made_null.as_ref());
    Ok(finish::<O>(values, nulls, data_type))
}

/// A BOOLEAN per row where no operand is NULL; runs on NULL rows' values too.
pub(crate) fn predicate(args: &Args<'_>, f: impl FnMut(usize) -> bool) -> ArrayRef {
    let values = BooleanBuffer::collect_bool(args.rows, f);
    Arc::new(BooleanArray::new(values, args.nulls()))
}

/// A BOOLEAN or NULL per row where no operand is NULL.
pub(crate) fn try_predicate(
    args: &Args<'_>,
    mut f: impl FnMut(usize) -> Result<Option<bool>, EvalError>,
) -> Result<ArrayRef, EvalError> {
    let nulls = args.nulls();
    let mut builder = arrow::array::BooleanBuilder::with_capacity(args.rows);
    for row in 0..args.rows {
        let value = if is_valid(nulls.as_ref(), row) {
            f(row)?
        } else {
            None
        };
        builder.append_option(value);
    }
    Ok(Arc::new(builder.finish()))
}

/// A text per row where none of `nulls` is set: `f` writes it into the builder and says whether
/// the row has a value.
pub(crate) fn strings(
    rows: usize,
    nulls: Option<&NullBuffer>,
    bytes: usize,
    mut f: impl FnMut(usize, &mut StringBuilder) -> Result<bool, EvalError>,
) -> Result<ArrayRef, EvalError> {
    let mut builder = StringBuilder::with_capacity(rows, bytes);
    for row in 0..rows {
        if !is_valid(nulls, row) {
            builder.append_null();
        } else if f(row, &mut builder)? {
            // Ends the text that was written piece by piece.
            builder.append_value("");
        } else {
            builder.append_null();
        }
        if builder.values_slice().len() > TEXT_BYTES_MAX {
            return Err(EvalError::function(
                "a text function",
                "the texts of one batch exceed 1 GiB",
            ));
        }
    }
    Ok(Arc::new(builder.finish()))
}

/// `f` of one text, written behind what a buffer holds.
pub(crate) fn unary_text(
    args: &Args<'_>,
    f: impl Fn(&str, &mut String),
) -> Result<ArrayRef, EvalError> {
    let texts = args.strings(0);
    let mut buffer = String::new();
    strings(
        args.rows,
        args.nulls().as_ref(),
        texts.capacity(),
        |row, out| {
            buffer.clear();
            f(texts.at(row), &mut buffer);
            let _ = out.write_str(&buffer);
            Ok(true)
        },
    )
}

/// Bytes of text that one result column may hold: half of what its 32-bit offsets could.
const TEXT_BYTES_MAX: usize = 1 << 30;
