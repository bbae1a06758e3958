//! Intervals added to points in time, and the time between two of them.

use arrow::datatypes::{
    DataType as ArrowType, Decimal128Type, DurationMillisecondType, Float64Type, Int32Type,
    Int64Type, IntervalYearMonthType, TimeUnit,
};
use engine::schema::arrow_type;
use proto::{plan::ScalarFunction, types::LogicalType};

use super::{
    Kernel, Signature,
    kernel::{by_row, finish},
    moment::{Moment, Unit, integers},
};
use crate::expr::{
    ExprError,
    calendar::{DAY_MS, add_months},
    cast::decimal_to_double,
};

/// Makes the kernel of a function of time arithmetic.
pub(super) fn build(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    use ScalarFunction as F;
    let kernel = match signature.function {
        F::AddInterval => add_interval(signature),
        F::SubtractTimestamps => subtract(signature),
        F::MultiplyInterval => multiply(signature),
        F::TimestampAdd => return timestamp_add(signature),
        F::TimestampDiff => return timestamp_diff(signature),
        _ => None,
    };
    kernel.ok_or_else(|| signature.unsupported())
}

/// A count of `moment` moved by months, then by milliseconds.
#[inline]
fn shift(moment: Moment, count: i64, months: i64, ms: i64) -> i64 {
    match moment {
        Moment::Date => {
            let day = if months == 0 {
                count
            } else {
                add_months(count, months)
            };
            day + ms.div_euclid(DAY_MS)
        }
        Moment::Time => count.wrapping_add(ms).rem_euclid(DAY_MS),
        Moment::Millis | Moment::Micros | Moment::Nanos => {
            let per_ms = moment.per_ms();
            let count = if months == 0 {
                count
            } else {
                let day_length = DAY_MS * per_ms;
                let (day, time) = (count.div_euclid(day_length), count.rem_euclid(day_length));
                add_months(day, months)
                    .wrapping_mul(day_length)
                    .wrapping_add(time)
            };
            count.wrapping_add(ms.wrapping_mul(per_ms))
        }
    }
}

fn add_interval(signature: &Signature<'_>) -> Option<Kernel> {
    let [time, interval] = signature.args else {
        return None;
    };
    let moment = Moment::of(&time.logical)?;
    let logical = time.logical.clone();
    let in_months = match interval.logical {
        LogicalType::IntervalYearMonth => true,
        LogicalType::IntervalDayTime => false,
        _ => return None,
    };
    Some(Box::new(move |args| {
        let counts = moment.counts(args.value(0));
        let step = args.value(0).step();
        let count = |row: usize| counts[row * step];
        let moved = if in_months {
            let months = args.numbers::<IntervalYearMonthType>(1);
            (0..args.rows)
                .map(|row| shift(moment, count(row), i64::from(months.at(row)), 0))
                .collect()
        } else {
            let millis = args.numbers::<DurationMillisecondType>(1);
            (0..args.rows)
                .map(|row| shift(moment, count(row), 0, millis.at(row)))
                .collect()
        };
        Ok(moment.column(moved, args.nulls(), &logical))
    }))
}

fn subtract(signature: &Signature<'_>) -> Option<Kernel> {
    let [left, right] = signature.args else {
        return None;
    };
    let (left, right) = (Moment::of(&left.logical)?, Moment::of(&right.logical)?);
    if signature.result.logical != LogicalType::IntervalDayTime {
        return None;
    }
    Some(Box::new(move |args| {
        let (a, b) = (left.millis(args.value(0)), right.millis(args.value(1)));
        let (step_a, step_b) = (args.value(0).step(), args.value(1).step());
        let values = (0..args.rows)
            .map(|row| a[row * step_a].wrapping_sub(b[row * step_b]))
            .collect();
        let data_type = ArrowType::Duration(TimeUnit::Millisecond);
        Ok(finish::<DurationMillisecondType>(
            values,
            args.nulls(),
            &data_type,
        ))
    }))
}

