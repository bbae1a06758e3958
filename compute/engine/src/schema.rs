//! How SQL types lie in memory: the one mapping from [`DataType`] to arrow.
//!
//! | SQL | arrow |
//! |---|---|
//! | BOOLEAN, integers, FLOAT, DOUBLE | Boolean, Int8…Int64, Float32, Float64 |
//! | DECIMAL(p, s) | Decimal128(p, s) |
//! | CHAR, VARCHAR · BINARY, VARBINARY | Utf8 · Binary |
//! | DATE · TIME(p) | Date32 · Time32(ms) |
//! | TIMESTAMP(p) · TIMESTAMP_LTZ(p) | Timestamp(ms for p ≤ 3, µs for p ≤ 6, else ns; no zone · "UTC") |
//! | INTERVAL YEAR TO MONTH · DAY TO SECOND | Interval(YearMonth) · Duration(ms) |
//! | ARRAY · MAP · MULTISET · ROW | List · Map · Map to Int32 counts · Struct |
//! | NULL | Null |

use std::sync::Arc;

use arrow::datatypes::{
    DataType as ArrowType, Field as ArrowField, Fields, IntervalUnit, Schema, SchemaRef, TimeUnit,
};
use proto::types::{DataType, Field, LogicalType};

/// Arrow's type for a SQL type.
#[must_use]
pub fn arrow_type(logical: &LogicalType) -> ArrowType {
    match logical {
        LogicalType::Null => ArrowType::Null,
        LogicalType::Boolean => ArrowType::Boolean,
        LogicalType::TinyInt => ArrowType::Int8,
        LogicalType::SmallInt => ArrowType::Int16,
        LogicalType::Int => ArrowType::Int32,
        LogicalType::BigInt => ArrowType::Int64,
        LogicalType::Float => ArrowType::Float32,
        LogicalType::Double => ArrowType::Float64,
        LogicalType::Decimal { precision, scale } => {
            ArrowType::Decimal128(*precision, i8::try_from(*scale).unwrap_or(i8::MAX))
        }
        LogicalType::Char(_) | LogicalType::Varchar(_) => ArrowType::Utf8,
        LogicalType::Binary(_) | LogicalType::Varbinary(_) => ArrowType::Binary,
        LogicalType::Date => ArrowType::Date32,
        LogicalType::Time(_) => ArrowType::Time32(TimeUnit::Millisecond),
        LogicalType::Timestamp(precision) => ArrowType::Timestamp(time_unit(*precision), None),
        LogicalType::TimestampLtz(precision) => {
            ArrowType::Timestamp(time_unit(*precision), Some("UTC".into()))
        }
        LogicalType::IntervalYearMonth => ArrowType::Interval(IntervalUnit::YearMonth),
        LogicalType::IntervalDayTime => ArrowType::Duration(TimeUnit::Millisecond),
        LogicalType::Array(element) => ArrowType::List(Arc::new(arrow_field("item", element))),
        LogicalType::Map(key, value) => map_type(key, arrow_field("value", value)),
        LogicalType::Multiset(element) => {
            map_type(element, ArrowField::new("value", ArrowType::Int32, false))
        }
        LogicalType::Row(fields) => ArrowType::Struct(
            fields
                .iter()
                .map(|field| arrow_field(&field.name, &field.data_type))
                .collect(),
        ),
    }
}

/// The unit that a timestamp of this precision is kept in.
#[must_use]
pub fn time_unit(precision: u8) -> TimeUnit {
    match precision {
        0..=3 => TimeUnit::Millisecond,
        4..=6 => TimeUnit::Microsecond,
        _ => TimeUnit::Nanosecond,
    }
}

fn map_type(key: &DataType, value: ArrowField) -> ArrowType {
    // Arrow requires non-null keys; SQL's MAP keys are never NULL in data that we accept.
    let key = ArrowField::new("key", arrow_type(&key.logical), false);
    let entries = ArrowType::Struct(Fields::from(vec![key, value]));
    ArrowType::Map(Arc::new(ArrowField::new("entries", entries, false)), false)
}

/// Arrow's field for a SQL column. All top-level and nested fields are nullable in memory: NOT
/// NULL is the planner's knowledge, and a batch that broke it would otherwise not be built.
#[must_use]
pub fn arrow_field(name: &str, data_type: &DataType) -> ArrowField {
    ArrowField::new(name, arrow_type(&data_type.logical), true)
}

/// Arrow's schema for SQL columns.
#[must_use]
pub fn arrow_schema(fields: &[Field]) -> SchemaRef {
    let fields: Vec<ArrowField> = fields
        .iter()
        .map(|field| arrow_field(&field.name, &field.data_type))
        .collect();
    Arc::new(Schema::new(fields))
}
