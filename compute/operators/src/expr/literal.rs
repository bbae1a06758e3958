//! Literals of a plan as constants: arrays of one row of the type's arrow mapping.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array,
        DurationMillisecondArray, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array,
        Int64Array, IntervalYearMonthArray, StringArray, Time32MillisecondArray,
        TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
        new_null_array,
    },
    datatypes::TimeUnit,
};
use engine::schema::{arrow_type, time_unit};
use proto::{
    plan::{Literal, PlanError, literal::Value},
    types::LogicalType,
};

use super::{ExprError, cast::parse_decimal};

/// The constant that `literal` of type `logical` stands for.
pub(crate) fn constant(literal: &Literal, logical: &LogicalType) -> Result<ArrayRef, ExprError> {
    let value = literal
        .value
        .as_ref()
        .ok_or(PlanError::Missing("literal.value"))?;
    let invalid = || PlanError::Invalid {
        what: "literal",
        value: format!("{value:?} as {logical}"),
    };
    let array: ArrayRef = match (value, logical) {
        (Value::Null(_), _) => new_null_array(&arrow_type(logical), 1),
        (Value::Boolean(value), LogicalType::Boolean) => Arc::new(BooleanArray::from(vec![*value])),
        (Value::Integer(value), _) => integer(*value, logical).ok_or_else(invalid)?,
        (Value::Double(value), LogicalType::Double) => Arc::new(Float64Array::from(vec![*value])),
        (Value::Double(value), LogicalType::Float) => {
            Arc::new(Float32Array::from(vec![*value as f32]))
        }
        (Value::Decimal(text), LogicalType::Decimal { precision, scale }) => {
            let value = parse_decimal(text, *precision, *scale).ok_or_else(invalid)?;
            decimal(value.ok_or_else(invalid)?, *precision, *scale)
        }
        (Value::String(text), LogicalType::Char(_) | LogicalType::Varchar(_)) => {
            Arc::new(StringArray::from(vec![text.as_str()]))
        }
        (Value::Binary(bytes), LogicalType::Binary(_) | LogicalType::Varbinary(_)) => {
            Arc::new(BinaryArray::from(vec![bytes.as_ref()]))
        }
        _ => return Err(invalid().into()),
    };
    Ok(array)
}

fn decimal(value: i128, precision: u8, scale: u8) -> ArrayRef {
    let array = Decimal128Array::from(vec![value]);
    let data_type = arrow_type(&LogicalType::Decimal { precision, scale });
    Arc::new(array.with_data_type(data_type))
}

fn integer(value: i64, logical: &LogicalType) -> Option<ArrayRef> {
    let narrow = i32::try_from(value);
    Some(match logical {
        LogicalType::TinyInt => Arc::new(Int8Array::from(vec![i8::try_from(value).ok()?])),
        LogicalType::SmallInt => Arc::new(Int16Array::from(vec![i16::try_from(value).ok()?])),
        LogicalType::Int => Arc::new(Int32Array::from(vec![narrow.ok()?])),
        LogicalType::BigInt => Arc::new(Int64Array::from(vec![value])),
        LogicalType::Float => Arc::new(Float32Array::from(vec![value as f32])),
        LogicalType::Double => Arc::new(Float64Array::from(vec![value as f64])),
        LogicalType::Decimal { precision, scale } => {
            let scaled = i128::from(value).checked_mul(10i128.checked_pow(u32::from(*scale))?)?;
            decimal(scaled, *precision, *scale)
        }
        LogicalType::Date => Arc::new(Date32Array::from(vec![narrow.ok()?])),
        LogicalType::Time(_) => Arc::new(Time32MillisecondArray::from(vec![narrow.ok()?])),
        LogicalType::IntervalYearMonth => {
            Arc::new(IntervalYearMonthArray::from(vec![narrow.ok()?]))
        }
        LogicalType::IntervalDayTime => Arc::new(DurationMillisecondArray::from(vec![value])),
        LogicalType::Timestamp(precision) => timestamp(value, *precision, None),
        LogicalType::TimestampLtz(precision) => timestamp(value, *precision, Some("UTC".into())),
        _ => return None,
    })
}

fn timestamp(value: i64, precision: u8, zone: Option<Arc<str>>) -> ArrayRef {
    let values = vec![value];
    match time_unit(precision) {
        TimeUnit::Second | TimeUnit::Millisecond => {
            Arc::new(TimestampMillisecondArray::from(values).with_timezone_opt(zone))
        }
        TimeUnit::Microsecond => {
            Arc::new(TimestampMicrosecondArray::from(values).with_timezone_opt(zone))
        }
        TimeUnit::Nanosecond => {
            Arc::new(TimestampNanosecondArray::from(values).with_timezone_opt(zone))
        }
    }
}
