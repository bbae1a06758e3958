//! The values of arrays of a fixed width as they lie in memory.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayData, ArrayRef, AsArray as _, make_array},
    buffer::{Buffer, NullBuffer, ScalarBuffer},
    datatypes::{ArrowNativeType, DataType, Float32Type, Float64Type},
    error::ArrowError,
};

/// The values of a primitive array as integers of its width.
pub(crate) fn raw_values<T: ArrowNativeType>(array: &ArrayRef) -> ScalarBuffer<T> {
    let data = array.to_data();
    let buffer = data.buffers()[0].clone();
    ScalarBuffer::new(buffer, data.offset(), data.len())
}

/// NaNs of one pattern, so that they are one value. The two zeros are two, as Flink has them in
/// keys: a row that is decoded must be the row that went out, or the changes of it do not cancel out.
#[must_use]
pub fn canonical_floats(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Float32 => {
            let canonical = |x: f32| if x.is_nan() { f32::NAN } else { x };
            Arc::new(
                array
                    .as_primitive::<Float32Type>()
                    .unary::<_, Float32Type>(canonical),
            )
        }
        DataType::Float64 => {
            let canonical = |x: f64| if x.is_nan() { f64::NAN } else { x };
            Arc::new(
                array
                    .as_primitive::<Float64Type>()
                    .unary::<_, Float64Type>(canonical),
            )
        }
        _ => Arc::clone(array),
    }
}

/// An array of a fixed-width type from its values' bytes, which lie as wider integers must.
pub(crate) fn fixed_array(
    data_type: &DataType,
    values: Buffer,
    len: usize,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, ArrowError> {
    let data = ArrayData::builder(data_type.clone())
        .len(len)
        .add_buffer(values)
        .nulls(nulls)
        .build()?;
    Ok(make_array(data))
}
