//! Values as text: what CAST to STRING makes of them, how results show them, and the exact form of
//! tab-separated results.
//!
//! | | CAST | display | tsv |
//! |---|---|---|---|
//! | BOOLEAN | TRUE | TRUE | true |
//! | TIMESTAMP(p) | p digits | p digits | 3, 6 or 9 digits |
//! | NULL inside ARRAY, ROW, MAP | NULL | NULL | \N |
//! | BYTES | the bytes as UTF-8 | x'0aff' | x'0aff' |
//! | `\`, TAB, LF, CR in strings | as they are | as they are | escaped |

use std::fmt::Write as _;

use arrow::{
    array::{Array, AsArray as _},
    datatypes::{
        ArrowPrimitiveType, DataType as ArrowType, Date32Type, Decimal128Type,
        DurationMillisecondType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
        Int64Type, IntervalYearMonthType, Time32MillisecondType, TimeUnit,
        TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    },
};
use proto::types::{DataType, LogicalType};

use super::{
    calendar::{DAY_MS, civil},
    value::NullAt as _,
};

/// Which of the three text forms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Style {
    Cast,
    Display,
    Tsv,
}

impl Style {
    fn null(self) -> &'static str {
        if self == Style::Tsv { "\\N" } else { "NULL" }
    }
}

/// Appends the value of a row as a field of tab-separated results: NULL is `\N`.
pub fn write_tsv_value(array: &dyn Array, row: usize, logical: &LogicalType, out: &mut String) {
    write_value(array, row, logical, Style::Tsv, out);
}

/// Appends the value of a row as people read it: NULL is `NULL`.
pub fn write_display_value(array: &dyn Array, row: usize, logical: &LogicalType, out: &mut String) {
    write_value(array, row, logical, Style::Display, out);
}

/// Appends the value of a row as CAST to STRING makes it; NULL is `NULL`.
pub fn format_value(array: &dyn Array, row: usize, logical: &LogicalType, out: &mut String) {
    write_value(array, row, logical, Style::Cast, out);
}

fn at<T: ArrowPrimitiveType>(array: &dyn Array, row: usize) -> T::Native {
    array.as_primitive::<T>().value(row)
}

pub(crate) fn write_value(
    array: &dyn Array,
    row: usize,
    logical: &LogicalType,
    style: Style,
    out: &mut String,
) {
    if array.is_null_at(row) {
        out.push_str(style.null());
        return;
    }
    match logical {
        LogicalType::Null => out.push_str(style.null()),
        LogicalType::Boolean => out.push_str(match (array.as_boolean().value(row), style) {
            (true, Style::Tsv) => "true",
            (false, Style::Tsv) => "false",
            (true, _) => "TRUE",
            (false, _) => "FALSE",
        }),
        LogicalType::TinyInt => write_integer(i64::from(at::<Int8Type>(array, row)), out),
        LogicalType::SmallInt => write_integer(i64::from(at::<Int16Type>(array, row)), out),
        LogicalType::Int => write_integer(i64::from(at::<Int32Type>(array, row)), out),
        LogicalType::BigInt => write_integer(at::<Int64Type>(array, row), out),
        LogicalType::Float => write_float(at::<Float32Type>(array, row), out),
        LogicalType::Double => write_double(at::<Float64Type>(array, row), out),
        LogicalType::Decimal { scale, .. } => {
            write_decimal(at::<Decimal128Type>(array, row), *scale, out);
        }
        LogicalType::Char(_) | LogicalType::Varchar(_) => {
            write_text(array.as_string::<i32>().value(row), style, out);
        }
        LogicalType::Binary(_) | LogicalType::Varbinary(_) => {
            write_bytes(array.as_binary::<i32>().value(row), style, out);
        }
        LogicalType::Date => write_date(i64::from(at::<Date32Type>(array, row)), out),
        LogicalType::Time(precision) => {
            let precision = if style == Style::Tsv { 0 } else { *precision };
            write_time(at::<Time32MillisecondType>(array, row), precision, out);
        }
        LogicalType::Timestamp(precision) | LogicalType::TimestampLtz(precision) => {
            let (ms, nanos) = timestamp_parts(array, row);
            write_timestamp(ms, nanos, *precision, style, out);
        }
        LogicalType::IntervalYearMonth => {
            write_months(at::<IntervalYearMonthType>(array, row), out);
        }
        LogicalType::IntervalDayTime => {
            write_duration(at::<DurationMillisecondType>(array, row), out);
        }
        LogicalType::Array(element) => write_array(array, row, element, style, out),
        LogicalType::Map(key, value) => write_map(array, row, key, value, style, out),
        LogicalType::Multiset(element) => {
            write_map(
                array,
                row,
                element,
                &LogicalType::Int.not_null(),
                style,
                out,
            );
        }
        LogicalType::Row(fields) => {
            let row_array = array.as_struct();
            out.push('(');
            for (index, field) in fields.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                let logical = &field.data_type.logical;
                write_value(row_array.column(index), row, logical, style, out);
            }
            out.push(')');
        }
    }
}

