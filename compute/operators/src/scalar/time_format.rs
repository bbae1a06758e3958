//! Times to texts and back by Java patterns, and Unix times. The session's zone is UTC.

use std::{fmt::Write as _, sync::Arc};

use arrow::{
    array::ArrayRef,
    datatypes::{
        DataType as ArrowType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type,
        Int64Type,
    },
};
use chrono::{FixedOffset, LocalResult, NaiveDateTime, Offset as _, TimeZone as _};
use chrono_tz::Tz;
use proto::{plan::ScalarFunction, types::LogicalType};

use super::{
    Kernel, Signature,
    kernel::{by_row, strings},
    moment::Moment,
    pattern::Cache,
    time_pattern::TimePattern,
};
use crate::expr::{
    EvalError, ExprError,
    calendar::DAY_MS,
    cast::{Mode, parse_date, parse_timestamp, timestamps},
    value::{Args, Strings, is_valid},
};

/// Makes the kernel of a time format function.
pub(super) fn build(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    use ScalarFunction as F;
    match (signature.function, signature.args.len()) {
        (F::DateFormat, 2) => date_format(signature),
        (F::ToDate, 1 | 2) => to_date(signature),
        (F::ToTimestamp, 1 | 2) => to_timestamp(signature),
        (F::ToTimestampLtz, 1..=3) => to_timestamp_ltz(signature),
        (F::UnixTimestamp, 0) => Ok(Box::new(|args| {
            let seconds = args.context.now_ms.div_euclid(1000);
            by_row::<Int64Type>(args, &ArrowType::Int64, |_| Ok(Some(seconds)))
        })),
        (F::UnixTimestamp, 1 | 2) => unix_timestamp(signature),
        (F::FromUnixtime, 1 | 2) => from_unixtime(signature),
        (F::ConvertTz, 3) => Ok(Box::new(convert_tz)),
        _ => Err(signature.unsupported()),
    }
}

/// The pattern argument of a function: constant, from a column, or none.
enum Patterns {
    None,
    Constant(Arc<TimePattern>),
    PerRow(usize),
}

impl Patterns {
    fn new(signature: &Signature<'_>, index: usize) -> Result<Self, ExprError> {
        if index >= signature.args.len() {
            return Ok(Patterns::None);
        }
        match signature.constant_text(index) {
            Some(pattern) => {
                let compiled =
                    TimePattern::new(pattern).map_err(|message| signature.invalid(message))?;
                Ok(Patterns::Constant(Arc::new(compiled)))
            }
            None => Ok(Patterns::PerRow(index)),
        }
    }

    fn rows<'a>(&self, args: &Args<'a>, function: &'static str) -> RowPatterns<'a> {
        match self {
            Patterns::None => RowPatterns::None,
            Patterns::Constant(pattern) => RowPatterns::Constant(Arc::clone(pattern)),
            Patterns::PerRow(index) => {
                RowPatterns::PerRow(args.strings(*index), Cache::new(TimePattern::new), function)
            }
        }
    }
}

enum RowPatterns<'a> {
    None,
    Constant(Arc<TimePattern>),
    PerRow(Strings<'a>, Cache<TimePattern>, &'static str),
}

impl RowPatterns<'_> {
    fn at(&mut self, row: usize) -> Result<Option<Arc<TimePattern>>, EvalError> {
        match self {
            RowPatterns::None => Ok(None),
            RowPatterns::Constant(pattern) => Ok(Some(Arc::clone(pattern))),
            RowPatterns::PerRow(patterns, cache, function) => cache
                .get(patterns.at(row))
                .map(Some)
                .map_err(|message| EvalError::function(function, message)),
        }
    }

    /// Reads a text by the row's pattern, without one by the rules of CAST.
    fn parse(&mut self, row: usize, text: &str) -> Result<Option<(i64, u32)>, EvalError> {
        Ok(match self.at(row)? {
            Some(pattern) => pattern.parse(text),
            None => parse_timestamp(text),
        })
    }
}

