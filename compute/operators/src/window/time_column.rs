//! Event times of a batch, in milliseconds.

use arrow::{
    array::{Array, ArrayRef, AsArray as _, TimestampMillisecondArray},
    compute::cast,
    datatypes::{
        DataType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
        TimestampNanosecondType,
    },
};
use engine::{Timestamp, operator::OperatorError};

/// The times of a TIMESTAMP or TIMESTAMP_LTZ column.
pub(crate) fn times(column: &ArrayRef) -> Result<Vec<Timestamp>, OperatorError> {
    if column.null_count() > 0 {
        let message = "a row has NULL as its event time; filter such rows out before the window";
        return Err(OperatorError::Evaluate(message.to_owned()));
    }
    Ok(match column.data_type() {
        DataType::Timestamp(TimeUnit::Millisecond, _) => column
            .as_primitive::<TimestampMillisecondType>()
            .values()
            .to_vec(),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let values = column.as_primitive::<TimestampMicrosecondType>().values();
            values.iter().map(|time| time.div_euclid(1_000)).collect()
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            let values = column.as_primitive::<TimestampNanosecondType>().values();
            values
                .iter()
                .map(|time| time.div_euclid(1_000_000))
                .collect()
        }
        other => {
            return Err(OperatorError::Plan(format!(
                "windows over {other} are not supported"
            )));
        }
    })
}

/// A column of times in a type of theirs.
pub(crate) fn time_array(
    times: Vec<Timestamp>,
    data_type: &DataType,
) -> Result<ArrayRef, OperatorError> {
    let times = TimestampMillisecondArray::from(times);
    Ok(match data_type {
        DataType::Timestamp(TimeUnit::Millisecond, zone) => {
            std::sync::Arc::new(times.with_timezone_opt(zone.clone()))
        }
        DataType::Timestamp(unit, zone) => {
            let whole = cast(&times, &DataType::Timestamp(*unit, None))?;
            cast(&whole, &DataType::Timestamp(*unit, zone.clone()))?
        }
        other => return Err(OperatorError::Plan(format!("a window's time as {other}"))),
    })
}
