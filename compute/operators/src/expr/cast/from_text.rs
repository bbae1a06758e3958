//! CAST from CHAR and VARCHAR.

use std::sync::Arc;

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, BinaryBuilder, BooleanBuilder, PrimitiveBuilder},
    datatypes::{
        ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type,
        Int16Type, Int32Type, Int64Type, Time32MillisecondType,
    },
};
use engine::schema::arrow_type;
use proto::types::LogicalType;

use super::{
    Cast, Mode, cannot_cast,
    parse::{
        parse_boolean, parse_date, parse_decimal, parse_double, parse_integer, parse_time,
        parse_timestamp, trim,
    },
    temporal::{self, cut_time},
    to_text::fit_bytes,
};
use crate::expr::EvalError;

/// The cast from text to `to`, if there is one.
pub(super) fn build(to: &LogicalType, mode: Mode) -> Option<Cast> {
    use LogicalType as T;
    let cast = match to {
        T::Boolean => boolean(mode),
        T::TinyInt => parsed::<Int8Type>(to, mode, |text| {
            Some(Some(i8::try_from(parse_integer(text)?).ok()?))
        }),
        T::SmallInt => parsed::<Int16Type>(to, mode, |text| {
            Some(Some(i16::try_from(parse_integer(text)?).ok()?))
        }),
        T::Int => parsed::<Int32Type>(to, mode, |text| {
            Some(Some(i32::try_from(parse_integer(text)?).ok()?))
        }),
        T::BigInt => parsed::<Int64Type>(to, mode, |text| Some(Some(parse_integer(text)?))),
        T::Float => parsed::<Float32Type>(to, mode, |text| Some(Some(parse_float(text)?))),
        T::Double => parsed::<Float64Type>(to, mode, |text| Some(Some(parse_double(text)?))),
        T::Decimal { precision, scale } => {
            let (precision, scale) = (*precision, *scale);
            parsed::<Decimal128Type>(to, mode, move |text| parse_decimal(text, precision, scale))
        }
        T::Date => parsed::<Date32Type>(to, mode, |text| Some(Some(parse_date(text)?))),
        T::Time(precision) => {
            let precision = *precision;
            parsed::<Time32MillisecondType>(to, mode, move |text| {
                Some(Some(cut_time(parse_time(text)?, precision)))
            })
        }
        T::Timestamp(_) | T::TimestampLtz(_) => timestamp(to, mode),
        T::Binary(_) | T::Varbinary(_) => binary(to),
        _ => return None,
    };
    Some(cast)
}

fn parse_float(text: &str) -> Option<f32> {
    // Not by way of DOUBLE, which would round twice.
    let number = trim(text);
    let number = number.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(number);
    parse_double(text).map(|double| {
        if double.is_finite() {
            number.parse().unwrap_or(double as f32)
        } else {
            double as f32
        }
    })
}

/// `f`: `None` if the text does not parse, `Some(None)` for a value that becomes NULL.
fn parsed<T: ArrowPrimitiveType>(
    to: &LogicalType,
    mode: Mode,
    f: impl Fn(&str) -> Option<Option<T::Native>> + Send + Sync + 'static,
) -> Cast {
    let to = to.clone();
    let data_type = arrow_type(&to);
    let convert = move |array: &ArrayRef| -> Result<ArrayRef, EvalError> {
        let mut builder = PrimitiveBuilder::<T>::with_capacity(array.len());
        for text in array.as_string::<i32>() {
            let value = match text.map(|text| (text, f(text))) {
                None => None,
                Some((_, Some(value))) => value,
                Some((_, None)) if mode == Mode::Try => None,
                Some((text, None)) => return Err(cannot_cast(text, &to)),
            };
            builder.append_option(value);
        }
        Ok(Arc::new(builder.finish().with_data_type(data_type.clone())))
    };
    Cast::partial(mode, 10, Box::new(convert))
}

fn boolean(mode: Mode) -> Cast {
    let convert = move |array: &ArrayRef| -> Result<ArrayRef, EvalError> {
        let mut builder = BooleanBuilder::with_capacity(array.len());
        for text in array.as_string::<i32>() {
            let value = text.map(|text| (text, parse_boolean(text)));
            match value {
                Some((text, None)) if mode == Mode::Fail => {
                    return Err(cannot_cast(text, &LogicalType::Boolean));
                }
                value => builder.append_option(value.and_then(|(_, value)| value)),
            }
        }
        Ok(Arc::new(builder.finish()))
    };
    Cast::partial(mode, 10, Box::new(convert))
}

fn timestamp(to: &LogicalType, mode: Mode) -> Cast {
    let to = to.clone();
    let convert = move |array: &ArrayRef| -> Result<ArrayRef, EvalError> {
        let mut parts = Vec::with_capacity(array.len());
        for text in array.as_string::<i32>() {
            let value = text.map(|text| (text, parse_timestamp(text)));
            match value {
                Some((text, None)) if mode == Mode::Fail => return Err(cannot_cast(text, &to)),
                value => parts.push(value.and_then(|(_, value)| value)),
            }
        }
        temporal::timestamps(parts, &to, mode)
    };
    Cast::partial(mode, 20, Box::new(convert))
}

fn binary(to: &LogicalType) -> Cast {
    let to = to.clone();
    let convert = move |array: &ArrayRef| -> Result<ArrayRef, EvalError> {
        let texts = array.as_string::<i32>();
        let mut builder = BinaryBuilder::with_capacity(texts.len(), texts.value_data().len());
        for text in texts {
            match text {
                Some(text) => fit_bytes(text.as_bytes(), &to, &mut builder),
                None => builder.append_null(),
            }
        }
        Ok(Arc::new(builder.finish()))
    };
    Cast::total(5, Box::new(convert))
}
