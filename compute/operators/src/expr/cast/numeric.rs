//! CAST among numbers, BOOLEAN and (from) intervals.
//!
//! Integers wrap when they are too narrow, floats saturate and lose their fraction, DECIMAL rounds
//! half up and is NULL when it has too many digits.

use std::sync::Arc;

use arrow::{
    array::{Array as _, ArrayRef, ArrowPrimitiveType, AsArray as _, BooleanArray, PrimitiveArray},
    buffer::BooleanBuffer,
    datatypes::{
        ArrowNativeTypeOp, Decimal128Type, DurationMillisecondType, Float32Type, Float64Type,
        Int8Type, Int16Type, Int32Type, Int64Type, IntervalYearMonthType,
    },
};
use engine::schema::arrow_type;
use proto::types::LogicalType;

use super::{Cast, Convert, Mode, cannot_cast, parse::parse_decimal};
use crate::{
    expr::{
        EvalError,
        format::{write_decimal, write_double, write_float},
    },
    scalar::{POWERS_OF_TEN, fits, rescale},
};

/// The cast between two number types or BOOLEAN.
pub(super) fn build(from: &LogicalType, to: &LogicalType, mode: Mode) -> Option<Cast> {
    use LogicalType as T;
    match (from, to) {
        (T::Boolean, T::Boolean) => Some(super::identity()),
        (T::Boolean, to) => from_boolean(to),
        (from, T::Boolean) => to_boolean(from),
        (T::Decimal { precision, scale }, to) => from_decimal(*precision, *scale, to),
        (from, T::Decimal { .. }) => to_decimal(from, to, mode),
        (T::TinyInt, to) => from_integer::<Int8Type>(to, i64::from),
        (T::SmallInt, to) => from_integer::<Int16Type>(to, i64::from),
        (T::Int, to) => from_integer::<Int32Type>(to, i64::from),
        (T::BigInt, to) => from_integer::<Int64Type>(to, |value| value),
        (T::Float, T::Double) => Some(Cast::total(1, map::<Float32Type, Float64Type>(f64::from))),
        (T::Float, to) => from_float::<Float32Type>(to, f64::from),
        (T::Double, T::Float) => Some(Cast::total(
            1,
            map::<Float64Type, Float32Type>(|value| value as f32),
        )),
        (T::Double, to) => from_float::<Float64Type>(to, |value| value),
        _ => None,
    }
}

/// The cast of a constant DOUBLE to FLOAT, which the dialect's planner makes of seven decimal
/// digits: `CAST(1E0 / 3 AS FLOAT)` is 0.3333333.
pub(crate) fn constant_double_to_float() -> Cast {
    let seven_digits = |value: f64| {
        if value.is_finite() {
            format!("{value:.6e}").parse().unwrap_or(value as f32)
        } else {
            value as f32
        }
    };
    Cast::total(1, map::<Float64Type, Float32Type>(seven_digits))
}

/// The cast of an interval, in months or ms, to a number.
pub(super) fn build_from_interval(to: &LogicalType) -> Option<Cast> {
    let to = to.clone();
    let from_months = from_integer::<IntervalYearMonthType>(&to, i64::from)?;
    let from_ms = from_integer::<DurationMillisecondType>(&to, |value| value)?;
    Some(Cast::total(
        1,
        Box::new(move |array| match array.data_type() {
            arrow::datatypes::DataType::Interval(_) => (from_months.convert)(array),
            _ => (from_ms.convert)(array),
        }),
    ))
}

fn map<A, O>(f: fn(A::Native) -> O::Native) -> Convert
where
    A: ArrowPrimitiveType,
    O: ArrowPrimitiveType,
{
    Box::new(move |array| Ok(Arc::new(array.as_primitive::<A>().unary::<_, O>(f))))
}

/// `to_i64` is exact.
fn from_integer<A>(to: &LogicalType, to_i64: fn(A::Native) -> i64) -> Option<Cast>
where
    A: ArrowPrimitiveType,
{
    fn cast<A: ArrowPrimitiveType, O: ArrowPrimitiveType>(
        to_i64: fn(A::Native) -> i64,
        narrow: fn(i64) -> O::Native,
    ) -> Option<Cast> {
        Some(Cast::total(
            1,
            Box::new(move |array| {
                let array = array.as_primitive::<A>();
                Ok(Arc::new(array.unary::<_, O>(|value| narrow(to_i64(value)))))
            }),
        ))
    }
    match to {
        LogicalType::TinyInt => cast::<A, Int8Type>(to_i64, |value| value as i8),
        LogicalType::SmallInt => cast::<A, Int16Type>(to_i64, |value| value as i16),
        LogicalType::Int => cast::<A, Int32Type>(to_i64, |value| value as i32),
        LogicalType::BigInt => cast::<A, Int64Type>(to_i64, |value| value),
        LogicalType::Float => cast::<A, Float32Type>(to_i64, |value| value as f32),
        LogicalType::Double => cast::<A, Float64Type>(to_i64, |value| value as f64),
        _ => None,
    }
}

