//! `+ - * / %`, negation, ABS, SIGN and bit operations on numbers. Integers wrap around; integer
//! division by zero fails. DECIMAL operators are `decimal`'s.

use arrow::{
    array::ArrowPrimitiveType,
    datatypes::{
        ArrowNativeTypeOp, DataType as ArrowType, Decimal128Type, DurationMillisecondType,
        Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, IntervalYearMonthType,
    },
};
use engine::schema::arrow_type;
use proto::{plan::ScalarFunction, types::LogicalType};

use super::{
    Kernel, POWERS_OF_TEN, Signature, decimal,
    kernel::{binary, by_row, unary},
};
use crate::expr::{EvalError, ExprError};

/// Makes the kernel of an arithmetic function.
pub(super) fn build(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    use ScalarFunction as F;
    match signature.function {
        F::Add | F::Subtract | F::Multiply | F::Divide | F::Modulo => {
            match signature.result.logical {
                LogicalType::Decimal { .. } => decimal::build(signature),
                _ => binary_operator(signature),
            }
        }
        F::Negate | F::Abs | F::Sign => unary_operator(signature),
        _ => bit_operator(signature),
    }
}

fn binary_operator(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    let result = arrow_type(&signature.result.logical);
    let same = |arg: &proto::types::DataType| arrow_type(&arg.logical) == result;
    if signature.args.len() != 2 || !signature.args.iter().all(same) {
        return Err(signature.unsupported());
    }
    let kernel = match result {
        ArrowType::Int8 => integer::<Int8Type>(signature.function),
        ArrowType::Int16 => integer::<Int16Type>(signature.function),
        ArrowType::Int32 => integer::<Int32Type>(signature.function),
        ArrowType::Int64 => integer::<Int64Type>(signature.function),
        ArrowType::Float32 => float::<Float32Type>(signature.function),
        ArrowType::Float64 => float::<Float64Type>(signature.function),
        // Intervals add up like numbers.
        ArrowType::Duration(_) => integer::<DurationMillisecondType>(signature.function),
        ArrowType::Interval(_) => integer::<IntervalYearMonthType>(signature.function),
        _ => None,
    };
    kernel.ok_or_else(|| signature.unsupported())
}

fn integer<T>(function: ScalarFunction) -> Option<Kernel>
where
    T: ArrowPrimitiveType,
    T::Native: ArrowNativeTypeOp,
{
    let plain = |f: fn(T::Native, T::Native) -> T::Native| -> Kernel {
        Box::new(move |args| Ok(binary::<T, T, T>(args, &T::DATA_TYPE, f)))
    };
    Some(match function {
        ScalarFunction::Add => plain(T::Native::add_wrapping),
        ScalarFunction::Subtract => plain(T::Native::sub_wrapping),
        ScalarFunction::Multiply => plain(T::Native::mul_wrapping),
        ScalarFunction::Divide => dividing::<T>("/", T::Native::div_wrapping),
        ScalarFunction::Modulo => dividing::<T>("%", T::Native::mod_wrapping),
        _ => return None,
    })
}

