//! EXTRACT, FLOOR(x TO unit) and CEIL(x TO unit).

use arrow::datatypes::{DurationMillisecondType, IntervalYearMonthType};
use proto::{plan::ScalarFunction, types::LogicalType};

use super::{
    Kernel, Signature,
    moment::{Moment, Unit, integers},
};
use crate::expr::{
    ExprError,
    calendar::{DAY_MS, add_months, civil, day_of_year, days, iso_week, weekday},
};

/// Makes the kernel of EXTRACT, FLOOR or CEIL.
pub(super) fn build(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    let (operand, unit) = match signature.function {
        ScalarFunction::Extract => (1, 0),
        _ => (0, 1),
    };
    if signature.args.len() != 2 {
        return Err(signature.unsupported());
    }
    let name = signature
        .constant_text(unit)
        .ok_or_else(|| signature.invalid("the unit must be a constant"))?;
    let unknown = || signature.invalid(format!("unknown unit `{name}`"));
    let unit = Unit::parse(name).ok_or_else(unknown)?;
    let logical = &signature.args[operand].logical;
    if signature.function == ScalarFunction::Extract {
        return match Moment::of(logical) {
            Some(moment) => extract(moment, unit, signature),
            None => extract_from_interval(unit, signature),
        };
    }
    let moment = Moment::of(logical).ok_or_else(|| signature.unsupported())?;
    let floor = signature.function == ScalarFunction::FloorTime;
    round(moment, unit, floor, logical).ok_or_else(unknown)
}

fn extract(moment: Moment, unit: Unit, signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    let result = signature.result.logical.clone();
    if matches!(unit, Unit::Microsecond | Unit::Nanosecond) {
        let (per_second, per_nanos) = match unit {
            Unit::Microsecond => (1_000_000_000 / 1_000, 1_000),
            _ => (1_000_000_000, 1),
        };
        return Ok(Box::new(move |args| {
            let to_nanos = 1_000_000 / moment.per_ms();
            let counts = moment.counts(args.value(1));
            let fraction = |count: &i64| match moment {
                Moment::Date => 0,
                _ => count.rem_euclid(1000 * moment.per_ms()) * to_nanos / per_nanos % per_second,
            };
            let values = counts.iter().map(fraction);
            Ok(integers(values, args.nulls_of(1..2), &result))
        }));
    }
    let part = part(unit).ok_or_else(|| signature.unsupported())?;
    Ok(Box::new(move |args| {
        let millis = moment.millis(args.value(1));
        let values = millis.iter().map(|ms| part(*ms));
        Ok(integers(values, args.nulls_of(1..2), &result))
    }))
}

/// The day of an instant. Before 1970 it and the time of day are rounded towards 1970: so the
/// dialect's reference does it, and its results are what ours are compared with.
fn day_of(ms: i64) -> i64 {
    ms / DAY_MS
}

/// The part of a point in time, given in ms.
fn part(unit: Unit) -> Option<fn(i64) -> i64> {
    Some(match unit {
        Unit::Year => |ms| civil(day_of(ms)).year,
        Unit::Quarter => |ms| i64::from((civil(day_of(ms)).month - 1) / 3 + 1),
        Unit::Month => |ms| i64::from(civil(day_of(ms)).month),
        Unit::Day => |ms| i64::from(civil(day_of(ms)).day),
        Unit::Week => |ms| iso_week(day_of(ms)).1,
        Unit::IsoYear => |ms| iso_week(day_of(ms)).0,
        Unit::DayOfYear => |ms| day_of_year(day_of(ms)),
        Unit::DayOfWeek => |ms| weekday(day_of(ms)) + 1,
        Unit::IsoDayOfWeek => |ms| (weekday(day_of(ms)) + 6) % 7 + 1,
        Unit::Hour => |ms| ms % DAY_MS / 3_600_000,
        Unit::Minute => |ms| ms % 3_600_000 / 60_000,
        Unit::Second => |ms| ms % 60_000 / 1_000,
        Unit::Millisecond => |ms| ms % 1_000,
        Unit::Epoch => |ms| ms.div_euclid(1_000),
        Unit::Decade => |ms| civil(day_of(ms)).year.div_euclid(10),
        Unit::Century => |ms| (civil(day_of(ms)).year + 99).div_euclid(100),
        Unit::Millennium => |ms| (civil(day_of(ms)).year + 999).div_euclid(1_000),
        Unit::Microsecond | Unit::Nanosecond => return None,
    })
}