fn write_array(array: &dyn Array, row: usize, element: &DataType, style: Style, out: &mut String) {
    let items = array.as_list::<i32>().value(row);
    out.push('[');
    for item in 0..items.len() {
        if item > 0 {
            out.push_str(", ");
        }
        write_value(&items, item, &element.logical, style, out);
    }
    out.push(']');
}

/// Tab-separated results order entries by key text, so that equal maps have equal texts.
fn write_map(
    array: &dyn Array,
    row: usize,
    key: &DataType,
    value: &DataType,
    style: Style,
    out: &mut String,
) {
    let entries = array.as_map().value(row);
    let mut texts: Vec<(String, String)> = Vec::with_capacity(entries.len());
    for entry in 0..entries.len() {
        let mut texts_of_entry = (String::new(), String::new());
        write_value(
            entries.column(0),
            entry,
            &key.logical,
            style,
            &mut texts_of_entry.0,
        );
        write_value(
            entries.column(1),
            entry,
            &value.logical,
            style,
            &mut texts_of_entry.1,
        );
        texts.push(texts_of_entry);
    }
    if style == Style::Tsv {
        texts.sort();
    }
    out.push('{');
    for (index, (key, value)) in texts.iter().enumerate() {
        let comma = if index > 0 { ", " } else { "" };
        let _ = write!(out, "{comma}{key}={value}");
    }
    out.push('}');
}

fn write_text(text: &str, style: Style, out: &mut String) {
    if style != Style::Tsv || !text.contains(['\\', '\t', '\n', '\r']) {
        out.push_str(text);
        return;
    }
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            other => out.push(other),
        }
    }
}

fn write_bytes(bytes: &[u8], style: Style, out: &mut String) {
    if style == Style::Cast {
        out.push_str(&String::from_utf8_lossy(bytes));
        return;
    }
    out.push_str("x'");
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out.push('\'');
}

/// Appends an integer.
pub(crate) fn write_integer(value: i64, out: &mut String) {
    out.push_str(itoa::Buffer::new().format(value));
}

/// Appends a DECIMAL with all digits of its scale.
pub(crate) fn write_decimal(value: i128, scale: u8, out: &mut String) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(value.unsigned_abs());
    if value < 0 {
        out.push('-');
    }
    let scale = usize::from(scale);
    if scale == 0 {
        out.push_str(digits);
        return;
    }
    if digits.len() <= scale {
        out.push_str("0.");
        for _ in digits.len()..scale {
            out.push('0');
        }
        out.push_str(digits);
    } else {
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        out.push_str(whole);
        out.push('.');
        out.push_str(fraction);
    }
}

/// Appends a DOUBLE in Java's form: `0.5`, `1.0E10`, `NaN`, `-Infinity`.
pub(crate) fn write_double(value: f64, out: &mut String) {
    if value.is_finite() {
        write_shortest(ryu::Buffer::new().format_finite(value), out);
    } else {
        write_special(value, out);
    }
}

