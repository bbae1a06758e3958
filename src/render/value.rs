//! One value of any column.

use std::fmt::Write;

use arrow::{
    array::{Array, AsArray},
    datatypes::{
        DataType, Date32Type, Decimal128Type, DurationMillisecondType, Float32Type, Float64Type,
        Int8Type, Int16Type, Int32Type, Int64Type, IntervalUnit, IntervalYearMonthType,
        Time32MillisecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
        TimestampNanosecondType,
    },
};
use control_plane::results::escape;
use serde_json::{Value, json};

use super::{
    number::{push_decimal, push_float},
    time::{push_date, push_duration, push_months, push_time, push_timestamp},
};

/// Appends value `row` of `array`. Types are those of `engine::schema`.
pub(super) fn push_value(out: &mut String, array: &dyn Array, row: usize) {
    if array.is_null(row) || array.data_type() == &DataType::Null {
        return out.push_str("\\N");
    }
    match array.data_type() {
        DataType::Boolean => out.push_str(if array.as_boolean().value(row) {
            "true"
        } else {
            "false"
        }),
        DataType::Utf8 => escape(array.as_string::<i32>().value(row), out),
        DataType::Binary => push_binary(out, array.as_binary::<i32>().value(row)),
        DataType::List(_) | DataType::Struct(_) | DataType::Map(_, _) => {
            let carried = carried(array, row).to_string();
            escape(&carried, out);
        }
        _ => push_plain(out, array, row),
    }
}

/// A value within a nested one, in the form that `control_plane::results` names.
fn carried(array: &dyn Array, row: usize) -> Value {
    if array.is_null(row) || array.data_type() == &DataType::Null {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::List(_) => {
            let elements = array.as_list::<i32>().value(row);
            (0..elements.len())
                .map(|index| carried(&elements, index))
                .collect()
        }
        DataType::Struct(_) => {
            let fields = array.as_struct().columns().iter();
            fields.map(|field| carried(field, row)).collect()
        }
        DataType::Map(_, _) => carried_entries(array, row),
        _ => {
            let mut text = String::new();
            push_value(&mut text, array, row);
            text.into()
        }
    }
}

/// Entries have no order of their own: sorted by the key's text.
fn carried_entries(array: &dyn Array, row: usize) -> Value {
    let entries = array.as_map().value(row);
    let (keys, values) = (entries.column(0), entries.column(1));
    let mut pairs: Vec<(String, Value)> = (0..entries.len())
        .map(|index| {
            let key = carried(keys, index);
            let text = match &key {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            (text, json!([key, carried(values, index)]))
        })
        .collect();
    pairs.sort_by(|(key, _), (other, _)| key.cmp(other));
    pairs.into_iter().map(|(_, pair)| pair).collect()
}

fn push_plain(out: &mut String, array: &dyn Array, row: usize) {
    let integer = |out: &mut String, value: i64| {
        // Writing to a string does not fail.
        let _ = write!(out, "{value}");
    };
    match array.data_type() {
        DataType::Int8 => integer(out, array.as_primitive::<Int8Type>().value(row).into()),
        DataType::Int16 => integer(out, array.as_primitive::<Int16Type>().value(row).into()),
        DataType::Int32 => integer(out, array.as_primitive::<Int32Type>().value(row).into()),
        DataType::Int64 => integer(out, array.as_primitive::<Int64Type>().value(row)),
        DataType::Float32 => push_float(out, array.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => push_float(out, array.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(_, scale) => {
            push_decimal(
                out,
                array.as_primitive::<Decimal128Type>().value(row),
                *scale,
            );
        }
        DataType::Date32 => push_date(out, array.as_primitive::<Date32Type>().value(row).into()),
        DataType::Time32(TimeUnit::Millisecond) => {
            let time = array.as_primitive::<Time32MillisecondType>().value(row);
            push_time(out, time.into());
        }
        DataType::Timestamp(unit, _) => push_timestamp(out, nanoseconds(array, *unit, row)),
        DataType::Interval(IntervalUnit::YearMonth) => {
            push_months(
                out,
                array.as_primitive::<IntervalYearMonthType>().value(row),
            );
        }
        DataType::Duration(TimeUnit::Millisecond) => {
            push_duration(
                out,
                array.as_primitive::<DurationMillisecondType>().value(row),
            );
        }
        // No SQL type lies in memory so.
        other => {
            let _ = write!(out, "<{other}>");
        }
    }
}

fn nanoseconds(array: &dyn Array, unit: TimeUnit, row: usize) -> i128 {
    match unit {
        TimeUnit::Microsecond => {
            i128::from(array.as_primitive::<TimestampMicrosecondType>().value(row)) * 1000
        }
        TimeUnit::Nanosecond => array
            .as_primitive::<TimestampNanosecondType>()
            .value(row)
            .into(),
        // Timestamps in whole seconds do not occur.
        TimeUnit::Millisecond | TimeUnit::Second => {
            i128::from(array.as_primitive::<TimestampMillisecondType>().value(row)) * 1_000_000
        }
    }
}

fn push_binary(out: &mut String, bytes: &[u8]) {
    out.push_str("x'");
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out.push('\'');
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{
            ArrayRef, BinaryArray, BooleanArray, Int32Array, ListArray, MapBuilder, StringArray,
            StringBuilder, StructArray, TimestampMillisecondArray,
        },
        datatypes::{Field, Int32Type},
    };

    use super::*;

    #[test]
    fn values_of_all_shapes() {
        let check = |array: ArrayRef, expected: &[&str]| {
            for (row, expected) in expected.iter().enumerate() {
                let mut out = String::new();
                push_value(&mut out, &array, row);
                assert_eq!(&out, expected);
            }
        };
        check(
            Arc::new(BooleanArray::from(vec![Some(true), None])),
            &["true", "\\N"],
        );
        check(
            Arc::new(StringArray::from(vec!["a\tb\\N", ""])),
            &["a\\tb\\\\N", ""],
        );
        check(
            Arc::new(BinaryArray::from(vec![&[10_u8, 255][..]])),
            &["x'0aff'"],
        );
        let lists = [Some(vec![Some(1), None]), Some(vec![]), None];
        check(
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists)),
            &["[\"1\",null]", "[]", "\\N"],
        );
        check(
            Arc::new(TimestampMillisecondArray::from(vec![1]).with_timezone("UTC")),
            &["1970-01-01 00:00:00.001"],
        );
        let text: ArrayRef = Arc::new(StringArray::from(vec![Some("x\t\\N"), None]));
        let number: ArrayRef = Arc::new(Int32Array::from(vec![7, 8]));
        let field =
            |name, array: &ArrayRef| Arc::new(Field::new(name, array.data_type().clone(), true));
        let fields = vec![
            (field("a", &text), text.clone()),
            (field("b", &number), number.clone()),
        ];
        check(
            Arc::new(StructArray::from(fields)),
            &[r#"["x\\t\\\\N","7"]"#, r#"[null,"8"]"#],
        );
        let mut map = MapBuilder::new(None, StringBuilder::new(), Int32Array::builder(2));
        map.keys().append_value("z");
        map.keys().append_value("b");
        map.values().append_value(1);
        map.values().append_null();
        map.append(true).expect("as many keys as values");
        check(Arc::new(map.finish()), &[r#"[["b",null],["z","1"]]"#]);
    }
}
