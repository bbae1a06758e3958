//! Rows as bytes: what keyed state holds, compares, hashes and saves.
//!
//! ```text
//! null bits   ⌈columns / 8⌉ bytes, bit set = NULL
//! slots       per column: the value (1, 2, 4, 8 or 16 bytes, little endian), or for strings,
//!             bytes and nested values the u32 end of its bytes, counted from the row's start
//! tail        the bytes of those, in column order
//! ```
//! Equal rows have equal bytes, and the layout of a row is fixed by the column types alone, so it
//! may be persisted. Nested values are in arrow's row format.

mod byte_rows;
mod maps;
mod values;

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray as _, BooleanArray, GenericByteArray, NullArray},
    buffer::{BooleanBuffer, Buffer, MutableBuffer, NullBuffer, OffsetBuffer},
    datatypes::{ArrowNativeType, BinaryType, ByteArrayType, DataType, Utf8Type},
    error::ArrowError,
    row::{RowConverter, SortField},
};

use maps::{lists_for_maps, maps_as_lists, restore_maps};
pub use values::canonical_floats;
pub(crate) use values::{fixed_array, raw_values};

pub use byte_rows::ByteRows;

/// Encodes and decodes rows of given column types.
#[derive(Debug)]
pub struct RowCodec {
    columns: Vec<Column>,
    null_bytes: usize,
    tail_at: usize,
}

#[derive(Debug)]
struct Column {
    data_type: DataType,
    kind: ColumnKind,
    /// Of its slot, from the row's start.
    offset: usize,
    /// Slot of the variable column before it, whose end is where this one's bytes start.
    previous_variable: Option<usize>,
}

#[derive(Debug)]
enum ColumnKind {
    Null,
    Boolean,
    Fixed(usize),
    Text,
    Binary,
    /// Sees maps as lists of entries.
    Nested(RowConverter),
}

impl RowCodec {
    /// A codec for columns of these types.
    ///
    /// # Errors
    /// For a type that has no row form.
    pub fn new(types: &[DataType]) -> Result<Self, ArrowError> {
        let null_bytes = types.len().div_ceil(8);
        let mut at = null_bytes;
        let mut previous_variable = None;
        let mut columns = Vec::with_capacity(types.len());
        for data_type in types {
            let kind = column_kind(data_type)?;
            let offset = at;
            let previous = previous_variable;
            at += match &kind {
                ColumnKind::Null => 0,
                ColumnKind::Boolean => 1,
                ColumnKind::Fixed(width) => *width,
                ColumnKind::Text | ColumnKind::Binary | ColumnKind::Nested(_) => {
                    previous_variable = Some(offset);
                    4
                }
            };
            let data_type = data_type.clone();
            columns.push(Column {
                data_type,
                kind,
                offset,
                previous_variable: previous,
            });
        }
        Ok(RowCodec {
            columns,
            null_bytes,
            tail_at: at,
        })
    }

    /// Encodes the rows of `arrays`, which have the codec's types and one length, given as `rows`
    /// (there may be no columns).
    ///
    /// # Errors
    /// When a nested value cannot be converted.
    pub fn encode(&self, arrays: &[ArrayRef], rows: usize) -> Result<ByteRows, ArrowError> {
        let mut tails = Vec::new();
        for (column, array) in self.columns.iter().zip(arrays) {
            if let Some(bytes) = column.variable(array)? {
                tails.push((column, bytes));
            }
        }
        let mut starts = Vec::with_capacity(rows);
        let mut ends = Vec::with_capacity(rows);
        let mut at = 0;
        for row in 0..rows {
            starts.push(at);
            let tail: usize = tails.iter().map(|(_, bytes)| bytes.length(row)).sum();
            at += self.tail_at + tail;
            ends.push(at);
        }
        let mut data = vec![0_u8; at];
        for (index, (column, array)) in self.columns.iter().zip(arrays).enumerate() {
            if let Some(nulls) = array.logical_nulls() {
                for row in (0..rows).filter(|row| nulls.is_null(*row)) {
                    data[starts[row] + index / 8] |= 1 << (index % 8);
                }
            }
            column.write_fixed(array, &starts, &mut data);
        }
        let mut cursors = vec![self.tail_at; if tails.is_empty() { 0 } else { rows }];
        for (column, bytes) in &tails {
            for (row, cursor) in cursors.iter_mut().enumerate() {
                let value = bytes.value(row);
                let start = starts[row];
                data[start + *cursor..start + *cursor + value.len()].copy_from_slice(value);
                *cursor += value.len();
                let slot = start + column.offset;
                data[slot..slot + 4].copy_from_slice(&(*cursor as u32).to_le_bytes());
            }
        }
        Ok(ByteRows { data, ends })
    }