/// Appends a FLOAT in Java's form.
pub(crate) fn write_float(value: f32, out: &mut String) {
    if value.is_finite() {
        write_shortest(ryu::Buffer::new().format_finite(value), out);
    } else {
        write_special(f64::from(value), out);
    }
}

fn write_special(value: f64, out: &mut String) {
    out.push_str(if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    });
}

/// Turns the shortest digits that identify a number, in any notation, into Java's notation: plain
/// from 10^-3 up to 10^7, else one digit before the point and an exponent.
fn write_shortest(text: &str, out: &mut String) {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match text.split_once('e') {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().unwrap_or(0)),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut buffer = [b'0'; 40];
    let mut length = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        if length < buffer.len() {
            buffer[length] = digit;
            length += 1;
        }
    }
    // The value is 0.DIGITS * 10^point.
    let mut point = whole.len() as i32 + exponent;
    let mut digits = std::str::from_utf8(&buffer[..length]).unwrap_or("0");
    while digits.len() > 1 && digits.starts_with('0') {
        digits = &digits[1..];
        point -= 1;
    }
    let trimmed = digits.trim_end_matches('0');
    let digits = if trimmed.is_empty() { "0" } else { trimmed };
    if negative {
        out.push('-');
    }
    if digits == "0" {
        out.push_str("0.0");
    } else if !(-2..=7).contains(&point) {
        out.push_str(&digits[..1]);
        out.push('.');
        out.push_str(if digits.len() > 1 { &digits[1..] } else { "0" });
        let _ = write!(out, "E{}", point - 1);
    } else if point <= 0 {
        out.push_str("0.");
        for _ in point..0 {
            out.push('0');
        }
        out.push_str(digits);
    } else {
        let point = point as usize;
        for index in 0..point.max(digits.len()) {
            if index == point {
                out.push('.');
            }
            out.push(
                digits
                    .as_bytes()
                    .get(index)
                    .map_or('0', |digit| char::from(*digit)),
            );
        }
        if digits.len() <= point {
            out.push_str(".0");
        }
    }
}

/// Appends `value` with at least `width` digits.
pub(crate) fn write_padded(value: i64, width: usize, out: &mut String) {
    if value < 0 {
        out.push('-');
    }
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(value.unsigned_abs());
    for _ in digits.len()..width {
        out.push('0');
    }
    out.push_str(digits);
}

/// Appends `yyyy-MM-dd`.
pub(crate) fn write_date(days: i64, out: &mut String) {
    let date = civil(days);
    write_padded(date.year, 4, out);
    out.push('-');
    write_padded(i64::from(date.month), 2, out);
    out.push('-');
    write_padded(i64::from(date.day), 2, out);
}

fn write_clock(seconds: i64, out: &mut String) {
    write_padded(seconds / 3600, 2, out);
    out.push(':');
    write_padded(seconds / 60 % 60, 2, out);
    out.push(':');
    write_padded(seconds % 60, 2, out);
}

/// Appends `HH:mm:ss` and `precision` digits of a second.
pub(crate) fn write_time(ms: i32, precision: u8, out: &mut String) {
    let ms = i64::from(ms).rem_euclid(DAY_MS);
    write_clock(ms / 1000, out);
    write_fraction(
        (ms % 1000) as u32 * 1_000_000,
        precision.min(3),
        precision.min(3),
        out,
    );
}

/// Appends a timestamp. CAST writes at least `precision` digits and all that are not zero; tsv
/// three, six or nine.
pub(crate) fn write_timestamp(ms: i64, nanos: u32, precision: u8, style: Style, out: &mut String) {
    write_date(ms.div_euclid(DAY_MS), out);
    out.push(' ');
    let time = ms.rem_euclid(DAY_MS);
    write_clock(time / 1000, out);
    let nanos = (time % 1000) as u32 * 1_000_000 + nanos;
    if style == Style::Tsv {
        let digits = match (nanos % 1_000_000, nanos % 1000) {
            (0, _) => 3,
            (_, 0) => 6,
            _ => 9,
        };
        write_fraction(nanos, digits, digits, out);
    } else {
        write_fraction(nanos, precision, 9, out);
    }
}