fn extract_from_interval(unit: Unit, signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    let result = signature.result.logical.clone();
    let months: Option<fn(i64) -> i64> = match unit {
        Unit::Millennium => Some(|months| months / 12_000),
        Unit::Century => Some(|months| months / 1_200),
        Unit::Decade => Some(|months| months / 120),
        Unit::Year => Some(|months| months / 12),
        Unit::Quarter => Some(|months| months % 12 / 3 + 1),
        Unit::Month => Some(|months| months % 12),
        _ => None,
    };
    let millis: Option<fn(i64) -> i64> = match unit {
        Unit::Day => Some(|ms| ms / DAY_MS),
        Unit::Hour => Some(|ms| ms % DAY_MS / 3_600_000),
        Unit::Minute => Some(|ms| ms % 3_600_000 / 60_000),
        Unit::Second => Some(|ms| ms % 60_000 / 1_000),
        Unit::Millisecond => Some(|ms| ms % 1_000),
        Unit::Epoch => Some(|ms| ms / 1_000),
        _ => None,
    };
    match (&signature.args[1].logical, months, millis) {
        (LogicalType::IntervalYearMonth, Some(part), _) => Ok(Box::new(move |args| {
            let months = args.numbers::<IntervalYearMonthType>(1);
            let values = months.values().iter().map(|value| part(i64::from(*value)));
            Ok(integers(values, args.nulls_of(1..2), &result))
        })),
        (LogicalType::IntervalDayTime, _, Some(part)) => Ok(Box::new(move |args| {
            let millis = args.numbers::<DurationMillisecondType>(1);
            let values = millis.values().iter().map(|value| part(*value));
            Ok(integers(values, args.nulls_of(1..2), &result))
        })),
        _ => Err(signature.unsupported()),
    }
}

/// The start of the unit that contains a day.
fn floor_day(day: i64, unit: Unit) -> i64 {
    let date = civil(day);
    let start =
        |years: i64, first: i64| days((date.year - first).div_euclid(years) * years + first, 1, 1);
    match unit {
        Unit::Millennium => start(1_000, 1),
        Unit::Century => start(100, 1),
        Unit::Decade => start(10, 0),
        Unit::Year => days(date.year, 1, 1),
        Unit::Quarter => days(date.year, (date.month - 1) / 3 * 3 + 1, 1),
        Unit::Month => days(date.year, date.month, 1),
        Unit::Week => day - weekday(day),
        _ => day,
    }
}

fn floor_ms(ms: i64, unit: Unit) -> i64 {
    match unit {
        Unit::Hour | Unit::Minute | Unit::Second | Unit::Millisecond => {
            let unit = unit.millis().unwrap_or(1);
            ms.div_euclid(unit) * unit
        }
        Unit::Day => ms.div_euclid(DAY_MS) * DAY_MS,
        _ => floor_day(day_of(ms), unit) * DAY_MS,
    }
}

/// The start of the next unit after one that starts at `ms`.
fn next_ms(ms: i64, unit: Unit) -> i64 {
    match (unit.months(), unit.millis()) {
        (Some(months), _) => add_months(day_of(ms), months) * DAY_MS,
        (None, Some(millis)) => ms + millis,
        (None, None) => ms,
    }
}

fn round(moment: Moment, unit: Unit, floor: bool, logical: &LogicalType) -> Option<Kernel> {
    let sub_ms = matches!(unit, Unit::Microsecond | Unit::Nanosecond);
    if !sub_ms && unit.months().is_none() && unit.millis().is_none() {
        return None;
    }
    let logical = logical.clone();
    Some(Box::new(move |args| {
        if sub_ms {
            return Ok(args.value(0).array().clone());
        }
        let per_ms = moment.per_ms();
        let counts = moment.counts(args.value(0));
        let rounded = counts.iter().map(|count| {
            let start = floor_ms(moment.to_ms(*count), unit);
            let exact = moment != Moment::Date && start * per_ms == *count
                || moment == Moment::Date && start == *count * DAY_MS;
            let ms = if floor || exact {
                start
            } else {
                next_ms(start, unit)
            };
            match moment {
                Moment::Date => day_of(ms),
                Moment::Time => ms.rem_euclid(DAY_MS),
                _ => ms * per_ms,
            }
        });
        Ok(moment.column(rounded.collect(), args.nulls_of(0..1), &logical))
    }))
}
