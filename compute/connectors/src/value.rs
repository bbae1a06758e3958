//! Typed views of a batch's columns for writers that go row by row: the type of a column is found
//! out once per batch, not once per value.

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, Float32Array,
        Float64Array, Int8Array, Int16Array, Int32Array, Int64Array, ListArray, MapArray,
        PrimitiveArray, StringArray, StructArray,
    },
    datatypes::{
        ArrowPrimitiveType, Date32Type, DurationMillisecondType, Int32Type, Int64Type,
        IntervalYearMonthType, Time32MillisecondType, TimeUnit, TimestampMicrosecondType,
        TimestampMillisecondType, TimestampNanosecondType,
    },
};
use engine::{schema::time_unit, sink::SinkError};
use proto::types::{Field, LogicalType};

/// A column of a known type.
#[derive(Debug)]
pub(crate) struct Values<'a> {
    pub(crate) name: &'a str,
    array: &'a ArrayRef,
    pub(crate) typed: Typed<'a>,
}

/// The values of a column.
#[derive(Debug)]
pub(crate) enum Typed<'a> {
    Null,
    Boolean(&'a BooleanArray),
    I8(&'a Int8Array),
    I16(&'a Int16Array),
    I32(&'a Int32Array),
    I64(&'a Int64Array),
    F32(&'a Float32Array),
    F64(&'a Float64Array),
    Decimal(&'a Decimal128Array, u8),
    Text(&'a StringArray),
    Binary(&'a BinaryArray),
    Date(&'a [i32]),
    /// Milliseconds of the day.
    Time(&'a [i32]),
    /// In the unit of the precision.
    Timestamp {
        values: &'a [i64],
        precision: u8,
        local: bool,
    },
    Months(&'a [i32]),
    Millis(&'a [i64]),
    List(&'a ListArray, Box<Values<'a>>),
    Map(&'a MapArray, Box<Values<'a>>, Box<Values<'a>>),
    Row(Vec<Values<'a>>),
}

impl<'a> Values<'a> {
    /// Views of the columns of a batch; `None` when a column's memory does not fit its type.
    pub(crate) fn of_columns(
        fields: &'a [Field],
        columns: &'a [ArrayRef],
    ) -> Option<Vec<Values<'a>>> {
        if fields.len() != columns.len() {
            return None;
        }
        fields
            .iter()
            .zip(columns)
            .map(|(field, column)| Values::new(&field.name, &field.data_type.logical, column))
            .collect()
    }

    fn new(name: &'a str, logical: &'a LogicalType, array: &'a ArrayRef) -> Option<Values<'a>> {
        let typed = match logical {
            LogicalType::Null => Typed::Null,
            LogicalType::Boolean => Typed::Boolean(array.as_boolean_opt()?),
            LogicalType::TinyInt => Typed::I8(array.as_primitive_opt()?),
            LogicalType::SmallInt => Typed::I16(array.as_primitive_opt()?),
            LogicalType::Int => Typed::I32(array.as_primitive_opt::<Int32Type>()?),
            LogicalType::BigInt => Typed::I64(array.as_primitive_opt::<Int64Type>()?),
            LogicalType::Float => Typed::F32(array.as_primitive_opt()?),
            LogicalType::Double => Typed::F64(array.as_primitive_opt()?),
            LogicalType::Decimal { scale, .. } => Typed::Decimal(array.as_primitive_opt()?, *scale),
            LogicalType::Char(_) | LogicalType::Varchar(_) => Typed::Text(array.as_string_opt()?),
            LogicalType::Binary(_) | LogicalType::Varbinary(_) => {
                Typed::Binary(array.as_binary_opt()?)
            }
            LogicalType::Date => Typed::Date(natives::<Date32Type>(array)?),
            LogicalType::Time(_) => Typed::Time(natives::<Time32MillisecondType>(array)?),
            LogicalType::Timestamp(precision) => timestamps(array, *precision, false)?,
            LogicalType::TimestampLtz(precision) => timestamps(array, *precision, true)?,
            LogicalType::IntervalYearMonth => {
                Typed::Months(natives::<IntervalYearMonthType>(array)?)
            }
            LogicalType::IntervalDayTime => {
                Typed::Millis(natives::<DurationMillisecondType>(array)?)
            }
            LogicalType::Array(element) => {
                let list: &ListArray = array.as_list_opt()?;
                let items = Values::new(name, &element.logical, list.values())?;
                Typed::List(list, Box::new(items))
            }
            LogicalType::Map(key, value) => map(name, &key.logical, &value.logical, array)?,
            LogicalType::Multiset(element) => {
                map(name, &element.logical, &LogicalType::Int, array)?
            }
            LogicalType::Row(fields) => {
                let row: &StructArray = array.as_struct_opt()?;
                Typed::Row(Values::of_columns(fields, row.columns())?)
            }
        };
        Some(Values { name, array, typed })
    }

    /// Whether value `row` is NULL.
    #[inline]
    pub(crate) fn is_null(&self, row: usize) -> bool {
        matches!(self.typed, Typed::Null) || self.array.is_null(row)
    }
}

fn natives<T: ArrowPrimitiveType>(array: &ArrayRef) -> Option<&[T::Native]> {
    let array: &PrimitiveArray<T> = array.as_primitive_opt()?;
    Some(array.values())
}

fn timestamps(array: &ArrayRef, precision: u8, local: bool) -> Option<Typed<'_>> {
    let values = match time_unit(precision) {
        TimeUnit::Microsecond => natives::<TimestampMicrosecondType>(array)?,
        TimeUnit::Nanosecond => natives::<TimestampNanosecondType>(array)?,
        _ => natives::<TimestampMillisecondType>(array)?,
    };
    Some(Typed::Timestamp {
        values,
        precision,
        local,
    })
}

fn map<'a>(
    name: &'a str,
    key: &'a LogicalType,
    value: &'a LogicalType,
    array: &'a ArrayRef,
) -> Option<Typed<'a>> {
    let map: &MapArray = array.as_map_opt()?;
    let keys = Values::new(name, key, map.keys())?;
    let values = Values::new(name, value, map.values())?;
    Some(Typed::Map(map, Box::new(keys), Box::new(values)))
}

/// The error of a batch whose columns are not those of the plan.
pub(crate) fn mismatch() -> SinkError {
    SinkError::Encode {
        column: "*".to_owned(),
        cause: "the batch's columns are not those of the sink".to_owned(),
    }
}
