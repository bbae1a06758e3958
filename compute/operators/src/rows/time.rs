//! Event times of a column as milliseconds, whatever unit the column has.

use arrow::{
    array::{Array, ArrayRef, AsArray as _},
    buffer::ScalarBuffer,
    datatypes::{
        DataType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
        TimestampNanosecondType, TimestampSecondType,
    },
};
use engine::{TIMESTAMP_MIN, operator::OperatorError};

/// Milliseconds since 1970 of a timestamp column, rounded down; NULL is before all time.
pub(crate) fn milliseconds(array: &ArrayRef) -> Result<ScalarBuffer<i64>, OperatorError> {
    let (values, per_ms) = units(array)?;
    if per_ms == 1 && array.null_count() == 0 {
        return Ok(values);
    }
    Ok(with_nulls(array, |row| values[row].div_euclid(per_ms)))
}

/// Times of a timestamp column since 1970 in a unit of which a millisecond has so many; NULL is before
/// all time.
pub(crate) fn instants(array: &ArrayRef) -> Result<(ScalarBuffer<i64>, i64), OperatorError> {
    let (values, per_ms) = units(array)?;
    Ok((with_nulls(array, |row| values[row]), per_ms))
}

fn with_nulls(array: &ArrayRef, time: impl Fn(usize) -> i64) -> ScalarBuffer<i64> {
    let time = |row: usize| match array.is_null(row) {
        true => TIMESTAMP_MIN,
        false => time(row),
    };
    (0..array.len()).map(time).collect()
}

/// Values of a timestamp column, and how many of their units a millisecond has.
fn units(array: &ArrayRef) -> Result<(ScalarBuffer<i64>, i64), OperatorError> {
    Ok(match array.data_type() {
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            let array = array.as_primitive::<TimestampMillisecondType>();
            (array.values().clone(), 1)
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let array = array.as_primitive::<TimestampMicrosecondType>();
            (array.values().clone(), 1_000)
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            let array = array.as_primitive::<TimestampNanosecondType>();
            (array.values().clone(), 1_000_000)
        }
        DataType::Timestamp(TimeUnit::Second, _) => {
            let array = array.as_primitive::<TimestampSecondType>();
            let ms = array.values().iter().map(|s| s.saturating_mul(1_000));
            (ms.collect(), 1)
        }
        other => {
            let message = format!("a time column has type {other}");
            return Err(OperatorError::Plan(message));
        }
    })
}
