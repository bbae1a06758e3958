//! A row as Flink prints it: values in the form of Java's `toString`.

use proto::types::RowKind;

use crate::{
    text::{write_date, write_integer, write_plain, write_time},
    value::{Typed, Values},
};

/// Appends `+I[a, b]`.
pub(super) fn write_row(out: &mut Vec<u8>, values: &[Values<'_>], row: usize, kind: RowKind) {
    out.extend_from_slice(kind.symbol().as_bytes());
    out.push(b'[');
    for (nth, value) in values.iter().enumerate() {
        separate(out, nth);
        write_value(out, value, row);
    }
    out.push(b']');
}

fn separate(out: &mut Vec<u8>, nth: usize) {
    if nth > 0 {
        out.extend_from_slice(b", ");
    }
}

fn write_value(out: &mut Vec<u8>, values: &Values<'_>, row: usize) {
    if values.is_null(row) {
        out.extend_from_slice(b"null");
        return;
    }
    match &values.typed {
        Typed::Binary(array) => {
            out.push(b'[');
            for (nth, byte) in array.value(row).iter().enumerate() {
                separate(out, nth);
                // Java's bytes have a sign.
                write_integer(out, i64::from(byte.cast_signed()));
            }
            out.push(b']');
        }
        Typed::Time(millis) => write_clock(out, i64::from(millis[row]) * 1_000_000, false),
        Typed::Timestamp {
            values,
            precision,
            local,
        } => write_java_timestamp(out, values[row], *precision, *local),
        Typed::Months(months) => {
            out.push(b'P');
            write_integer(out, months[row].into());
            out.push(b'M');
        }
        Typed::Millis(millis) => write_duration(out, millis[row]),
        Typed::List(list, items) => {
            let offsets = list.value_offsets();
            out.push(b'[');
            for (nth, item) in (offsets[row]..offsets[row + 1]).enumerate() {
                separate(out, nth);
                write_value(out, items, item as usize);
            }
            out.push(b']');
        }
        Typed::Map(map, keys, values) => {
            let offsets = map.value_offsets();
            out.push(b'{');
            for (nth, entry) in (offsets[row]..offsets[row + 1]).enumerate() {
                separate(out, nth);
                write_value(out, keys, entry as usize);
                out.push(b'=');
                write_value(out, values, entry as usize);
            }
            out.push(b'}');
        }
        Typed::Row(fields) => write_row(out, fields, row, RowKind::Insert),
        plain => write_plain(out, plain, row),
    }
}

fn write_java_timestamp(out: &mut Vec<u8>, value: i64, precision: u8, local: bool) {
    const NANOS_PER_DAY: i64 = 86_400_000_000_000;
    let nanos_per_unit = match precision {
        0..=3 => 1_000_000,
        4..=6 => 1_000,
        _ => 1,
    };
    let per_day = NANOS_PER_DAY / nanos_per_unit;
    write_date(out, value.div_euclid(per_day));
    out.push(b'T');
    write_clock(out, value.rem_euclid(per_day) * nanos_per_unit, local);
    if local {
        out.push(b'Z');
    }
}

/// `HH:mm[:ss[.fraction]]`: seconds where there are any (or always), the fraction in three, six
/// or nine digits.
fn write_clock(out: &mut Vec<u8>, nanos: i64, with_seconds: bool) {
    let start = out.len();
    write_time(out, nanos);
    let fraction = (out.len() - start).saturating_sub("HH:mm:ss.".len());
    if fraction > 0 {
        out.extend(std::iter::repeat_n(
            b'0',
            fraction.next_multiple_of(3) - fraction,
        ));
    } else if !with_seconds && out.ends_with(b":00") {
        out.truncate(start + "HH:mm".len());
    }
}

/// As Java's `Duration`: `PT26H3M4.5S`.
pub(super) fn write_duration(out: &mut Vec<u8>, millis: i64) {
    let text_before = out.len();
    out.extend_from_slice(b"PT");
    let (hours, minutes) = (millis / 3_600_000, millis / 60_000 % 60);
    for (amount, unit) in [(hours, b'H'), (minutes, b'M')] {
        if amount != 0 {
            write_integer(out, amount);
            out.push(unit);
        }
    }
    let seconds = millis % 60_000;
    if seconds != 0 || out.len() == text_before + 2 {
        if seconds < 0 {
            out.push(b'-');
        }
        write_integer(out, (seconds / 1000).abs());
        let fraction = (seconds % 1000).abs();
        if fraction != 0 {
            let digits = format!(".{fraction:03}");
            out.extend_from_slice(digits.trim_end_matches('0').as_bytes());
        }
        out.push(b'S');
    }
}
