//! Text to a value of any type that has a plain text form.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use proto::types::LogicalType;

use super::{
    decimal::{DecimalError, parse_decimal},
    time::{parse_date, parse_time, parse_timestamp},
};
use crate::column::{Column, Data};

/// How timestamps are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TimestampStyle {
    /// `2024-03-01 12:00:00.5`, LTZ with a `Z` at the end.
    Sql,
    /// `2024-03-01T12:00:00.5`, LTZ with a `Z` at the end.
    Iso8601,
}

impl TimestampStyle {
    /// What stands between date and time.
    pub(crate) fn separator(self) -> u8 {
        match self {
            TimestampStyle::Sql => b' ',
            TimestampStyle::Iso8601 => b'T',
        }
    }
}

/// Appends the value that `text` (valid UTF-8) means for the column's type.
///
/// # Errors
/// When it means none; the column may then hold half a value, to be truncated.
pub(crate) fn push_text(
    column: &mut Column,
    text: &[u8],
    style: TimestampStyle,
) -> Result<(), String> {
    let logical = &column.logical;
    let bad = || not_a(logical, text);
    match (logical, &mut column.data) {
        (LogicalType::Boolean, Data::Boolean(values)) => {
            // As Java's parseBoolean: whatever is not "true" is false.
            values.push(text.trim_ascii().eq_ignore_ascii_case(b"true"));
        }
        (_, Data::I8(values)) => values.push(number(text).ok_or_else(bad)?),
        (_, Data::I16(values)) => values.push(number(text).ok_or_else(bad)?),
        (LogicalType::Int, Data::I32(values)) => values.push(number(text).ok_or_else(bad)?),
        (LogicalType::BigInt, Data::I64(values)) => values.push(number(text).ok_or_else(bad)?),
        (_, Data::F32(values)) => values.push(float(text).ok_or_else(bad)?),
        (_, Data::F64(values)) => values.push(float(text).ok_or_else(bad)?),
        (LogicalType::Decimal { precision, scale }, Data::I128(values)) => {
            match parse_decimal(text.trim_ascii(), *precision, *scale) {
                Ok(value) => values.push(value),
                Err(DecimalError::Malformed) => return Err(bad()),
                // As Flink's DecimalData: too many digits make NULL, not an error.
                Err(DecimalError::OutOfRange) => {
                    column.push_null();
                    return Ok(());
                }
            }
        }
        (LogicalType::Char(_) | LogicalType::Varchar(_), Data::Bytes { values, .. }) => {
            values.extend_from_slice(text);
            column.close();
            return Ok(());
        }
        (_, Data::Bytes { values, .. }) => {
            STANDARD.decode_vec(text, values).map_err(|_| bad())?;
            column.close();
            return Ok(());
        }
        (LogicalType::Date, Data::I32(values)) => values.push(parse_date(text).ok_or_else(bad)?),
        (LogicalType::Time(precision), Data::I32(values)) => {
            let nanos = parse_time(text, false).ok_or_else(bad)?;
            let step = 10_i64.pow(3 - u32::from(*precision.min(&3)));
            let millis = nanos / 1_000_000;
            values.push((millis - millis % step) as i32);
        }
        (LogicalType::Timestamp(precision), Data::I64(values)) => {
            values.push(timestamp(text, style, *precision).ok_or_else(bad)?);
        }
        (LogicalType::TimestampLtz(precision), Data::I64(values)) => {
            let value = text
                .strip_suffix(b"Z")
                .and_then(|text| timestamp(text, style, *precision));
            values.push(value.ok_or_else(bad)?);
        }
        (LogicalType::IntervalYearMonth, Data::I32(values)) => {
            values.push(number(text).ok_or_else(bad)?);
        }
        (LogicalType::IntervalDayTime, Data::I64(values)) => {
            values.push(number(text).ok_or_else(bad)?);
        }
        _ => return Err(bad()),
    }
    column.mark_valid();
    Ok(())
}

/// `expected INT, found "abc"`, with long texts cut.
pub(crate) fn not_a(logical: &LogicalType, text: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 64;
    let shown = String::from_utf8_lossy(&text[..text.len().min(SHOWN_BYTES_MAX)]);
    let more = if text.len() > SHOWN_BYTES_MAX {
        "…"
    } else {
        ""
    };
    format!("expected {logical}, found \"{shown}{more}\"")
}

fn timestamp(text: &[u8], style: TimestampStyle, precision: u8) -> Option<i64> {
    let seconds_optional = style == TimestampStyle::Iso8601;
    parse_timestamp(text, style.separator(), seconds_optional, precision)
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text.trim_ascii()).ok()?.parse().ok()
}

/// As Java's parsers, which know `NaN` and `Infinity` in that spelling only.
fn float<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    let text = text.trim_ascii();
    let unsigned = text.strip_prefix(b"-").unwrap_or(text);
    let special = matches!(unsigned, b"NaN" | b"Infinity");
    if !special
        && unsigned
            .iter()
            .any(|byte| byte.is_ascii_alphabetic() && !matches!(byte, b'e' | b'E'))
    {
        return None;
    }
    number(text)
}