/// Appends `.` and the digits of a second's fraction: at least `min`, more only if not zero.
fn write_fraction(nanos: u32, min: u8, max: u8, out: &mut String) {
    let mut digits = [b'0'; 9];
    let mut rest = nanos;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let mut length = usize::from(max.min(9));
    while length > usize::from(min) && digits[length - 1] == b'0' {
        length -= 1;
    }
    if length > 0 {
        out.push('.');
        out.extend(digits[..length].iter().map(|digit| char::from(*digit)));
    }
}

/// Milliseconds since 1970 (rounded down) and nanoseconds within the millisecond.
pub(crate) fn timestamp_parts(array: &dyn Array, row: usize) -> (i64, u32) {
    match array.data_type() {
        ArrowType::Timestamp(TimeUnit::Microsecond, _) => {
            let value = at::<TimestampMicrosecondType>(array, row);
            (value.div_euclid(1000), value.rem_euclid(1000) as u32 * 1000)
        }
        ArrowType::Timestamp(TimeUnit::Nanosecond, _) => {
            let value = at::<TimestampNanosecondType>(array, row);
            (
                value.div_euclid(1_000_000),
                value.rem_euclid(1_000_000) as u32,
            )
        }
        _ => (at::<TimestampMillisecondType>(array, row), 0),
    }
}

fn write_months(months: i32, out: &mut String) {
    let sign = if months < 0 { '-' } else { '+' };
    let months = months.unsigned_abs();
    let _ = write!(out, "{sign}{}-{:02}", months / 12, months % 12);
}

fn write_duration(ms: i64, out: &mut String) {
    out.push(if ms < 0 { '-' } else { '+' });
    let ms = ms.unsigned_abs();
    let _ = write!(out, "{} ", ms / DAY_MS as u64);
    let rest = (ms % DAY_MS as u64) as i64;
    write_clock(rest / 1000, out);
    let _ = write!(out, ".{:03}", rest % 1000);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_as_java_writes_them() {
        let check = |value: f64, expected: &str| {
            let mut out = String::new();
            write_double(value, &mut out);
            assert_eq!(out, expected);
        };
        check(0.0, "0.0");
        check(-0.0, "-0.0");
        check(1.0, "1.0");
        check(-2.5e10, "-2.5E10");
        check(1.5e-6, "1.5E-6");
        check(9_999_999.0, "9999999.0");
        check(1.0e7, "1.0E7");
        check(0.001, "0.001");
        check(0.00099, "9.9E-4");
        check(123.456, "123.456");
        check(1e22, "1.0E22");
        check(f64::MAX, "1.7976931348623157E308");
        check(f64::MIN_POSITIVE, "2.2250738585072014E-308");
        check(f64::NAN, "NaN");
        check(f64::NEG_INFINITY, "-Infinity");
        let mut out = String::new();
        write_float(1.0 / 3.0, &mut out);
        assert_eq!(out, "0.33333334");
    }

    #[test]
    fn decimals_and_times() {
        let mut out = String::new();
        write_decimal(-5, 3, &mut out);
        out.push(' ');
        write_decimal(12_345, 2, &mut out);
        out.push(' ');
        write_timestamp(-1, 999_000, 3, Style::Tsv, &mut out);
        out.push(' ');
        write_timestamp(0, 0, 0, Style::Cast, &mut out);
        out.push(' ');
        write_timestamp(7, 0, 6, Style::Cast, &mut out);
        out.push(' ');
        write_time(3_723_004, 0, &mut out);
        out.push(' ');
        write_months(-13, &mut out);
        out.push(' ');
        write_duration(90_061_500, &mut out);
        assert_eq!(
            out,
            "-0.005 123.45 1969-12-31 23:59:59.999999 1970-01-01 00:00:00 \
             1970-01-01 00:00:00.007000 01:02:03 -1-01 +1 01:01:01.500"
        );
    }
}