fn date_format(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    let patterns = Patterns::new(signature, 1)?;
    let logical = &signature.args[0].logical;
    if logical.is_character() {
        return Ok(Box::new(move |args| {
            let texts = args.strings(0);
            let mut rows = patterns.rows(args, "DATE_FORMAT");
            let mut buffer = String::new();
            let nulls = args.nulls();
            strings(
                args.rows,
                nulls.as_ref(),
                args.rows * 16,
                |row, out| match (parse_timestamp(texts.at(row)), rows.at(row)?) {
                    (Some((ms, nanos)), Some(pattern)) => {
                        buffer.clear();
                        pattern.write(ms, nanos, &mut buffer);
                        let _ = out.write_str(&buffer);
                        Ok(true)
                    }
                    _ => Ok(false),
                },
            )
        }));
    }
    let moment = Moment::of(logical).ok_or_else(|| signature.unsupported())?;
    Ok(Box::new(move |args| {
        let counts = moment.counts(args.value(0));
        let step = args.value(0).step();
        let to_nanos = 1_000_000 / moment.per_ms();
        let mut rows = patterns.rows(args, "DATE_FORMAT");
        let constant = matches!(rows, RowPatterns::Constant(_));
        // Rows of a batch are mostly close in time: the text of the last one often serves again.
        let mut buffer = String::new();
        let mut last = None;
        let nulls = args.nulls();
        strings(args.rows, nulls.as_ref(), args.rows * 16, |row, out| {
            let Some(pattern) = rows.at(row)? else {
                return Ok(false);
            };
            let count = counts[row * step];
            let ms = moment.to_ms(count);
            let slot = (pattern.granularity() > 1).then(|| ms.div_euclid(pattern.granularity()));
            if !constant || slot.is_none() || last != slot {
                buffer.clear();
                let nanos = match moment {
                    Moment::Date | Moment::Time => 0,
                    _ => (count.rem_euclid(moment.per_ms()) * to_nanos) as u32,
                };
                pattern.write(ms, nanos, &mut buffer);
                last = slot;
            }
            let _ = out.write_str(&buffer);
            Ok(true)
        })
    }))
}

fn to_date(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    let patterns = Patterns::new(signature, 1)?;
    Ok(Box::new(move |args| {
        let texts = args.strings(0);
        let mut rows = patterns.rows(args, "TO_DATE");
        by_row::<Date32Type>(args, &ArrowType::Date32, |row| {
            let text = texts.at(row);
            Ok(match rows.at(row)? {
                Some(pattern) => pattern
                    .parse(text)
                    .map(|(ms, _)| ms.div_euclid(DAY_MS) as i32),
                None => parse_date(text),
            })
        })
    }))
}

/// A timestamp column of what `f` gives for rows where no operand is NULL.
fn timestamps_by_row(
    args: &Args<'_>,
    logical: &LogicalType,
    mut f: impl FnMut(usize) -> Result<Option<(i64, u32)>, EvalError>,
) -> Result<ArrayRef, EvalError> {
    let nulls = args.nulls();
    let mut parts = Vec::with_capacity(args.rows);
    for row in 0..args.rows {
        parts.push(if is_valid(nulls.as_ref(), row) {
            f(row)?
        } else {
            None
        });
    }
    timestamps(parts, logical, Mode::Fail)
}

fn to_timestamp(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    let patterns = Patterns::new(signature, 1)?;
    let logical = signature.result.logical.clone();
    Ok(Box::new(move |args| {
        let texts = args.strings(0);
        let mut rows = patterns.rows(args, "TO_TIMESTAMP");
        timestamps_by_row(args, &logical, |row| rows.parse(row, texts.at(row)))
    }))
}

