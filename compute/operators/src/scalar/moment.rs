//! Points in time as whole numbers: how DATE, TIME and the timestamps are read and written, and
//! the units of time that SQL names.

use std::borrow::Cow;

use arrow::{
    array::{ArrayRef, AsArray as _},
    buffer::NullBuffer,
    datatypes::{
        Date32Type, Int32Type, Int64Type, Time32MillisecondType, TimeUnit,
        TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    },
};
use engine::schema::{arrow_type, time_unit};
use proto::types::LogicalType;

use super::kernel::finish;
use crate::expr::{calendar::DAY_MS, value::Value};

/// What a column of points in time counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Moment {
    /// Days since 1970.
    Date,
    /// Milliseconds of the day.
    Time,
    /// Milliseconds since 1970.
    Millis,
    /// Microseconds since 1970.
    Micros,
    /// Nanoseconds since 1970.
    Nanos,
}

impl Moment {
    pub(super) fn of(logical: &LogicalType) -> Option<Moment> {
        Some(match logical {
            LogicalType::Date => Moment::Date,
            LogicalType::Time(_) => Moment::Time,
            LogicalType::Timestamp(precision) | LogicalType::TimestampLtz(precision) => {
                match time_unit(*precision) {
                    TimeUnit::Second | TimeUnit::Millisecond => Moment::Millis,
                    TimeUnit::Microsecond => Moment::Micros,
                    TimeUnit::Nanosecond => Moment::Nanos,
                }
            }
            _ => return None,
        })
    }

    /// Counts of a millisecond; 1 for DATE and TIME.
    pub(super) fn per_ms(self) -> i64 {
        match self {
            Moment::Date | Moment::Time | Moment::Millis => 1,
            Moment::Micros => 1_000,
            Moment::Nanos => 1_000_000,
        }
    }

    /// The counts of a value, one for a constant.
    pub(super) fn counts(self, value: &Value) -> Cow<'_, [i64]> {
        let array = value.array();
        match self {
            Moment::Date => {
                let days = array.as_primitive::<Date32Type>().values();
                Cow::Owned(days.iter().map(|day| i64::from(*day)).collect())
            }
            Moment::Time => {
                let times = array.as_primitive::<Time32MillisecondType>().values();
                Cow::Owned(times.iter().map(|ms| i64::from(*ms)).collect())
            }
            Moment::Millis => {
                Cow::Borrowed(array.as_primitive::<TimestampMillisecondType>().values())
            }
            Moment::Micros => {
                Cow::Borrowed(array.as_primitive::<TimestampMicrosecondType>().values())
            }
            Moment::Nanos => {
                Cow::Borrowed(array.as_primitive::<TimestampNanosecondType>().values())
            }
        }
    }

    /// Milliseconds, since 1970 or of the day, rounded down.
    #[inline]
    pub(super) fn to_ms(self, count: i64) -> i64 {
        match self {
            Moment::Date => count * DAY_MS,
            Moment::Time | Moment::Millis => count,
            Moment::Micros => count.div_euclid(1_000),
            Moment::Nanos => count.div_euclid(1_000_000),
        }
    }

    /// All values in milliseconds.
    pub(super) fn millis(self, value: &Value) -> Cow<'_, [i64]> {
        let counts = self.counts(value);
        if matches!(self, Moment::Millis | Moment::Time) {
            return counts;
        }
        Cow::Owned(counts.iter().map(|count| self.to_ms(*count)).collect())
    }

    /// A column from counts.
    pub(super) fn column(
        self,
        counts: Vec<i64>,
        nulls: Option<NullBuffer>,
        logical: &LogicalType,
    ) -> ArrayRef {
        let data_type = arrow_type(logical);
        let narrow = |counts: Vec<i64>| -> Vec<i32> {
            counts.into_iter().map(|count| count as i32).collect()
        };
        match self {
            Moment::Date => finish::<Date32Type>(narrow(counts), nulls, &data_type),
            Moment::Time => finish::<Time32MillisecondType>(narrow(counts), nulls, &data_type),
            Moment::Millis => finish::<TimestampMillisecondType>(counts, nulls, &data_type),
            Moment::Micros => finish::<TimestampMicrosecondType>(counts, nulls, &data_type),
            Moment::Nanos => finish::<TimestampNanosecondType>(counts, nulls, &data_type),
        }
    }
}

/// A column of INT or BIGINT.
pub(super) fn integers(
    values: impl Iterator<Item = i64>,
    nulls: Option<NullBuffer>,
    logical: &LogicalType,
) -> ArrayRef {
    let data_type = arrow_type(logical);
    match logical {
        LogicalType::Int => finish::<Int32Type>(
            values.map(|value| value as i32).collect(),
            nulls,
            &data_type,
        ),
        _ => finish::<Int64Type>(values.collect(), nulls, &data_type),
    }
}

/// A unit of time by its SQL name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unit {
    Millennium,
    Century,
    Decade,
    Year,
    Quarter,
    Month,
    Week,
    Day,
    Hour,
    Minute,
    Second,
    Millisecond,
    Microsecond,
    Nanosecond,
    DayOfYear,
    DayOfWeek,
    IsoDayOfWeek,
    IsoYear,
    Epoch,
}

impl Unit {
    pub(super) fn parse(name: &str) -> Option<Unit> {
        let name = name.to_ascii_uppercase();
        let name = name.strip_prefix("SQL_TSI_").unwrap_or(&name);
        Some(match name {
            "MILLENNIUM" => Unit::Millennium,
            "CENTURY" => Unit::Century,
            "DECADE" => Unit::Decade,
            "YEAR" | "YEARS" => Unit::Year,
            "QUARTER" | "QUARTERS" => Unit::Quarter,
            "MONTH" | "MONTHS" => Unit::Month,
            "WEEK" | "WEEKS" => Unit::Week,
            "DAY" | "DAYS" | "DAYOFMONTH" => Unit::Day,
            "HOUR" | "HOURS" => Unit::Hour,
            "MINUTE" | "MINUTES" => Unit::Minute,
            "SECOND" | "SECONDS" => Unit::Second,
            "MILLISECOND" | "MILLISECONDS" => Unit::Millisecond,
            "MICROSECOND" | "MICROSECONDS" => Unit::Microsecond,
            "NANOSECOND" | "NANOSECONDS" => Unit::Nanosecond,
            "DOY" | "DAYOFYEAR" => Unit::DayOfYear,
            "DOW" | "DAYOFWEEK" => Unit::DayOfWeek,
            "ISODOW" => Unit::IsoDayOfWeek,
            "ISOYEAR" => Unit::IsoYear,
            "EPOCH" => Unit::Epoch,
            _ => return None,
        })
    }

    /// Months of the unit, for the calendar's units.
    pub(super) fn months(self) -> Option<i64> {
        Some(match self {
            Unit::Millennium => 12_000,
            Unit::Century => 1_200,
            Unit::Decade => 120,
            Unit::Year => 12,
            Unit::Quarter => 3,
            Unit::Month => 1,
            _ => return None,
        })
    }

    /// Milliseconds of the unit, for the clock's units down to them.
    pub(super) fn millis(self) -> Option<i64> {
        Some(match self {
            Unit::Week => 7 * DAY_MS,
            Unit::Day => DAY_MS,
            Unit::Hour => 3_600_000,
            Unit::Minute => 60_000,
            Unit::Second => 1_000,
            Unit::Millisecond => 1,
            _ => return None,
        })
    }
}
