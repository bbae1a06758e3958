//! One growing column of any SQL type.

use std::{collections::HashMap, sync::Arc};

use arrow::array::NullBufferBuilder;
use arrow::{
    array::{
        ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array,
        DurationMillisecondArray, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array,
        Int64Array, IntervalYearMonthArray, ListArray, MapArray, NullArray, PrimitiveArray,
        StringArray, StructArray, Time32MillisecondArray, TimestampMicrosecondArray,
        TimestampMillisecondArray, TimestampNanosecondArray,
    },
    buffer::{NullBuffer, OffsetBuffer, ScalarBuffer},
    datatypes::{ArrowPrimitiveType, DataType as ArrowType, Fields, TimeUnit},
    error::ArrowError,
};
use engine::schema::arrow_type;
use proto::types::{DataType, LogicalType};

/// Up to here comparing all keys of a map with each other is cheaper than hashing them.
const SCANNED_KEYS_MAX: usize = 16;

/// A growing column.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) logical: LogicalType,
    validity: NullBufferBuilder,
    pub(crate) data: Data,
}

/// Values of a column; a NULL has a default value in its place.
#[derive(Debug)]
pub(crate) enum Data {
    Null,
    Boolean(Vec<bool>),
    I8(Vec<i8>),
    I16(Vec<i16>),
    /// INT, DATE, TIME, INTERVAL YEAR TO MONTH.
    I32(Vec<i32>),
    /// BIGINT, TIMESTAMP, TIMESTAMP_LTZ, INTERVAL DAY TO SECOND.
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    I128(Vec<i128>),
    /// Character strings (always UTF-8) and byte strings.
    Bytes {
        offsets: Vec<i32>,
        values: Vec<u8>,
    },
    List {
        offsets: Vec<i32>,
        items: Box<Column>,
    },
    /// MAP and MULTISET.
    Map {
        offsets: Vec<i32>,
        keys: Box<Column>,
        values: Box<Column>,
    },
    Struct(Vec<Column>),
}

impl Data {
    fn same(&self, a: usize, b: usize) -> bool {
        let range = |offsets: &[i32], at: usize| offsets[at] as usize..offsets[at + 1] as usize;
        let alike = |offsets: &[i32], items: &[&Column]| {
            let (a, b) = (range(offsets, a), range(offsets, b));
            let mut pairs = a.clone().zip(b.clone());
            a.len() == b.len()
                && pairs.all(|(a, b)| items.iter().all(|column| column.data.same(a, b)))
        };
        match self {
            Data::Null => true,
            Data::Boolean(values) => values[a] == values[b],
            Data::I8(values) => values[a] == values[b],
            Data::I16(values) => values[a] == values[b],
            Data::I32(values) => values[a] == values[b],
            Data::I64(values) => values[a] == values[b],
            Data::F32(values) => values[a].to_bits() == values[b].to_bits(),
            Data::F64(values) => values[a].to_bits() == values[b].to_bits(),
            Data::I128(values) => values[a] == values[b],
            Data::Bytes { offsets, values } => {
                values[range(offsets, a)] == values[range(offsets, b)]
            }
            Data::List { offsets, items } => alike(offsets, &[items]),
            Data::Map {
                offsets,
                keys,
                values,
            } => alike(offsets, &[keys, values]),
            Data::Struct(fields) => fields.iter().all(|field| field.data.same(a, b)),
        }
    }
}

impl Column {
    /// An empty column.
    pub(crate) fn new(data_type: &DataType) -> Column {
        let data = match &data_type.logical {
            LogicalType::Null => Data::Null,
            LogicalType::Boolean => Data::Boolean(Vec::new()),
            LogicalType::TinyInt => Data::I8(Vec::new()),
            LogicalType::SmallInt => Data::I16(Vec::new()),
            LogicalType::Int
            | LogicalType::Date
            | LogicalType::Time(_)
            | LogicalType::IntervalYearMonth => Data::I32(Vec::new()),
            LogicalType::BigInt
            | LogicalType::Timestamp(_)
            | LogicalType::TimestampLtz(_)
            | LogicalType::IntervalDayTime => Data::I64(Vec::new()),
            LogicalType::Float => Data::F32(Vec::new()),
            LogicalType::Double => Data::F64(Vec::new()),
            LogicalType::Decimal { .. } => Data::I128(Vec::new()),
            LogicalType::Char(_)
            | LogicalType::Varchar(_)
            | LogicalType::Binary(_)
            | LogicalType::Varbinary(_) => Data::Bytes {
                offsets: vec![0],
                values: Vec::new(),
            },
            LogicalType::Array(element) => Data::List {
                offsets: vec![0],
                items: Box::new(Column::new(element)),
            },
            LogicalType::Map(key, value) => Data::Map {
                offsets: vec![0],
                keys: Box::new(Column::new(key)),
                values: Box::new(Column::new(value)),
            },
            LogicalType::Multiset(element) => Data::Map {
                offsets: vec![0],
                keys: Box::new(Column::new(element)),
                values: Box::new(Column::new(&LogicalType::Int.not_null())),
            },
            LogicalType::Row(fields) => Data::Struct(
                fields
                    .iter()
                    .map(|field| Column::new(&field.data_type))
                    .collect(),
            ),
        };
        Column {
            logical: data_type.logical.clone(),
            validity: NullBufferBuilder::new(0),
            data,
        }
    }