fn to_timestamp_ltz(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    let logical = signature.result.logical.clone();
    let operand = signature.args[0].logical.clone();
    if operand.is_character() {
        let patterns = Patterns::new(signature, 1)?;
        return Ok(Box::new(move |args| {
            let texts = args.strings(0);
            let zones = (args.len() > 2).then(|| args.strings(2));
            let mut rows = patterns.rows(args, "TO_TIMESTAMP_LTZ");
            timestamps_by_row(args, &logical, |row| {
                let Some((ms, nanos)) = rows.parse(row, texts.at(row))? else {
                    return Ok(None);
                };
                let Some(zones) = zones else {
                    return Ok(Some((ms, nanos)));
                };
                let zone = zone(zones.at(row));
                Ok(zone.map(|zone| (to_utc(ms, zone, Ambiguous::Earlier), nanos)))
            })
        }));
    }
    if signature.args.len() > 2 {
        return Err(signature.unsupported());
    }
    let known = matches!(
        operand,
        LogicalType::Int
            | LogicalType::BigInt
            | LogicalType::Float
            | LogicalType::Double
            | LogicalType::Decimal { .. }
    );
    if !known {
        return Err(signature.unsupported());
    }
    Ok(Box::new(move |args| {
        let precisions = (args.len() > 1).then(|| args.numbers::<Int32Type>(1));
        timestamps_by_row(args, &logical, |row| {
            let unit = match precisions.as_ref().map_or(3, |precision| precision.at(row)) {
                0 => 1_000_i64,
                3 => 1,
                other => {
                    return Err(EvalError::function(
                        "TO_TIMESTAMP_LTZ",
                        format!("its precision must be 0 or 3, not {other}"),
                    ));
                }
            };
            let ms = match operand {
                LogicalType::Int => i64::from(args.numbers::<Int32Type>(0).at(row)) * unit,
                LogicalType::BigInt => args.numbers::<Int64Type>(0).at(row).saturating_mul(unit),
                LogicalType::Decimal { scale, .. } => {
                    // The fraction of a DECIMAL does not count, not even that of seconds.
                    let value = args.numbers::<Decimal128Type>(0).at(row);
                    let whole = value / 10_i128.pow(u32::from(scale));
                    i64::try_from(whole * i128::from(unit)).unwrap_or(i64::MAX)
                }
                LogicalType::Float => {
                    (f64::from(args.numbers::<Float32Type>(0).at(row)) * unit as f64) as i64
                }
                _ => (args.numbers::<Float64Type>(0).at(row) * unit as f64) as i64,
            };
            Ok(EPOCH_MS.contains(&ms).then_some((ms, 0)))
        })
    }))
}

/// What TO_TIMESTAMP_LTZ takes: the years 0 to 9999.
const EPOCH_MS: std::ops::RangeInclusive<i64> = -62_167_219_200_000..=253_402_300_799_999;

/// Seconds; the least BIGINT where the text does not parse.
fn unix_timestamp(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    let patterns = Patterns::new(signature, 1)?;
    Ok(Box::new(move |args| {
        let texts = args.strings(0);
        let mut rows = patterns.rows(args, "UNIX_TIMESTAMP");
        by_row::<Int64Type>(args, &ArrowType::Int64, |row| {
            let parsed = rows.parse(row, texts.at(row))?;
            Ok(Some(parsed.map_or(i64::MIN, |(ms, _)| ms.div_euclid(1000))))
        })
    }))
}

const DEFAULT_PATTERN: &str = "yyyy-MM-dd HH:mm:ss";

fn from_unixtime(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    let patterns = match Patterns::new(signature, 1)? {
        Patterns::None => Patterns::Constant(Arc::new(
            TimePattern::new(DEFAULT_PATTERN).map_err(|message| signature.invalid(message))?,
        )),
        other => other,
    };
    Ok(Box::new(move |args| {
        let seconds = args.numbers::<Int64Type>(0);
        let mut rows = patterns.rows(args, "FROM_UNIXTIME");
        let mut buffer = String::new();
        let nulls = args.nulls();
        strings(args.rows, nulls.as_ref(), args.rows * 20, |row, out| {
            let Some(pattern) = rows.at(row)? else {
                return Ok(false);
            };
            buffer.clear();
            pattern.write(seconds.at(row).wrapping_mul(1000), 0, &mut buffer);
            let _ = out.write_str(&buffer);
            Ok(true)
        })
    }))
}

