//! Which types travel, and how a schema that came is checked before arrow reads it: its reader
//! panics on what it does not know.

use std::sync::Arc;

use arrow::{
    datatypes::{DataType, Field, Schema, SchemaRef},
    ipc::{self, convert::fb_to_schema, root_as_message},
};

use super::FrameError;
use crate::caps::FRAME_TYPE_DEPTH_MAX;

/// Whether batches of the schema can be sent.
pub(super) fn check_schema(schema: &Schema) -> Result<(), FrameError> {
    let mut fields = schema.fields().iter();
    fields.try_for_each(|field| check_type(field, 0))
}

fn check_type(field: &Field, depth: usize) -> Result<(), FrameError> {
    let travels = match field.data_type() {
        _ if depth > FRAME_TYPE_DEPTH_MAX => false,
        DataType::Null | DataType::Boolean | DataType::Utf8 | DataType::Binary => true,
        DataType::List(child) => return check_type(child, depth + 1),
        DataType::Map(entries, _) => {
            check_type(entries, depth + 1)?;
            matches!(entries.data_type(), DataType::Struct(fields) if fields.len() == 2)
        }
        DataType::Struct(fields) => {
            let mut fields = fields.iter();
            return fields.try_for_each(|field| check_type(field, depth + 1));
        }
        other => other.is_primitive(),
    };
    if travels {
        return Ok(());
    }
    Err(FrameError::Type(field.data_type().to_string()))
}

/// Reads a schema's message.
pub(super) fn decode_schema(bytes: &[u8]) -> Result<SchemaRef, FrameError> {
    let damaged = |why: &str| FrameError::Damaged(format!("schema: {why}"));
    let message = root_as_message(bytes).map_err(|error| damaged(&error.to_string()))?;
    let schema = message.header_as_schema();
    let schema = schema.ok_or_else(|| damaged("another message"))?;
    if schema.endianness() != ipc::Endianness::Little {
        return Err(damaged("byte order"));
    }
    let fields = schema.fields().ok_or_else(|| damaged("no columns"))?;
    if !fields.iter().all(|field| is_readable(field, 0)) {
        return Err(damaged("a type that is not sent"));
    }
    let schema = fb_to_schema(schema);
    check_schema(&schema)?;
    Ok(Arc::new(schema))
}

/// Whether arrow reads the field without a panic.
fn is_readable(field: ipc::Field<'_>, depth: usize) -> bool {
    use ipc::{DateUnit, IntervalUnit, Precision, TimeUnit, Type};
    let is_unit = |unit: TimeUnit| {
        [
            TimeUnit::SECOND,
            TimeUnit::MILLISECOND,
            TimeUnit::MICROSECOND,
            TimeUnit::NANOSECOND,
        ]
        .contains(&unit)
    };
    let children = field.children().map_or(0, |children| children.len());
    let is_known = match field.type_type() {
        Type::Null | Type::Bool | Type::Utf8 | Type::Binary | Type::Struct_ => true,
        Type::List => children == 1,
        Type::Map => children == 1 && field.type_as_map().is_some(),
        Type::Int => field
            .type_as_int()
            .is_some_and(|int| [8, 16, 32, 64].contains(&int.bitWidth())),
        Type::FloatingPoint => field.type_as_floating_point().is_some_and(|float| {
            [Precision::HALF, Precision::SINGLE, Precision::DOUBLE].contains(&float.precision())
        }),
        Type::Decimal => field.type_as_decimal().is_some_and(|decimal| {
            decimal.bitWidth() == 128
                && (1..=38).contains(&decimal.precision())
                && (-38..=38).contains(&decimal.scale())
        }),
        Type::Date => field
            .type_as_date()
            .is_some_and(|date| [DateUnit::DAY, DateUnit::MILLISECOND].contains(&date.unit())),
        Type::Time => field.type_as_time().is_some_and(|time| {
            let units = match time.bitWidth() {
                32 => [TimeUnit::SECOND, TimeUnit::MILLISECOND],
                64 => [TimeUnit::MICROSECOND, TimeUnit::NANOSECOND],
                _ => return false,
            };
            units.contains(&time.unit())
        }),
        Type::Timestamp => field.type_as_timestamp().is_some_and(|t| is_unit(t.unit())),
        Type::Duration => field.type_as_duration().is_some_and(|d| is_unit(d.unit())),
        Type::Interval => field.type_as_interval().is_some_and(|interval| {
            [
                IntervalUnit::YEAR_MONTH,
                IntervalUnit::DAY_TIME,
                IntervalUnit::MONTH_DAY_NANO,
            ]
            .contains(&interval.unit())
        }),
        _ => false,
    };
    is_known
        && depth <= FRAME_TYPE_DEPTH_MAX
        && field.dictionary().is_none()
        && field
            .children()
            .is_none_or(|children| children.iter().all(|child| is_readable(child, depth + 1)))
}