fn dividing<T>(operator: &'static str, f: fn(T::Native, T::Native) -> T::Native) -> Kernel
where
    T: ArrowPrimitiveType,
    T::Native: ArrowNativeTypeOp,
{
    Box::new(move |args| {
        let (a, b) = (args.numbers::<T>(0), args.numbers::<T>(1));
        match b.constant() {
            Some(divisor) if !divisor.is_zero() => {
                return Ok(binary::<T, T, T>(args, &T::DATA_TYPE, f));
            }
            _ => {}
        }
        by_row::<T>(args, &T::DATA_TYPE, |row| {
            let divisor = b.at(row);
            if divisor.is_zero() {
                return Err(EvalError::DivisionByZero { operator });
            }
            Ok(Some(f(a.at(row), divisor)))
        })
    })
}

fn float<T>(function: ScalarFunction) -> Option<Kernel>
where
    T: ArrowPrimitiveType,
    T::Native:
        ArrowNativeTypeOp + std::ops::Div<Output = T::Native> + std::ops::Rem<Output = T::Native>,
{
    let f: fn(T::Native, T::Native) -> T::Native = match function {
        ScalarFunction::Add => T::Native::add_wrapping,
        ScalarFunction::Subtract => T::Native::sub_wrapping,
        ScalarFunction::Multiply => T::Native::mul_wrapping,
        ScalarFunction::Divide => |a, b| a / b,
        ScalarFunction::Modulo => |a, b| a % b,
        _ => return None,
    };
    Some(Box::new(move |args| {
        Ok(binary::<T, T, T>(args, &T::DATA_TYPE, f))
    }))
}

fn unary_operator(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    let [operand] = signature.args else {
        return Err(signature.unsupported());
    };
    let data_type = arrow_type(&operand.logical);
    if arrow_type(&signature.result.logical) != data_type {
        return Err(signature.unsupported());
    }
    let function = signature.function;
    Ok(match data_type {
        ArrowType::Int8 => signed::<Int8Type>(function, data_type, 1),
        ArrowType::Int16 => signed::<Int16Type>(function, data_type, 1),
        ArrowType::Int32 => signed::<Int32Type>(function, data_type, 1),
        ArrowType::Int64 => signed::<Int64Type>(function, data_type, 1),
        ArrowType::Duration(_) => signed::<DurationMillisecondType>(function, data_type, 1),
        ArrowType::Interval(_) => signed::<IntervalYearMonthType>(function, data_type, 1),
        ArrowType::Decimal128(_, scale) => {
            let one = POWERS_OF_TEN[scale.clamp(0, 38) as usize];
            signed::<Decimal128Type>(function, data_type, one)
        }
        ArrowType::Float32 => signed_float::<Float32Type>(function, |x| {
            let sign = f32::from(i8::from(x > 0.0) - i8::from(x < 0.0));
            (-x, x.abs(), if x.is_nan() { x } else { sign })
        }),
        ArrowType::Float64 => signed_float::<Float64Type>(function, |x| {
            let sign = f64::from(i8::from(x > 0.0) - i8::from(x < 0.0));
            (-x, x.abs(), if x.is_nan() { x } else { sign })
        }),
        _ => return Err(signature.unsupported()),
    })
}

fn signed<T>(function: ScalarFunction, data_type: ArrowType, one: T::Native) -> Kernel
where
    T: ArrowPrimitiveType,
    T::Native: ArrowNativeTypeOp,
{
    let zero = T::Native::ZERO;
    match function {
        ScalarFunction::Negate => {
            Box::new(move |args| Ok(unary::<T, T>(args, &data_type, T::Native::neg_wrapping)))
        }
        ScalarFunction::Abs => Box::new(move |args| {
            Ok(unary::<T, T>(args, &data_type, |x| {
                if x.is_lt(zero) { x.neg_wrapping() } else { x }
            }))
        }),
        _ => Box::new(move |args| {
            Ok(unary::<T, T>(args, &data_type, |x| {
                if x.is_zero() {
                    zero
                } else if x.is_lt(zero) {
                    one.neg_wrapping()
                } else {
                    one
                }
            }))
        }),
    }
}

/// Gives negation, absolute value and sign.
type Signs<N> = fn(N) -> (N, N, N);

fn signed_float<T>(function: ScalarFunction, f: Signs<T::Native>) -> Kernel
where
    T: ArrowPrimitiveType,
{
    Box::new(move |args| {
        Ok(unary::<T, T>(args, &T::DATA_TYPE, |x| match function {
            ScalarFunction::Negate => f(x).0,
            ScalarFunction::Abs => f(x).1,
            _ => f(x).2,
        }))
    })
}

fn bit_operator(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    let result = arrow_type(&signature.result.logical);
    let same = |arg: &proto::types::DataType| arrow_type(&arg.logical) == result;
    if !signature.args.iter().all(same) {
        return Err(signature.unsupported());
    }
    let kernel = match result {
        ArrowType::Int8 => bits::<Int8Type>(signature),
        ArrowType::Int16 => bits::<Int16Type>(signature),
        ArrowType::Int32 => bits::<Int32Type>(signature),
        ArrowType::Int64 => bits::<Int64Type>(signature),
        _ => None,
    };
    kernel.ok_or_else(|| signature.unsupported())
}

fn bits<T>(signature: &Signature<'_>) -> Option<Kernel>
where
    T: ArrowPrimitiveType,
    T::Native: std::ops::BitAnd<Output = T::Native>
        + std::ops::BitOr<Output = T::Native>
        + std::ops::BitXor<Output = T::Native>
        + std::ops::Not<Output = T::Native>,
{
    if (signature.function, signature.args.len()) == (ScalarFunction::BitNot, 1) {
        return Some(Box::new(|args| {
            Ok(unary::<T, T>(args, &T::DATA_TYPE, |x| !x))
        }));
    }
    let f: fn(T::Native, T::Native) -> T::Native = match (signature.function, signature.args.len())
    {
        (ScalarFunction::BitAnd, 2) => |a, b| a & b,
        (ScalarFunction::BitOr, 2) => |a, b| a | b,
        (ScalarFunction::BitXor, 2) => |a, b| a ^ b,
        _ => return None,
    };
    Some(Box::new(move |args| {
        Ok(binary::<T, T, T>(args, &T::DATA_TYPE, f))
    }))
}