fn multiply(signature: &Signature<'_>) -> Option<Kernel> {
    let [interval, factor] = signature.args else {
        return None;
    };
    let factor_type = factor.logical.clone();
    let known = matches!(
        factor_type,
        LogicalType::Int | LogicalType::BigInt | LogicalType::Double | LogicalType::Decimal { .. }
    );
    if !known {
        return None;
    }
    let in_months = interval.logical == LogicalType::IntervalYearMonth;
    let data_type = arrow_type(&interval.logical);
    Some(Box::new(move |args| {
        let times = |count: i64, row: usize| -> i64 {
            match factor_type {
                LogicalType::Int => {
                    count.wrapping_mul(i64::from(args.numbers::<Int32Type>(1).at(row)))
                }
                LogicalType::BigInt => count.wrapping_mul(args.numbers::<Int64Type>(1).at(row)),
                LogicalType::Decimal { scale, .. } => {
                    let factor = args.numbers::<Decimal128Type>(1).at(row);
                    (count as f64 * decimal_to_double(factor, scale)) as i64
                }
                _ => (count as f64 * args.numbers::<Float64Type>(1).at(row)) as i64,
            }
        };
        if in_months {
            let months = args.numbers::<IntervalYearMonthType>(0);
            by_row::<IntervalYearMonthType>(args, &data_type, |row| {
                Ok(Some(times(i64::from(months.at(row)), row) as i32))
            })
        } else {
            let millis = args.numbers::<DurationMillisecondType>(0);
            by_row::<DurationMillisecondType>(args, &data_type, |row| {
                Ok(Some(times(millis.at(row), row)))
            })
        }
    }))
}

fn unit_of(signature: &Signature<'_>) -> Result<Unit, ExprError> {
    let name = signature
        .constant_text(0)
        .ok_or_else(|| signature.invalid("the unit must be a constant"))?;
    Unit::parse(name).ok_or_else(|| signature.invalid(format!("unknown unit `{name}`")))
}

fn timestamp_add(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    let unit = unit_of(signature)?;
    let [_, _, time] = signature.args else {
        return Err(signature.unsupported());
    };
    let moment = Moment::of(&time.logical).ok_or_else(|| signature.unsupported())?;
    let logical = time.logical.clone();
    let (months, millis) = match (unit.months(), unit.millis()) {
        (Some(months), _) => (months, 0),
        (None, Some(millis)) => (0, millis),
        (None, None) => return Err(signature.invalid("this unit cannot be added")),
    };
    Ok(Box::new(move |args| {
        let counts = moment.counts(args.value(2));
        let step = args.value(2).step();
        let amounts = args.numbers::<Int32Type>(1);
        let moved = (0..args.rows).map(|row| {
            let amount = i64::from(amounts.at(row));
            shift(moment, counts[row * step], months * amount, millis * amount)
        });
        Ok(moment.column(moved.collect(), args.nulls_of(1..3), &logical))
    }))
}

/// Whole months from one day to a later one; a month's end reaches the end of a shorter month.
fn months_between_days(from: i64, to: i64) -> i64 {
    if to < from {
        return -months_between_days(to, from);
    }
    let mut months = (to - from) / 31;
    while add_months(from, months) < to && add_months(from, months + 1) <= to {
        months += 1;
    }
    months
}

/// Whole months between two instants in ms. The time of day counts only where the days are a
/// whole number of months apart, and then always downwards: so the dialect's reference does it.
fn months_between(from: i64, to: i64) -> i64 {
    let (from_day, to_day) = (from.div_euclid(DAY_MS), to.div_euclid(DAY_MS));
    let months = months_between_days(from_day, to_day);
    let same_day = add_months(from_day, months) == to_day;
    months - i64::from(same_day && to.rem_euclid(DAY_MS) < from.rem_euclid(DAY_MS))
}

fn timestamp_diff(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    let unit = unit_of(signature)?;
    let [_, from, to] = signature.args else {
        return Err(signature.unsupported());
    };
    let unsupported = || signature.unsupported();
    let from_moment = Moment::of(&from.logical).ok_or_else(unsupported)?;
    let to_moment = Moment::of(&to.logical).ok_or_else(unsupported)?;
    let result = signature.result.logical.clone();
    let (months, millis) = (unit.months(), unit.millis());
    let sub_ms = match unit {
        Unit::Microsecond => Some(1_000),
        Unit::Nanosecond => Some(1_000_000),
        _ => None,
    };
    if months.is_none() && millis.is_none() && sub_ms.is_none() {
        return Err(signature.invalid("this unit cannot be counted"));
    }
    Ok(Box::new(move |args| {
        let from = from_moment.millis(args.value(1));
        let to = to_moment.millis(args.value(2));
        let (step_from, step_to) = (args.value(1).step(), args.value(2).step());
        let values = (0..args.rows).map(|row| {
            let (from, to) = (from[row * step_from], to[row * step_to]);
            match (months, millis, sub_ms) {
                (Some(months), _, _) => months_between(from, to) / months,
                (_, Some(millis), _) => to.wrapping_sub(from) / millis,
                (_, _, Some(factor)) => to.wrapping_sub(from).wrapping_mul(factor),
                _ => 0,
            }
        });
        Ok(integers(values, args.nulls_of(1..3), &result))
    }))
}