    /// Decodes rows into columns.
    ///
    /// # Errors
    /// When the bytes are not rows of the codec's types.
    pub fn decode(&self, rows: &[&[u8]]) -> Result<Vec<ArrayRef>, ArrowError> {
        if let Some(short) = rows.iter().find(|row| row.len() < self.tail_at) {
            let message = format!("a row has {} bytes, needs {}", short.len(), self.tail_at);
            return Err(ArrowError::ParseError(message));
        }
        (0..self.columns.len())
            .map(|column| self.decode_column(column, rows))
            .collect()
    }

    /// Decodes one column of rows that [`RowCodec::encode`] made.
    ///
    /// # Errors
    /// When the bytes are not rows of the codec's types.
    pub fn decode_column(&self, index: usize, rows: &[&[u8]]) -> Result<ArrayRef, ArrowError> {
        let column = &self.columns[index];
        let bit = 1_u8 << (index % 8);
        let is_null = |row: &&[u8]| row[index / 8] & bit != 0;
        let any_null = rows.iter().any(is_null);
        let nulls = any_null.then(|| {
            NullBuffer::new(BooleanBuffer::collect_bool(rows.len(), |i| {
                !is_null(&rows[i])
            }))
        });
        let at = column.offset;
        match &column.kind {
            ColumnKind::Null => Ok(Arc::new(NullArray::new(rows.len()))),
            ColumnKind::Boolean => {
                let values = BooleanBuffer::collect_bool(rows.len(), |i| rows[i][at] != 0);
                Ok(Arc::new(BooleanArray::new(values, nulls)))
            }
            ColumnKind::Fixed(width) => {
                let mut values = MutableBuffer::with_capacity(rows.len() * width);
                rows.iter()
                    .for_each(|row| values.extend_from_slice(&row[at..at + width]));
                fixed_array(&column.data_type, values.into(), rows.len(), nulls)
            }
            ColumnKind::Text => self.decode_bytes::<Utf8Type>(column, rows, nulls),
            ColumnKind::Binary => self.decode_bytes::<BinaryType>(column, rows, nulls),
            ColumnKind::Nested(converter) => {
                let parser = converter.parser();
                let parsed: Result<Vec<_>, _> =
                    rows.iter().map(|row| self.tail(column, row)).collect();
                let parsed = parsed?;
                let arrays =
                    converter.convert_rows(parsed.iter().map(|bytes| parser.parse(bytes)))?;
                let array = arrays.into_iter().next().ok_or_else(|| {
                    ArrowError::ParseError("a nested column decoded to nothing".to_owned())
                })?;
                Ok(restore_maps(&array, &column.data_type))
            }
        }
    }

    /// Whether column `index` of a row is NULL.
    #[must_use]
    pub fn is_null(&self, index: usize, row: &[u8]) -> bool {
        row[index / 8] & (1 << (index % 8)) != 0
    }

    /// Bytes that a row has before its variable part.
    #[must_use]
    pub fn fixed_bytes(&self) -> usize {
        self.tail_at - self.null_bytes
    }

    fn decode_bytes<T: ByteArrayType<Offset = i32>>(
        &self,
        column: &Column,
        rows: &[&[u8]],
        nulls: Option<NullBuffer>,
    ) -> Result<ArrayRef, ArrowError> {
        let mut offsets = Vec::with_capacity(rows.len() + 1);
        offsets.push(0_i32);
        let mut bytes = 0;
        for row in rows {
            bytes += self.tail(column, row)?.len();
            let end = i32::try_from(bytes).map_err(|_| ArrowError::OffsetOverflowError(bytes))?;
            offsets.push(end);
        }
        let mut values = Vec::with_capacity(bytes);
        for row in rows {
            values.extend_from_slice(self.tail(column, row)?);
        }
        let offsets = OffsetBuffer::new(offsets.into());
        let array = GenericByteArray::<T>::try_new(offsets, Buffer::from_vec(values), nulls)?;
        Ok(Arc::new(array))
    }