/// Floats saturate to 32 or 64 bits; narrower integers then wrap.
fn from_float<A>(to: &LogicalType, to_f64: fn(A::Native) -> f64) -> Option<Cast>
where
    A: ArrowPrimitiveType,
{
    fn cast<A: ArrowPrimitiveType, O: ArrowPrimitiveType>(
        to_f64: fn(A::Native) -> f64,
        narrow: fn(f64) -> O::Native,
    ) -> Option<Cast> {
        Some(Cast::total(
            1,
            Box::new(move |array| {
                let array = array.as_primitive::<A>();
                Ok(Arc::new(array.unary::<_, O>(|value| narrow(to_f64(value)))))
            }),
        ))
    }
    match to {
        LogicalType::TinyInt => cast::<A, Int8Type>(to_f64, |value| value as i32 as i8),
        LogicalType::SmallInt => cast::<A, Int16Type>(to_f64, |value| value as i32 as i16),
        LogicalType::Int => cast::<A, Int32Type>(to_f64, |value| value as i32),
        LogicalType::BigInt => cast::<A, Int64Type>(to_f64, |value| value as i64),
        _ => None,
    }
}

fn from_boolean(to: &LogicalType) -> Option<Cast> {
    if let LogicalType::Decimal { precision, scale } = to {
        let one = Some(POWERS_OF_TEN[usize::from(*scale)]).filter(|one| fits(*one, *precision));
        let data_type = arrow_type(to);
        return Some(Cast::total(
            1,
            Box::new(move |array| {
                let values = array.as_boolean().iter();
                let decimals: PrimitiveArray<Decimal128Type> = values
                    .map(|value| match value {
                        Some(true) => one,
                        Some(false) => Some(0),
                        None => None,
                    })
                    .collect();
                Ok(Arc::new(decimals.with_data_type(data_type.clone())))
            }),
        ));
    }
    let data_type = arrow_type(to);
    Some(Cast::total(
        1,
        Box::new(move |array| Ok(arrow::compute::cast(array, &data_type)?)),
    ))
}

fn to_boolean(from: &LogicalType) -> Option<Cast> {
    fn cast<A>() -> Option<Cast>
    where
        A: ArrowPrimitiveType,
        A::Native: ArrowNativeTypeOp,
    {
        Some(Cast::total(
            1,
            Box::new(|array| {
                let array = array.as_primitive::<A>();
                let values = array.values();
                let bits = BooleanBuffer::collect_bool(values.len(), |row| !values[row].is_zero());
                Ok(Arc::new(BooleanArray::new(bits, array.nulls().cloned())))
            }),
        ))
    }
    match from {
        LogicalType::TinyInt => cast::<Int8Type>(),
        LogicalType::SmallInt => cast::<Int16Type>(),
        LogicalType::Int => cast::<Int32Type>(),
        LogicalType::BigInt => cast::<Int64Type>(),
        LogicalType::Float => cast::<Float32Type>(),
        LogicalType::Double => cast::<Float64Type>(),
        LogicalType::Decimal { .. } => cast::<Decimal128Type>(),
        _ => None,
    }
}

fn from_decimal(precision: u8, scale: u8, to: &LogicalType) -> Option<Cast> {
    fn integer<O: ArrowPrimitiveType>(scale: u8, narrow: fn(i64) -> O::Native) -> Option<Cast> {
        let divisor = POWERS_OF_TEN[usize::from(scale)];
        Some(Cast::total(
            2,
            Box::new(move |array| {
                let array = array.as_primitive::<Decimal128Type>();
                let whole = |value: i128| narrow((value / divisor) as i64);
                Ok(Arc::new(array.unary::<_, O>(whole)))
            }),
        ))
    }
    match to {
        LogicalType::TinyInt => integer::<Int8Type>(scale, |value| value as i8),
        LogicalType::SmallInt => integer::<Int16Type>(scale, |value| value as i16),
        LogicalType::Int => integer::<Int32Type>(scale, |value| value as i32),
        LogicalType::BigInt => integer::<Int64Type>(scale, |value| value),
        LogicalType::Double => Some(Cast::total(
            3,
            Box::new(move |array| {
                let array = array.as_primitive::<Decimal128Type>();
                let to_double = |value| decimal_to_double(value, scale);
                Ok(Arc::new(array.unary::<_, Float64Type>(to_double)))
            }),
        )),
        LogicalType::Float => Some(Cast::total(
            10,
            Box::new(move |array| {
                let array = array.as_primitive::<Decimal128Type>();
                let to_float = |value| decimal_text(value, scale).parse().unwrap_or(f32::NAN);
                Ok(Arc::new(array.unary::<_, Float32Type>(to_float)))
            }),
        )),
        LogicalType::Decimal {
            precision: to_precision,
            scale: to_scale,
        } => Some(decimal_to_decimal(
            (precision, scale),
            (*to_precision, *to_scale),
            to,
        )),
        _ => None,
    }
}

