//! Intervals added to points in time, and the time between two of them.

use arrow::{
    array::ArrayRef,
    buffer::NullBuffer,
    datatypes::{
        DataType as ArrowType, Decimal128Type, DurationMillisecondType, Float64Type, Int32Type,
        Int64Type, IntervalYearMonthType, TimeUnit,
    },
};
use engine::schema::arrow_type;
use proto::{plan::ScalarFunction, types::LogicalType};

use super::{
    Kernel, Signature,
    kernel::{by_row, finish},
    moment::{Moment, Unit, integers},
};
use crate::expr::{
    EvalError, ExprError,
    calendar::{DAY_MS, add_months},
    cast::{OUT_OF_RANGE, decimal_to_double},
    value::is_valid,
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

/// A count of `moment` moved by months, then by milliseconds; `None` beyond what it can count.
#[inline]
fn shift(moment: Moment, count: i64, months: i64, ms: i64) -> Option<i64> {
    let by_months = |day: i64| match months {
        0 => Some(day),
        months if months.abs() <= MONTHS_MAX => Some(add_months(day, months)),
        _ => None,
    };
    match moment {
        Moment::Date => {
            let day = by_months(count)?.checked_add(ms.div_euclid(DAY_MS))?;
            i32::try_from(day).ok().map(i64::from)
        }
        Moment::Time => Some(count.wrapping_add(ms).rem_euclid(DAY_MS)),
        Moment::Millis | Moment::Micros | Moment::Nanos => {
            let per_ms = moment.per_ms();
            let count = if months == 0 {
                count
            } else {
                let day_length = DAY_MS * per_ms;
                let (day, time) = (count.div_euclid(day_length), count.rem_euclid(day_length));
                let moved = i128::from(by_months(day)?) * i128::from(day_length);
                i64::try_from(moved + i128::from(time)).ok()?
            };
            count.checked_add(ms.checked_mul(per_ms)?)
        }
    }
}

/// Months that can be added without overflow on the way.
const MONTHS_MAX: i64 = 1 << 40;

/// A column of what `f` gives for the rows that are not NULL.
fn moved(
    moment: Moment,
    rows: usize,
    nulls: Option<NullBuffer>,
    logical: &LogicalType,
    f: impl Fn(usize) -> Option<i64>,
) -> Result<ArrayRef, EvalError> {
    let mut counts = Vec::with_capacity(rows);
    for row in 0..rows {
        counts.push(match f(row) {
            Some(count) => count,
            // Under a NULL lies anything.
            None if !is_valid(nulls.as_ref(), row) => 0,
            None if moment == Moment::Nanos => {
                return Err(EvalError::function("a timestamp", OUT_OF_RANGE));
            }
            None => return Err(EvalError::function("a sum of times", "it is out of range")),
        });
    }
    Ok(moment.column(counts, nulls, logical))
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
        if in_months {
            let months = args.numbers::<IntervalYearMonthType>(1);
            moved(moment, args.rows, args.nulls(), &logical, |row| {
                shift(moment, count(row), i64::from(months.at(row)), 0)
            })
        } else {
            let millis = args.numbers::<DurationMillisecondType>(1);
            moved(moment, args.rows, args.nulls(), &logical, |row| {
                shift(moment, count(row), 0, millis.at(row))
            })
        }
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
    let [_, amount, time] = signature.args else {
        return Err(signature.unsupported());
    };
    let moment = Moment::of(&time.logical).ok_or_else(|| signature.unsupported())?;
    let logical = time.logical.clone();
    let wide = amount.logical == LogicalType::BigInt;
    let (months, millis) = match (unit.months(), unit.millis()) {
        (Some(months), _) => (months, 0),
        (None, Some(millis)) => (0, millis),
        (None, None) => return Err(signature.invalid("this unit cannot be added")),
    };
    Ok(Box::new(move |args| {
        let counts = moment.counts(args.value(2));
        let step = args.value(2).step();
        let amount = |row: usize| match wide {
            true => args.numbers::<Int64Type>(1).at(row),
            false => i64::from(args.numbers::<Int32Type>(1).at(row)),
        };
        moved(moment, args.rows, args.nulls_of(1..3), &logical, |row| {
            let amount = amount(row);
            let (months, millis) = (months.checked_mul(amount)?, millis.checked_mul(amount)?);
            shift(moment, counts[row * step], months, millis)
        })
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
