//! From key columns to keys. One or two integers (and what lies in memory like them) become
//! words; everything else becomes bytes of the row codec. The choice depends on the column types
//! alone, so that senders, receivers and both sides of a join agree on it.

use arrow::{
    array::{Array, ArrayRef, AsArray as _, RecordBatch},
    buffer::{BooleanBuffer, MutableBuffer, NullBuffer},
    datatypes::DataType,
    error::ArrowError,
};

use super::hash::{hash_bytes, hash_u64, hash_u128, hash_u192};
use crate::codec::{ByteRows, RowCodec, canonical_floats, fixed_array, raw_values};

/// Keys of a batch, row by row.
#[derive(Clone, Debug)]
pub enum Keys {
    /// Values and NULL bits fit 64 bits.
    U64(Vec<u64>),
    /// Values and NULL bits fit 128 bits.
    U128(Vec<u128>),
    /// Two values of 64 bits, or one of 128, and NULL bits.
    U192(Vec<[u64; 3]>),
    /// Anything.
    Bytes(ByteRows),
}

/// Which of the [`Keys`] an encoder makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyWidth {
    /// [`Keys::U64`]
    U64,
    /// [`Keys::U128`]
    U128,
    /// [`Keys::U192`]
    U192,
    /// [`Keys::Bytes`]
    Bytes,
}

/// Keys and their hashes.
#[derive(Clone, Debug)]
pub struct KeyBatch {
    /// 64-bit hash per row; its top bits are the key group.
    pub hashes: Vec<u64>,
    /// Keys per row.
    pub keys: Keys,
}

impl KeyBatch {
    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// The rows at `indices`.
    #[must_use]
    pub fn take(&self, indices: &[u32]) -> KeyBatch {
        fn pick<T: Copy>(values: &[T], indices: &[u32]) -> Vec<T> {
            indices
                .iter()
                .map(|index| values[*index as usize])
                .collect()
        }
        let keys = match &self.keys {
            Keys::U64(keys) => Keys::U64(pick(keys, indices)),
            Keys::U128(keys) => Keys::U128(pick(keys, indices)),
            Keys::U192(keys) => Keys::U192(pick(keys, indices)),
            Keys::Bytes(keys) => Keys::Bytes(keys.take(indices)),
        };
        KeyBatch {
            hashes: pick(&self.hashes, indices),
            keys,
        }
    }
}

/// Makes keys of some columns of a batch.
#[derive(Debug)]
pub struct KeyEncoder {
    columns: Vec<usize>,
    types: Vec<DataType>,
    width: KeyWidth,
    codec: RowCodec,
}

impl KeyEncoder {
    /// For columns at these positions, of these types.
    ///
    /// # Errors
    /// For a type that has no row form.
    pub fn new(columns: Vec<usize>, types: Vec<DataType>) -> Result<Self, ArrowError> {
        let width = key_width(&types);
        let codec = RowCodec::new(&types)?;
        Ok(KeyEncoder {
            columns,
            types,
            width,
            codec,
        })
    }

    /// Which keys it makes.
    #[must_use]
    pub fn width(&self) -> KeyWidth {
        self.width
    }

    /// Positions of the key columns.
    #[must_use]
    pub fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// The keys of a batch.
    ///
    /// # Errors
    /// When a nested value cannot be converted.
    pub fn encode(&self, batch: &RecordBatch) -> Result<KeyBatch, ArrowError> {
        let arrays: Vec<ArrayRef> = self
            .columns
            .iter()
            .map(|column| batch.column(*column).clone())
            .collect();
        self.encode_arrays(&arrays, batch.num_rows())
    }

    /// The keys of columns that are at hand.
    ///
    /// # Errors
    /// When a nested value cannot be converted.
    pub fn encode_arrays(&self, arrays: &[ArrayRef], rows: usize) -> Result<KeyBatch, ArrowError> {
        Ok(match self.width {
            KeyWidth::U64 => {
                let mut keys = vec![0_u64; rows];
                let mut shift = 0;
                for array in arrays {
                    let bits = bit_width(array.data_type()).unwrap_or(64);
                    pack(array, &mut keys, |key, value| match value {
                        Some(value) => *key |= value << shift,
                        None => *key |= 1 << (shift + bits),
                    });
                    shift += bits + 1;
                }
                let hashes = keys.iter().map(|key| hash_u64(*key)).collect();
                KeyBatch {
                    hashes,
                    keys: Keys::U64(keys),
                }
            }
            KeyWidth::U128 => {
                let mut keys = vec![0_u128; rows];
                let mut shift = 0;
                for array in arrays {
                    let bits = bit_width(array.data_type()).unwrap_or(64);
                    pack(array, &mut keys, |key, value| match value {
                        Some(value) => *key |= u128::from(value) << shift,
                        None => *key |= 1 << (shift + bits),
                    });
                    shift += bits + 1;
                }
                let hashes = keys.iter().map(|key| hash_u128(*key)).collect();
                KeyBatch {
                    hashes,
                    keys: Keys::U128(keys),
                }
            }
            KeyWidth::U192 => {
                let mut keys = vec![[0_u64; 3]; rows];
                for (word, array) in arrays.iter().enumerate() {
                    if bit_width(array.data_type()) == Some(128) {
                        pack_wide(array, &mut keys);
                        continue;
                    }
                    pack(array, &mut keys, |key, value| match value {
                        Some(value) => key[word] = value,
                        None => key[2] |= 1 << word,
                    });
                }
                let hashes = keys.iter().map(|key| hash_u192(*key)).collect();
                KeyBatch {
                    hashes,
                    keys: Keys::U192(keys),
                }
            }
            KeyWidth::Bytes => {
                let keys = self.codec.encode(arrays, rows)?;
                let hashes = (0..rows).map(|row| hash_bytes(keys.row(row))).collect();
                KeyBatch {
                    hashes,
                    keys: Keys::Bytes(keys),
                }
            }
        })
    }

