//! CAST among DATE, TIME, TIMESTAMP and TIMESTAMP_LTZ. The session's zone is UTC, so that the two
//! timestamps have the same digits.

use std::sync::Arc;

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, PrimitiveArray},
    datatypes::{
        Date32Type, Time32MillisecondType, TimeUnit, TimestampMicrosecondType,
        TimestampMillisecondType, TimestampNanosecondType,
    },
};
use engine::schema::{arrow_type, time_unit};
use proto::types::LogicalType;

use super::{Cast, Mode};
use crate::expr::{EvalError, calendar::DAY_MS, format::timestamp_parts};

/// The cast between two temporal types, if there is one.
pub(super) fn build(from: &LogicalType, to: &LogicalType, mode: Mode) -> Option<Cast> {
    use LogicalType as T;
    let to = to.clone();
    // Milliseconds hold all that DATE and TIMESTAMP(3) do; finer units reach less far.
    let partial = |cost, convert| match &to {
        T::Timestamp(0..=3) | T::TimestampLtz(0..=3) => Cast::total(cost, convert),
        _ => Cast::partial(mode, cost, convert),
    };
    let cast = match (from, &to) {
        (T::Timestamp(a) | T::TimestampLtz(a), T::Timestamp(b) | T::TimestampLtz(b)) => {
            if time_unit(*a) == time_unit(*b) && a <= b {
                // Only the zone's mark differs.
                let data_type = arrow_type(&to);
                return Some(Cast::total(
                    0,
                    Box::new(move |array| {
                        let data = array.to_data().into_builder().data_type(data_type.clone());
                        Ok(arrow::array::make_array(data.build()?))
                    }),
                ));
            }
            let wanted = to.clone();
            partial(
                3,
                Box::new(move |array| timestamps(parts(array), &wanted, mode)),
            )
        }
        (T::Timestamp(_), T::Date) => to_date(|ms| ms / DAY_MS),
        (T::TimestampLtz(_), T::Date) => to_date(|ms| ms.div_euclid(DAY_MS)),
        (T::Timestamp(_) | T::TimestampLtz(_), T::Time(precision)) => to_time(*precision),
        (T::Date, T::Timestamp(_) | T::TimestampLtz(_)) => {
            let wanted = to.clone();
            partial(
                2,
                Box::new(move |array| {
                    let days = array.as_primitive::<Date32Type>();
                    let parts = days
                        .iter()
                        .map(|day| day.map(|day| (i64::from(day) * DAY_MS, 0)));
                    timestamps(parts.collect(), &wanted, mode)
                }),
            )
        }
        (T::Time(_), T::Timestamp(_) | T::TimestampLtz(_)) => Cast::total(
            2,
            Box::new(move |array| {
                let times = array.as_primitive::<Time32MillisecondType>();
                let parts = times.iter().map(|time| time.map(|ms| (i64::from(ms), 0)));
                timestamps(parts.collect(), &to, mode)
            }),
        ),
        (T::Time(_), T::Time(precision)) => {
            let precision = *precision;
            Cast::total(
                1,
                Box::new(move |array| {
                    let times = array.as_primitive::<Time32MillisecondType>();
                    let cut = times.unary::<_, Time32MillisecondType>(|ms| cut_time(ms, precision));
                    Ok(Arc::new(cut))
                }),
            )
        }
        _ => return None,
    };
    Some(cast)
}

/// The day of a TIMESTAMP before 1970 is rounded towards 1970: so the dialect's reference does it.
fn to_date(day: fn(i64) -> i64) -> Cast {
    Cast::total(
        2,
        Box::new(move |array| {
            let days = parts(array)
                .into_iter()
                .map(|parts| parts.map(|(ms, _)| day(ms) as i32));
            Ok(Arc::new(days.collect::<PrimitiveArray<Date32Type>>()))
        }),
    )
}

fn to_time(precision: u8) -> Cast {
    Cast::total(
        2,
        Box::new(move |array| {
            let times = parts(array).into_iter().map(|parts| {
                parts.map(|(ms, _)| cut_time(ms.rem_euclid(DAY_MS) as i32, precision))
            });
            Ok(Arc::new(
                times.collect::<PrimitiveArray<Time32MillisecondType>>(),
            ))
        }),
    )
}

/// A time of day with `precision` digits of a second.
pub(super) fn cut_time(ms: i32, precision: u8) -> i32 {
    let unit = 10i32.pow(u32::from(3 - precision.min(3)));
    ms / unit * unit
}

fn parts(array: &ArrayRef) -> Vec<Option<(i64, u32)>> {
    (0..array.len())
        .map(|row| array.is_valid(row).then(|| timestamp_parts(array, row)))
        .collect()
}

/// The instant cut to `precision` digits of a second. Whole milliseconds before 1970 are cut
/// towards 1970, what is below them backwards: so the dialect's reference does it.
pub(crate) fn set_precision((ms, nanos): (i64, u32), precision: u8) -> (i64, u32) {
    if precision <= 3 {
        let unit = 10i64.pow(u32::from(3 - precision));
        (ms / unit * unit, 0)
    } else {
        let unit = 10u32.pow(u32::from(9 - precision.min(9)));
        (ms, nanos / unit * unit)
    }
}

/// What is said of an instant that a count of microseconds or nanoseconds does not reach.
pub(crate) const OUT_OF_RANGE: &str =
    "timestamps of more than 6 digits reach from 1677 to 2262: use TIMESTAMP(6) or fewer digits";

/// A column of TIMESTAMP or TIMESTAMP_LTZ from milliseconds and nanoseconds within them.
///
/// # Errors
/// In [`Mode::Fail`], for an instant that the type does not reach; it is NULL otherwise.
pub(crate) fn timestamps(
    parts: Vec<Option<(i64, u32)>>,
    to: &LogicalType,
    mode: Mode,
) -> Result<ArrayRef, EvalError> {
    let precision = match to {
        LogicalType::Timestamp(precision) | LogicalType::TimestampLtz(precision) => *precision,
        _ => 3,
    };
    let (per_ms, nanos_per_count) = match time_unit(precision) {
        TimeUnit::Second | TimeUnit::Millisecond => (1, 1_000_000),
        TimeUnit::Microsecond => (1_000, 1_000),
        TimeUnit::Nanosecond => (1_000_000, 1),
    };
    let mut counts = Vec::with_capacity(parts.len());
    for parts in parts {
        let Some(parts) = parts else {
            counts.push(None);
            continue;
        };
        let (ms, nanos) = set_precision(parts, precision);
        let count = i128::from(ms) * per_ms + i128::from(nanos / nanos_per_count);
        let count = i64::try_from(count).ok();
        if count.is_none() && mode == Mode::Fail {
            return Err(EvalError::function("a timestamp", OUT_OF_RANGE));
        }
        counts.push(count);
    }
    let data_type = arrow_type(to);
    Ok(match time_unit(precision) {
        TimeUnit::Second | TimeUnit::Millisecond => {
            let array: PrimitiveArray<TimestampMillisecondType> = counts.into_iter().collect();
            Arc::new(array.with_data_type(data_type))
        }
        TimeUnit::Microsecond => {
            let array: PrimitiveArray<TimestampMicrosecondType> = counts.into_iter().collect();
            Arc::new(array.with_data_type(data_type))
        }
        TimeUnit::Nanosecond => {
            let array: PrimitiveArray<TimestampNanosecondType> = counts.into_iter().collect();
            Arc::new(array.with_data_type(data_type))
        }
    })
}
