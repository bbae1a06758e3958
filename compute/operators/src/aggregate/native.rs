//! What accumulators need of the values of primitive arrays: bytes to save, and one ordered form.

use arrow::{
    array::{Array, ArrayRef, ArrowPrimitiveType, AsArray as _, PrimitiveArray},
    buffer::NullBuffer,
    datatypes::DataType,
};

/// A fixed-width value.
pub(crate) trait Native: Copy + Default + Send + 'static {
    /// Its value as an integer in the same order; NaNs are the greatest.
    fn ordered(self) -> i128;
    /// The inverse of [`Native::ordered`].
    fn from_ordered(ordered: i128) -> Self;
    /// Appends its bytes.
    fn write(self, out: &mut Vec<u8>);
    /// Reads its bytes off the front.
    fn read(bytes: &mut &[u8]) -> Option<Self>;
}

macro_rules! native_integer {
    ($($native:ty),*) => {$(
        impl Native for $native {
            #[inline]
            fn ordered(self) -> i128 {
                i128::from(self)
            }
            #[inline]
            fn from_ordered(ordered: i128) -> Self {
                ordered as $native
            }
            fn write(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn read(bytes: &mut &[u8]) -> Option<Self> {
                let (value, rest) = bytes.split_first_chunk()?;
                *bytes = rest;
                Some(<$native>::from_le_bytes(*value))
            }
        }
    )*};
}
native_integer!(i8, i16, i32, i64, i128);

macro_rules! native_float {
    ($native:ty, $bits:ty) => {
        impl Native for $native {
            #[inline]
            fn ordered(self) -> i128 {
                let canonical = if self.is_nan() { <$native>::NAN } else { self };
                // Positive floats are in the order of their bits, negative ones in the reverse.
                let bits = canonical.to_bits() as $bits;
                i128::from(if bits < 0 { bits ^ <$bits>::MAX } else { bits })
            }
            #[inline]
            fn from_ordered(ordered: i128) -> Self {
                let bits = ordered as $bits;
                <$native>::from_bits(if bits < 0 { bits ^ <$bits>::MAX } else { bits } as _)
            }
            fn write(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn read(bytes: &mut &[u8]) -> Option<Self> {
                let (value, rest) = bytes.split_first_chunk()?;
                *bytes = rest;
                Some(<$native>::from_le_bytes(*value))
            }
        }
    };
}
native_float!(f32, i32);
native_float!(f64, i64);

/// Runs an expression with a type name bound to the arrow type that a [`DataType`] is made of.
macro_rules! with_primitive {
    ($data_type:expr, $T:ident => $body:expr, else $otherwise:expr) => {{
        use arrow::datatypes as types;
        use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
        macro_rules! bound {
            ($Arrow:ident) => {{
                type $T = types::$Arrow;
                $body
            }};
        }
        match $data_type {
            DataType::Int8 => bound!(Int8Type),
            DataType::Int16 => bound!(Int16Type),
            DataType::Int32 => bound!(Int32Type),
            DataType::Int64 => bound!(Int64Type),
            DataType::Float32 => bound!(Float32Type),
            DataType::Float64 => bound!(Float64Type),
            DataType::Decimal128(..) => bound!(Decimal128Type),
            DataType::Date32 => bound!(Date32Type),
            DataType::Time32(TimeUnit::Millisecond) => bound!(Time32MillisecondType),
            DataType::Timestamp(TimeUnit::Millisecond, _) => bound!(TimestampMillisecondType),
            DataType::Timestamp(TimeUnit::Microsecond, _) => bound!(TimestampMicrosecondType),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => bound!(TimestampNanosecondType),
            DataType::Interval(IntervalUnit::YearMonth) => bound!(IntervalYearMonthType),
            DataType::Duration(TimeUnit::Millisecond) => bound!(DurationMillisecondType),
            _ => $otherwise,
        }
    }};
}
pub(crate) use with_primitive;

/// The column as the primitive array that an accumulator was made for.
pub(crate) fn primitive<T: ArrowPrimitiveType>(
    column: &ArrayRef,
) -> Result<&PrimitiveArray<T>, engine::operator::OperatorError> {
    column.as_primitive_opt::<T>().ok_or_else(|| {
        engine::operator::OperatorError::Plan(format!(
            "an aggregate planned for {} got {}",
            T::DATA_TYPE,
            column.data_type()
        ))
    })
}

/// An array of values of `data_type`, NULL where `valid` is not.
pub(crate) fn array_of<T: ArrowPrimitiveType>(
    data_type: &DataType,
    values: Vec<T::Native>,
    valid: impl Iterator<Item = bool>,
) -> ArrayRef {
    let nulls: NullBuffer = valid.collect::<Vec<bool>>().into();
    let nulls = (nulls.null_count() > 0).then_some(nulls);
    let array = PrimitiveArray::<T>::new(values.into(), nulls);
    std::sync::Arc::new(array.with_data_type(data_type.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_keep_their_order() {
        let values = [
            f64::NEG_INFINITY,
            -1.5,
            -1e-9,
            0.0,
            1e-9,
            2.0,
            f64::INFINITY,
            f64::NAN,
        ];
        assert!(
            values
                .windows(2)
                .all(|pair| pair[0].ordered() < pair[1].ordered())
        );
        for value in values {
            assert_eq!(
                f64::from_ordered(value.ordered()).to_bits(),
                value.to_bits()
            );
            let single = value as f32;
            assert_eq!(
                f32::from_ordered(single.ordered()).to_bits(),
                single.to_bits()
            );
        }
        assert_eq!((-f64::NAN).ordered(), f64::NAN.ordered());
    }
}