fn decimal_text(value: i128, scale: u8) -> String {
    let mut text = String::with_capacity(42);
    write_decimal(value, scale, &mut text);
    text
}

/// The nearest double.
pub(crate) fn decimal_to_double(value: i128, scale: u8) -> f64 {
    // Both are exact below 2^53 and up to 10^22, so that their quotient is rounded once.
    if value.unsigned_abs() < 1 << 53 && scale <= 22 {
        value as f64 / POWERS_OF_TEN[usize::from(scale)] as f64
    } else {
        decimal_text(value, scale).parse().unwrap_or(f64::NAN)
    }
}

fn decimal_to_decimal(from: (u8, u8), to: (u8, u8), logical: &LogicalType) -> Cast {
    let data_type = arrow_type(logical);
    let ((precision, scale), (to_precision, to_scale)) = (from, to);
    let grows = to_scale >= scale && to_precision - to_scale >= precision - scale;
    if grows {
        let factor = POWERS_OF_TEN[usize::from(to_scale - scale)];
        return Cast::total(
            1,
            Box::new(move |array| {
                let array = array.as_primitive::<Decimal128Type>();
                let scaled = if factor == 1 {
                    array.clone()
                } else {
                    array.unary::<_, Decimal128Type>(|value| value.wrapping_mul(factor))
                };
                Ok(Arc::new(scaled.with_data_type(data_type.clone())))
            }),
        );
    }
    Cast::total(
        3,
        Box::new(move |array| {
            let array = array.as_primitive::<Decimal128Type>();
            let cast = array.unary_opt::<_, Decimal128Type>(|value| {
                rescale(value, scale, to_scale).filter(|value| fits(*value, to_precision))
            });
            Ok(Arc::new(cast.with_data_type(data_type.clone())))
        }),
    )
}

fn to_decimal(from: &LogicalType, to: &LogicalType, mode: Mode) -> Option<Cast> {
    let LogicalType::Decimal { precision, scale } = *to else {
        return None;
    };
    match from {
        LogicalType::TinyInt => Some(integer_to_decimal::<Int8Type>(to, 3, i128::from)),
        LogicalType::SmallInt => Some(integer_to_decimal::<Int16Type>(to, 5, i128::from)),
        LogicalType::Int => Some(integer_to_decimal::<Int32Type>(to, 10, i128::from)),
        LogicalType::BigInt => Some(integer_to_decimal::<Int64Type>(to, 19, i128::from)),
        LogicalType::Float => Some(float_to_decimal::<Float32Type>(
            to,
            mode,
            move |value, text| {
                write_float(value, text);
                parse_decimal(text, precision, scale)
            },
        )),
        LogicalType::Double => Some(float_to_decimal::<Float64Type>(
            to,
            mode,
            move |value, text| {
                write_double(value, text);
                parse_decimal(text, precision, scale)
            },
        )),
        _ => None,
    }
}

fn integer_to_decimal<A: ArrowPrimitiveType>(
    to: &LogicalType,
    digits: u8,
    widen: fn(A::Native) -> i128,
) -> Cast {
    let (precision, scale) = match to {
        LogicalType::Decimal { precision, scale } => (*precision, *scale),
        _ => (38, 0),
    };
    let data_type = arrow_type(to);
    let factor = POWERS_OF_TEN[usize::from(scale)];
    let always_fits = precision - scale >= digits;
    Cast::total(
        1,
        Box::new(move |array| {
            let array = array.as_primitive::<A>();
            let cast = if always_fits && factor == 1 {
                array.unary::<_, Decimal128Type>(widen)
            } else if always_fits {
                array.unary::<_, Decimal128Type>(|value| widen(value).wrapping_mul(factor))
            } else {
                array.unary_opt::<_, Decimal128Type>(|value| {
                    let value = widen(value).checked_mul(factor)?;
                    fits(value, precision).then_some(value)
                })
            };
            Ok(Arc::new(cast.with_data_type(data_type.clone())))
        }),
    )
}

/// By way of the shortest text, so that 0.1 is 0.1.
fn float_to_decimal<A: ArrowPrimitiveType>(
    to: &LogicalType,
    mode: Mode,
    convert: impl Fn(A::Native, &mut String) -> Option<Option<i128>> + Send + Sync + 'static,
) -> Cast {
    let to = to.clone();
    let data_type = arrow_type(&to);
    let cast = move |array: &ArrayRef| -> Result<ArrayRef, EvalError> {
        let mut text = String::new();
        let mut decimals = Vec::with_capacity(array.len());
        for value in array.as_primitive::<A>() {
            let Some(value) = value else {
                decimals.push(None);
                continue;
            };
            text.clear();
            match convert(value, &mut text) {
                Some(decimal) => decimals.push(decimal),
                None if mode == Mode::Try => decimals.push(None),
                None => return Err(cannot_cast(&text, &to)),
            }
        }
        let decimals = PrimitiveArray::<Decimal128Type>::from(decimals);
        Ok(Arc::new(decimals.with_data_type(data_type.clone())))
    };
    Cast::partial(mode, 20, Box::new(cast))
}