    /// Number of values.
    pub(crate) fn len(&self) -> usize {
        self.validity.len()
    }

    /// Declares the value that was just written to `data` present.
    #[inline]
    pub(crate) fn mark_valid(&mut self) {
        self.validity.append_non_null();
    }

    /// Closes a byte string or list whose bytes or items were appended to `data`.
    #[inline]
    pub(crate) fn close(&mut self) {
        match &mut self.data {
            Data::Bytes { offsets, values } => offsets.push(offset(values.len())),
            Data::List { offsets, items } => offsets.push(offset(items.len())),
            Data::Map { offsets, keys, .. } => offsets.push(offset(keys.len())),
            _ => {}
        }
        self.validity.append_non_null();
    }

    /// Appends NULL.
    pub(crate) fn push_null(&mut self) {
        match &mut self.data {
            Data::Null => {}
            Data::Boolean(values) => values.push(false),
            Data::I8(values) => values.push(0),
            Data::I16(values) => values.push(0),
            Data::I32(values) => values.push(0),
            Data::I64(values) => values.push(0),
            Data::F32(values) => values.push(0.0),
            Data::F64(values) => values.push(0.0),
            Data::I128(values) => values.push(0),
            Data::Bytes { offsets, values } => offsets.push(offset(values.len())),
            Data::List { offsets, items } => offsets.push(offset(items.len())),
            Data::Map { offsets, keys, .. } => offsets.push(offset(keys.len())),
            Data::Struct(fields) => fields.iter_mut().for_each(Column::push_null),
        }
        self.validity.append_null();
    }

    /// Cuts back to `length` values, whatever was half written after them.
    pub(crate) fn truncate(&mut self, length: usize) {
        match &mut self.data {
            Data::Null => {}
            Data::Boolean(values) => values.truncate(length),
            Data::I8(values) => values.truncate(length),
            Data::I16(values) => values.truncate(length),
            Data::I32(values) => values.truncate(length),
            Data::I64(values) => values.truncate(length),
            Data::F32(values) => values.truncate(length),
            Data::F64(values) => values.truncate(length),
            Data::I128(values) => values.truncate(length),
            Data::Bytes { offsets, values } => {
                values.truncate(cut(offsets, length));
            }
            Data::List { offsets, items } => items.truncate(cut(offsets, length)),
            Data::Map {
                offsets,
                keys,
                values,
            } => {
                let entries = cut(offsets, length);
                keys.truncate(entries);
                values.truncate(entries);
            }
            Data::Struct(fields) => fields.iter_mut().for_each(|field| field.truncate(length)),
        }
        // A value may be written and not yet marked.
        if self.validity.len() > length {
            self.validity.truncate(length);
        }
    }

    /// Whether the last value is among those before it from `first` on. NULLs are not told apart
    /// from the value that stands in their place.
    pub(crate) fn repeats_since(&self, first: usize) -> bool {
        let last = self.len().saturating_sub(1);
        (first..last).any(|earlier| self.data.same(earlier, last))
    }

    /// Of strings that occur more than once from value `first` on, all but the last: their
    /// positions, counted from `first`.
    pub(crate) fn repeated_strings(&self, first: usize) -> Vec<usize> {
        let Data::Bytes { offsets, values } = &self.data else {
            return Vec::new();
        };
        let length = self.len();
        let value = |at: usize| &values[offsets[at] as usize..offsets[at + 1] as usize];
        let mut repeated = Vec::new();
        if length - first <= SCANNED_KEYS_MAX {
            for at in first..length {
                if (at + 1..length).any(|later| value(at) == value(later)) {
                    repeated.push(at - first);
                }
            }
            return repeated;
        }
        let mut seen = HashMap::new();
        for at in first..length {
            repeated.extend(seen.insert(value(at), at - first));
        }
        repeated
    }