    fn tail<'a>(&self, column: &Column, row: &'a [u8]) -> Result<&'a [u8], ArrowError> {
        let end = |slot: usize| {
            u32::from_le_bytes([row[slot], row[slot + 1], row[slot + 2], row[slot + 3]]) as usize
        };
        let start = column.previous_variable.map_or(self.tail_at, end);
        row.get(start..end(column.offset))
            .ok_or_else(|| ArrowError::ParseError("a row is cut or damaged".to_owned()))
    }
}

/// Bytes of a variable column, row by row.
enum VariableBytes<'a> {
    Text(&'a GenericByteArray<Utf8Type>),
    Binary(&'a GenericByteArray<BinaryType>),
    Nested(arrow::row::Rows),
}

impl VariableBytes<'_> {
    fn value(&self, row: usize) -> &[u8] {
        match self {
            VariableBytes::Text(array) if array.is_null(row) => &[],
            VariableBytes::Text(array) => array.value(row).as_bytes(),
            VariableBytes::Binary(array) if array.is_null(row) => &[],
            VariableBytes::Binary(array) => array.value(row),
            VariableBytes::Nested(rows) => rows.row(row).data(),
        }
    }

    fn length(&self, row: usize) -> usize {
        self.value(row).len()
    }
}

impl Column {
    fn variable<'a>(&self, array: &'a ArrayRef) -> Result<Option<VariableBytes<'a>>, ArrowError> {
        Ok(match &self.kind {
            ColumnKind::Text => Some(VariableBytes::Text(array.as_bytes())),
            ColumnKind::Binary => Some(VariableBytes::Binary(array.as_bytes())),
            ColumnKind::Nested(converter) => {
                let rows = converter.convert_columns(&[maps_as_lists(array)])?;
                Some(VariableBytes::Nested(rows))
            }
            ColumnKind::Null | ColumnKind::Boolean | ColumnKind::Fixed(_) => None,
        })
    }

    fn write_fixed(&self, array: &ArrayRef, starts: &[usize], data: &mut [u8]) {
        match &self.kind {
            ColumnKind::Boolean => {
                let values = array.as_boolean();
                for (row, start) in starts.iter().enumerate() {
                    let set = values.is_valid(row) && values.value(row);
                    data[start + self.offset] = u8::from(set);
                }
            }
            ColumnKind::Fixed(width) => {
                let canonical = canonical_floats(array);
                match width {
                    1 => write_slots::<u8, 1>(&canonical, self.offset, starts, data),
                    2 => write_slots::<u16, 2>(&canonical, self.offset, starts, data),
                    4 => write_slots::<u32, 4>(&canonical, self.offset, starts, data),
                    8 => write_slots::<u64, 8>(&canonical, self.offset, starts, data),
                    _ => write_slots::<i128, 16>(&canonical, self.offset, starts, data),
                }
            }
            _ => {}
        }
    }
}

/// A fixed-width integer that has little-endian bytes.
trait Slot<const WIDTH: usize>: ArrowNativeType {
    fn bytes(self) -> [u8; WIDTH];
}
impl Slot<1> for u8 {
    fn bytes(self) -> [u8; 1] {
        self.to_le_bytes()
    }
}
impl Slot<2> for u16 {
    fn bytes(self) -> [u8; 2] {
        self.to_le_bytes()
    }
}
impl Slot<4> for u32 {
    fn bytes(self) -> [u8; 4] {
        self.to_le_bytes()
    }
}
impl Slot<8> for u64 {
    fn bytes(self) -> [u8; 8] {
        self.to_le_bytes()
    }
}
impl Slot<16> for i128 {
    fn bytes(self) -> [u8; 16] {
        self.to_le_bytes()
    }
}

fn write_slots<T: Slot<WIDTH>, const WIDTH: usize>(
    array: &ArrayRef,
    offset: usize,
    starts: &[usize],
    data: &mut [u8],
) {
    let values = raw_values::<T>(array);
    let nulls = array.nulls();
    for (row, start) in starts.iter().enumerate() {
        if nulls.is_none_or(|nulls| nulls.is_valid(row)) {
            data[start + offset..start + offset + WIDTH].copy_from_slice(&values[row].bytes());
        }
    }
}