    /// The key columns of keys that this encoder made.
    ///
    /// # Errors
    /// When the keys are not of this encoder.
    pub fn decode(&self, keys: &Keys) -> Result<Vec<ArrayRef>, ArrowError> {
        match keys {
            Keys::U64(keys) => {
                let unpack = |row: usize, shift: usize| u128::from(keys[row] >> shift);
                self.unpack_columns(keys.len(), unpack)
            }
            Keys::U128(keys) => self.unpack_columns(keys.len(), |row, shift| keys[row] >> shift),
            Keys::U192(keys) => self.decode_wide(keys),
            Keys::Bytes(rows) => {
                let slices: Vec<&[u8]> = (0..rows.len()).map(|row| rows.row(row)).collect();
                self.codec.decode(&slices)
            }
        }
    }

    fn unpack_columns(
        &self,
        rows: usize,
        shifted: impl Fn(usize, usize) -> u128,
    ) -> Result<Vec<ArrayRef>, ArrowError> {
        let mut shift = 0;
        let mut columns = Vec::with_capacity(self.types.len());
        for data_type in &self.types {
            let bits = bit_width(data_type).unwrap_or(64);
            let value = |row| (shifted(row, shift) & ((1 << bits) - 1)) as u64;
            let is_null = |row| shifted(row, shift + bits) & 1 == 1;
            columns.push(unpacked(data_type, rows, value, is_null)?);
            shift += bits + 1;
        }
        Ok(columns)
    }

    fn decode_wide(&self, keys: &[[u64; 3]]) -> Result<Vec<ArrayRef>, ArrowError> {
        let mut columns = Vec::with_capacity(self.types.len());
        for (word, data_type) in self.types.iter().enumerate() {
            let is_null = |row: usize| keys[row][2] >> word & 1 == 1;
            if bit_width(data_type) == Some(128) {
                let mut bytes = MutableBuffer::with_capacity(keys.len() * 16);
                for key in keys {
                    bytes.extend_from_slice(&key[0].to_le_bytes());
                    bytes.extend_from_slice(&key[1].to_le_bytes());
                }
                let nulls = null_buffer(keys.len(), is_null);
                columns.push(fixed_array(data_type, bytes.into(), keys.len(), nulls)?);
            } else {
                columns.push(unpacked(
                    data_type,
                    keys.len(),
                    |row| keys[row][word],
                    is_null,
                )?);
            }
        }
        Ok(columns)
    }
}

/// Bits of a value in memory; `None` for what is not of fixed width.
fn bit_width(data_type: &DataType) -> Option<usize> {
    match data_type {
        DataType::Boolean => Some(8),
        fixed => fixed
            .primitive_width()
            .filter(|width| *width <= 16)
            .map(|width| width * 8),
    }
}

fn key_width(types: &[DataType]) -> KeyWidth {
    let Some(bits) = types.iter().map(bit_width).collect::<Option<Vec<_>>>() else {
        return KeyWidth::Bytes;
    };
    let total: usize = bits.iter().map(|bits| bits + 1).sum();
    match bits.as_slice() {
        _ if total <= 64 => KeyWidth::U64,
        _ if total <= 128 => KeyWidth::U128,
        [128] => KeyWidth::U192,
        [first, second] if *first <= 64 && *second <= 64 => KeyWidth::U192,
        _ => KeyWidth::Bytes,
    }
}

/// Calls `put` with every row's value, `None` for NULL.
fn pack<K>(array: &ArrayRef, keys: &mut [K], put: impl Fn(&mut K, Option<u64>)) {
    if let Some(array) = array.as_boolean_opt() {
        let value = |row: usize| array.is_valid(row).then(|| u64::from(array.value(row)));
        keys.iter_mut()
            .enumerate()
            .for_each(|(row, key)| put(key, value(row)));
        return;
    }
    let array = canonical_floats(array);
    match array.data_type().primitive_width() {
        Some(1) => pack_raw(
            &array,
            raw_values::<u8>(&array).iter().map(|v| u64::from(*v)),
            keys,
            put,
        ),
        Some(2) => pack_raw(
            &array,
            raw_values::<u16>(&array).iter().map(|v| u64::from(*v)),
            keys,
            put,
        ),
        Some(4) => pack_raw(
            &array,
            raw_values::<u32>(&array).iter().map(|v| u64::from(*v)),
            keys,
            put,
        ),
        _ => pack_raw(&array, raw_values::<u64>(&array).iter().copied(), keys, put),
    }
}