    /// The column as an array; the column is empty afterwards.
    pub(crate) fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let length = self.validity.len();
        let nulls = self.validity.finish();
        let arrow = arrow_type(&self.logical);
        Ok(match &mut self.data {
            Data::Null => Arc::new(NullArray::new(length)),
            Data::Boolean(values) => {
                Arc::new(BooleanArray::new(std::mem::take(values).into(), nulls))
            }
            Data::I8(values) => Arc::new(Int8Array::try_new(taken(values), nulls)?),
            Data::I16(values) => Arc::new(Int16Array::try_new(taken(values), nulls)?),
            Data::I32(values) => finish_i32(&arrow, taken(values), nulls)?,
            Data::I64(values) => finish_i64(&arrow, taken(values), nulls)?,
            Data::F32(values) => Arc::new(Float32Array::try_new(taken(values), nulls)?),
            Data::F64(values) => Arc::new(Float64Array::try_new(taken(values), nulls)?),
            Data::I128(values) => {
                Arc::new(Decimal128Array::try_new(taken(values), nulls)?.with_data_type(arrow))
            }
            Data::Bytes { offsets, values } => {
                let (offsets, values) = (taken_offsets(offsets), std::mem::take(values));
                if arrow == ArrowType::Utf8 {
                    Arc::new(StringArray::try_new(offsets, values.into(), nulls)?)
                } else {
                    Arc::new(BinaryArray::try_new(offsets, values.into(), nulls)?)
                }
            }
            Data::List { offsets, items } => {
                let ArrowType::List(field) = arrow else {
                    return Err(layout_mismatch());
                };
                let items = items.finish()?;
                Arc::new(ListArray::try_new(
                    field,
                    taken_offsets(offsets),
                    items,
                    nulls,
                )?)
            }
            Data::Map {
                offsets,
                keys,
                values,
            } => {
                let ArrowType::Map(field, ordered) = arrow else {
                    return Err(layout_mismatch());
                };
                let ArrowType::Struct(fields) = field.data_type().clone() else {
                    return Err(layout_mismatch());
                };
                let columns = vec![keys.finish()?, values.finish()?];
                let entries = StructArray::try_new(fields, columns, None)?;
                let offsets = taken_offsets(offsets);
                Arc::new(MapArray::try_new(field, offsets, entries, nulls, ordered)?)
            }
            Data::Struct(columns) => {
                let ArrowType::Struct(fields) = arrow else {
                    return Err(layout_mismatch());
                };
                Arc::new(finish_struct(fields, columns, nulls, length)?)
            }
        })
    }
}

fn finish_struct(
    fields: Fields,
    columns: &mut [Column],
    nulls: Option<NullBuffer>,
    length: usize,
) -> Result<StructArray, ArrowError> {
    let columns = columns
        .iter_mut()
        .map(Column::finish)
        .collect::<Result<Vec<_>, _>>()?;
    StructArray::try_new_with_length(fields, columns, nulls, length)
}

fn finish_i32(
    arrow: &ArrowType,
    values: ScalarBuffer<i32>,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, ArrowError> {
    Ok(match arrow {
        ArrowType::Date32 => Arc::new(Date32Array::try_new(values, nulls)?),
        ArrowType::Time32(_) => Arc::new(Time32MillisecondArray::try_new(values, nulls)?),
        ArrowType::Interval(_) => Arc::new(IntervalYearMonthArray::try_new(values, nulls)?),
        _ => Arc::new(Int32Array::try_new(values, nulls)?),
    })
}

fn finish_i64(
    arrow: &ArrowType,
    values: ScalarBuffer<i64>,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, ArrowError> {
    Ok(match arrow {
        ArrowType::Timestamp(TimeUnit::Millisecond, _) => {
            typed(TimestampMillisecondArray::try_new(values, nulls)?, arrow)
        }
        ArrowType::Timestamp(TimeUnit::Microsecond, _) => {
            typed(TimestampMicrosecondArray::try_new(values, nulls)?, arrow)
        }
        ArrowType::Timestamp(_, _) => {
            typed(TimestampNanosecondArray::try_new(values, nulls)?, arrow)
        }
        ArrowType::Duration(_) => Arc::new(DurationMillisecondArray::try_new(values, nulls)?),
        _ => Arc::new(Int64Array::try_new(values, nulls)?),
    })
}

fn typed<T: ArrowPrimitiveType>(array: PrimitiveArray<T>, arrow: &ArrowType) -> ArrayRef {
    Arc::new(array.with_data_type(arrow.clone()))
}

fn taken<T: arrow::datatypes::ArrowNativeType>(values: &mut Vec<T>) -> ScalarBuffer<T> {
    std::mem::take(values).into()
}

fn taken_offsets(offsets: &mut Vec<i32>) -> OffsetBuffer<i32> {
    OffsetBuffer::new(std::mem::replace(offsets, vec![0]).into())
}

fn cut(offsets: &mut Vec<i32>, length: usize) -> usize {
    offsets.truncate(length + 1);
    offsets.last().map_or(0, |last| *last as usize)
}

fn offset(length: usize) -> i32 {
    i32::try_from(length).expect("batches and records are bounded far below 2 GiB")
}

fn layout_mismatch() -> ArrowError {
    ArrowError::SchemaError("a column's layout does not fit its type".to_owned())
}