fn column_kind(data_type: &DataType) -> Result<ColumnKind, ArrowError> {
    Ok(match data_type {
        DataType::Null => ColumnKind::Null,
        DataType::Boolean => ColumnKind::Boolean,
        DataType::Utf8 => ColumnKind::Text,
        DataType::Binary => ColumnKind::Binary,
        nested if nested.is_nested() => {
            let converter = RowConverter::new(vec![SortField::new(lists_for_maps(nested))])?;
            ColumnKind::Nested(converter)
        }
        fixed => match fixed.primitive_width() {
            Some(width @ (1 | 2 | 4 | 8 | 16)) => ColumnKind::Fixed(width),
            _ => {
                let message = format!("{fixed} has no row form");
                return Err(ArrowError::NotYetImplemented(message));
            }
        },
    })
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{
            Decimal128Array, Float64Array, Int32Array, Int64Array, StringArray, StructArray,
            builder::{Int32Builder, ListBuilder, MapBuilder, StringBuilder},
        },
        datatypes::Field,
    };

    use super::*;

    fn round_trip(arrays: &[ArrayRef]) -> ByteRows {
        let types: Vec<DataType> = arrays.iter().map(|a| a.data_type().clone()).collect();
        let codec = RowCodec::new(&types).expect("types have a row form");
        let rows = codec.encode(arrays, arrays[0].len()).expect("encode");
        let slices: Vec<&[u8]> = (0..rows.len()).map(|row| rows.row(row)).collect();
        assert_eq!(codec.decode(&slices).expect("decode"), arrays);
        rows
    }

    #[test]
    fn every_kind_of_column_comes_back() {
        let mut list = ListBuilder::new(Int32Builder::new());
        list.append_value([Some(1), None]);
        list.append_null();
        list.append_value([]);
        let mut map = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
        map.keys().append_value("k");
        map.values().append_value(1);
        map.append(true).expect("entry");
        map.append(false).expect("null");
        map.append(true).expect("empty");
        let text: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("")]));
        let number: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), Some(-2), None]));
        let fields = vec![
            Arc::new(Field::new("t", DataType::Utf8, true)),
            Arc::new(Field::new("n", DataType::Int32, true)),
        ];
        let nested = StructArray::new(
            fields.into(),
            vec![Arc::clone(&text), Arc::clone(&number)],
            Some(vec![true, true, false].into()),
        );
        let decimal = Decimal128Array::from(vec![Some(i128::MAX / 2), None, Some(-1)])
            .with_precision_and_scale(38, 2)
            .expect("fits");
        round_trip(&[
            number,
            Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
            text,
            Arc::new(decimal),
            Arc::new(list.finish()),
            Arc::new(NullArray::new(3)),
            Arc::new(map.finish()),
            Arc::new(nested),
            Arc::new(StringArray::from(vec!["x", "yy", "zzz"])),
        ]);
    }

    #[test]
    fn equal_rows_have_equal_bytes() {
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![f64::NAN, -f64::NAN]));
        let codec = RowCodec::new(&[DataType::Float64]).expect("codec");
        let rows = codec.encode(&[floats], 2).expect("encode");
        assert_eq!(rows.row(0), rows.row(1));
        // What lies under a NULL does not count.
        let nulls = NullBuffer::from(vec![false, false]);
        let hidden: ArrayRef = Arc::new(Int64Array::new(vec![1, 2].into(), Some(nulls)));
        let codec = RowCodec::new(&[DataType::Int64]).expect("codec");
        let rows = codec.encode(&[hidden], 2).expect("encode");
        assert_eq!(rows.row(0), rows.row(1));
    }

    #[test]
    fn a_zero_keeps_its_sign() {
        let doubles: ArrayRef = Arc::new(Float64Array::from(vec![0.0, -0.0]));
        let rows = round_trip(&[doubles]);
        assert_ne!(rows.row(0), rows.row(1));
    }

    #[test]
    fn sliced_arrays_encode_their_own_rows() {
        let array: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4]));
        let text: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c", "d"]));
        round_trip(&[array.slice(1, 2), text.slice(1, 2)]);
    }

    #[test]
    fn layout_is_fixed() {
        let number: ArrayRef = Arc::new(Int32Array::from(vec![7]));
        let text: ArrayRef = Arc::new(StringArray::from(vec!["ab"]));
        let more: ArrayRef = Arc::new(StringArray::from(vec!["c"]));
        let rows = round_trip(&[number, text, more]);
        let expected = [0, 7, 0, 0, 0, 15, 0, 0, 0, 16, 0, 0, 0, b'a', b'b', b'c'];
        assert_eq!(rows.row(0), expected);
    }
}