fn pack_raw<K>(
    array: &ArrayRef,
    values: impl Iterator<Item = u64>,
    keys: &mut [K],
    put: impl Fn(&mut K, Option<u64>),
) {
    match array.nulls() {
        None => keys
            .iter_mut()
            .zip(values)
            .for_each(|(key, value)| put(key, Some(value))),
        Some(nulls) => {
            for ((key, value), valid) in keys.iter_mut().zip(values).zip(nulls) {
                put(key, valid.then_some(value));
            }
        }
    }
}

fn pack_wide(array: &ArrayRef, keys: &mut [[u64; 3]]) {
    let values = raw_values::<i128>(array);
    for (row, key) in keys.iter_mut().enumerate() {
        if array.is_null(row) {
            key[2] = 1;
        } else {
            key[0] = values[row] as u64;
            key[1] = (values[row] >> 64) as u64;
        }
    }
}

fn unpacked(
    data_type: &DataType,
    rows: usize,
    value: impl Fn(usize) -> u64,
    is_null: impl Fn(usize) -> bool,
) -> Result<ArrayRef, ArrowError> {
    let nulls = null_buffer(rows, is_null);
    if *data_type == DataType::Boolean {
        let values = BooleanBuffer::collect_bool(rows, |row| value(row) != 0);
        return Ok(std::sync::Arc::new(arrow::array::BooleanArray::new(
            values, nulls,
        )));
    }
    let width = data_type.primitive_width().unwrap_or(8);
    let mut bytes = MutableBuffer::with_capacity(rows * width);
    (0..rows).for_each(|row| bytes.extend_from_slice(&value(row).to_le_bytes()[..width]));
    fixed_array(data_type, bytes.into(), rows, nulls)
}

fn null_buffer(rows: usize, is_null: impl Fn(usize) -> bool) -> Option<NullBuffer> {
    let nulls = NullBuffer::new(BooleanBuffer::collect_bool(rows, |row| !is_null(row)));
    (nulls.null_count() > 0).then_some(nulls)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        BooleanArray, Date32Array, Decimal128Array, Int16Array, Int32Array, Int64Array, StringArray,
    };

    use super::*;

    fn check(arrays: Vec<ArrayRef>, width: KeyWidth) {
        let types: Vec<DataType> = arrays.iter().map(|a| a.data_type().clone()).collect();
        let encoder = KeyEncoder::new((0..types.len()).collect(), types).expect("encoder");
        assert_eq!(encoder.width(), width);
        let rows = arrays[0].len();
        let keys = encoder.encode_arrays(&arrays, rows).expect("encode");
        assert_eq!(encoder.decode(&keys.keys).expect("decode"), arrays);
        let distinct: std::collections::BTreeSet<u64> = keys.hashes.iter().copied().collect();
        assert_eq!(
            distinct.len(),
            rows,
            "test rows differ, so must their hashes"
        );
        let reversed: Vec<u32> = (0..rows as u32).rev().collect();
        let taken = keys.take(&reversed);
        assert_eq!(taken.hashes[0], keys.hashes[rows - 1]);
    }

    #[test]
    fn keys_round_trip_in_every_width() {
        let bigint: ArrayRef = Arc::new(Int64Array::from(vec![Some(-1), Some(0), None]));
        let int: ArrayRef = Arc::new(Int32Array::from(vec![None, Some(-7), Some(7)]));
        let small: ArrayRef = Arc::new(Int16Array::from(vec![Some(-1), Some(1), None]));
        let flag: ArrayRef = Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]));
        let date: ArrayRef = Arc::new(Date32Array::from(vec![Some(1), None, Some(-1)]));
        let text: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("")]));
        let decimal: ArrayRef = Arc::new(
            Decimal128Array::from(vec![Some(-5), None, Some(i128::from(i64::MAX) * 9)])
                .with_precision_and_scale(38, 3)
                .expect("fits"),
        );
        check(vec![int.clone()], KeyWidth::U64);
        check(vec![int.clone(), small, flag], KeyWidth::U64);
        check(vec![bigint.clone()], KeyWidth::U128);
        check(vec![bigint.clone(), date], KeyWidth::U128);
        check(vec![bigint.clone(), bigint.clone()], KeyWidth::U192);
        check(vec![decimal.clone()], KeyWidth::U192);
        check(vec![decimal, int.clone()], KeyWidth::Bytes);
        check(vec![bigint.clone(), bigint, int], KeyWidth::Bytes);
        check(vec![text], KeyWidth::Bytes);
    }

    #[test]
    fn no_columns_make_one_key() {
        let encoder = KeyEncoder::new(vec![], vec![]).expect("encoder");
        let keys = encoder.encode_arrays(&[], 2).expect("encode");
        assert_eq!(keys.hashes[0], keys.hashes[1]);
    }
}