/// A zone by its name, or by its distance: `GMT+8`, `GMT-08:00`.
#[derive(Clone, Copy)]
enum Zone {
    Named(Tz),
    Fixed(FixedOffset),
}

fn zone(name: &str) -> Option<Zone> {
    if let Ok(named) = name.parse() {
        return Some(Zone::Named(named));
    }
    let distance = name.strip_prefix("GMT")?;
    let sign = match distance.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = distance[1..]
        .split_once(':')
        .unwrap_or((&distance[1..], "00"));
    let number = |text: &str, below: i32| {
        let valid = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        let number: i32 = valid.then(|| text.parse().ok())??;
        (number < below).then_some(number)
    };
    let seconds = number(hours, 24)? * 3600 + number(minutes, 60)? * 60;
    FixedOffset::east_opt(sign * seconds).map(Zone::Fixed)
}

impl Zone {
    fn of_local(self, local: &NaiveDateTime) -> LocalResult<FixedOffset> {
        match self {
            Zone::Named(zone) => zone
                .offset_from_local_datetime(local)
                .map(|offset| offset.fix()),
            Zone::Fixed(offset) => LocalResult::Single(offset),
        }
    }

    fn of_utc(self, utc: &NaiveDateTime) -> i32 {
        match self {
            Zone::Named(zone) => zone.offset_from_utc_datetime(utc).fix().local_minus_utc(),
            Zone::Fixed(offset) => offset.local_minus_utc(),
        }
    }
}

fn naive(ms: i64) -> Option<NaiveDateTime> {
    chrono::DateTime::from_timestamp_millis(ms).map(|instant| instant.naive_utc())
}

/// Which of two instants a wall-clock time means that a clock change repeats.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ambiguous {
    Earlier,
    /// That of standard time.
    Later,
}

/// The instant of a wall-clock time in a zone; one that a clock change skipped moves on.
fn to_utc(ms: i64, zone: Zone, ambiguous: Ambiguous) -> i64 {
    let Some(local) = naive(ms) else {
        return ms;
    };
    let offset = match zone.of_local(&local) {
        LocalResult::Single(offset) => offset,
        LocalResult::Ambiguous(earlier, _) if ambiguous == Ambiguous::Earlier => earlier,
        LocalResult::Ambiguous(_, later) => later,
        LocalResult::None => {
            let before = local - chrono::TimeDelta::hours(3);
            match zone.of_local(&before) {
                LocalResult::Single(offset) | LocalResult::Ambiguous(offset, _) => offset,
                LocalResult::None => return ms,
            }
        }
    };
    ms - i64::from(offset.local_minus_utc()) * 1000
}

/// CONVERT_TZ(text, from, to): both texts are `yyyy-MM-dd HH:mm:ss`.
fn convert_tz(args: &Args<'_>) -> Result<ArrayRef, EvalError> {
    let (texts, from, to) = (args.strings(0), args.strings(1), args.strings(2));
    let pattern = TimePattern::new(DEFAULT_PATTERN)
        .map_err(|message| EvalError::function("CONVERT_TZ", message))?;
    let mut buffer = String::new();
    strings(
        args.rows,
        args.nulls().as_ref(),
        args.rows * 20,
        |row, out| {
            let parsed = pattern.parse(texts.at(row));
            let (Some((ms, _)), Some(from), Some(to)) =
                (parsed, zone(from.at(row)), zone(to.at(row)))
            else {
                return Ok(false);
            };
            let utc = to_utc(ms, from, Ambiguous::Later);
            let offset = naive(utc).map_or(0, |utc| to.of_utc(&utc));
            buffer.clear();
            pattern.write(utc + i64::from(offset) * 1000, 0, &mut buffer);
            let _ = out.write_str(&buffer);
            Ok(true)
        },
    )
}
