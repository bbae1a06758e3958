//! Values that need no structure around them, as text: what CSV fields, names of partitions and
//! printed rows have in common.

use crate::value::Typed;

use super::{write_date, write_decimal, write_f32, write_f64, write_time, write_timestamp};

/// Appends value `row`, which is not NULL: timestamps with a blank, LTZ with a `Z`, decimals with
/// their full scale. Nothing for binary and composed types.
pub(crate) fn write_plain(out: &mut Vec<u8>, values: &Typed<'_>, row: usize) {
    match values {
        Typed::Boolean(array) => {
            out.extend_from_slice(if array.value(row) { b"true" } else { b"false" });
        }
        Typed::I8(array) => write_integer(out, array.value(row).into()),
        Typed::I16(array) => write_integer(out, array.value(row).into()),
        Typed::I32(array) => write_integer(out, array.value(row).into()),
        Typed::I64(array) => write_integer(out, array.value(row)),
        Typed::Months(array) => write_integer(out, array[row].into()),
        Typed::Millis(array) => write_integer(out, array[row]),
        Typed::F32(array) => write_f32(out, array.value(row)),
        Typed::F64(array) => write_f64(out, array.value(row)),
        Typed::Decimal(array, scale) => write_decimal(out, array.value(row), *scale),
        Typed::Text(array) => out.extend_from_slice(array.value(row).as_bytes()),
        Typed::Date(days) => write_date(out, days[row].into()),
        Typed::Time(millis) => write_time(out, i64::from(millis[row]) * 1_000_000),
        Typed::Timestamp {
            values,
            precision,
            local,
        } => {
            write_timestamp(out, values[row], *precision, b' ');
            if *local {
                out.push(b'Z');
            }
        }
        Typed::Null
        | Typed::Binary(_)
        | Typed::List(_, _)
        | Typed::Map(_, _, _)
        | Typed::Row(_) => {}
    }
}

/// Appends an integer.
pub(crate) fn write_integer(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}
