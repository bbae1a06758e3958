//! Lengths and byte strings in the bytes of accumulators, and columns as byte strings.

use arrow::{
    array::{Array, ArrayRef, AsArray as _, BinaryArray, StringArray},
    datatypes::DataType,
    error::ArrowError,
};
use engine::codec::{ByteRows, RowCodec};

use super::short;
use crate::aggregate::native::Native as _;

/// Appends a length and the bytes.
pub(super) fn write_bytes(value: &[u8], out: &mut Vec<u8>) {
    (value.len() as i32).write(out);
    out.extend_from_slice(value);
}

/// Reads what [`write_bytes`] wrote off the front.
pub(super) fn read_bytes<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], String> {
    let length = i32::read(bytes).ok_or_else(short)?;
    let (value, rest) = usize::try_from(length)
        .ok()
        .and_then(|length| bytes.split_at_checked(length))
        .ok_or_else(short)?;
    *bytes = rest;
    Ok(value)
}

/// Rows of a column as byte strings.
pub(super) enum ByteColumn<'a> {
    Text(&'a StringArray),
    Binary(&'a BinaryArray),
    Encoded(ByteRows),
}

impl<'a> ByteColumn<'a> {
    /// Strings and bytes as they are (and in their order), anything else as the codec's rows.
    pub(super) fn new(column: &'a ArrayRef, codec: &RowCodec) -> Result<Self, ArrowError> {
        Ok(match column.data_type() {
            DataType::Utf8 => ByteColumn::Text(column.as_string()),
            DataType::Binary => ByteColumn::Binary(column.as_binary()),
            _ => ByteColumn::Encoded(codec.encode(std::slice::from_ref(column), column.len())?),
        })
    }

    #[inline]
    pub(super) fn value(&self, row: usize) -> &[u8] {
        match self {
            ByteColumn::Text(column) => column.value(row).as_bytes(),
            ByteColumn::Binary(column) => column.value(row),
            ByteColumn::Encoded(rows) => rows.row(row),
        }
    }
}
