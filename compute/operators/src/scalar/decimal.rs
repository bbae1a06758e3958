//! DECIMAL arithmetic on 128-bit unscaled values. Results are rounded half up to the result's
//! scale; one that has too many digits is NULL.

use arrow::{
    array::ArrayRef,
    datatypes::{DataType as ArrowType, Decimal128Type, i256},
};
use engine::schema::arrow_type;
use proto::{plan::ScalarFunction, types::LogicalType};

use super::{
    Kernel, Signature,
    kernel::{binary, by_row},
};
use crate::expr::{
    EvalError, ExprError,
    value::{Args, Numbers},
};

/// 10^0 to 10^38.
pub(crate) const POWERS_OF_TEN: [i128; 39] = {
    let mut powers = [1i128; 39];
    let mut i = 1;
    while i < 39 {
        powers[i] = powers[i - 1] * 10;
        i += 1;
    }
    powers
};

/// Whether the value has at most `precision` digits.
#[inline]
pub(crate) fn fits(value: i128, precision: u8) -> bool {
    let limit = POWERS_OF_TEN[usize::from(precision.min(38))];
    -limit < value && value < limit
}

/// `value / divisor`, half up (away from zero).
#[inline]
pub(crate) fn divide_half_up(value: i128, divisor: i128) -> i128 {
    let (quotient, remainder) = (value / divisor, value % divisor);
    // Twice the remainder could overflow; half the divisor cannot.
    let rest = remainder.unsigned_abs();
    if rest >= divisor.unsigned_abs() - rest {
        quotient + if (value < 0) == (divisor < 0) { 1 } else { -1 }
    } else {
        quotient
    }
}

/// The unscaled value at another scale; `None` beyond 128 bits.
#[inline]
pub(crate) fn rescale(value: i128, from: u8, to: u8) -> Option<i128> {
    if to >= from {
        value.checked_mul(*POWERS_OF_TEN.get(usize::from(to - from))?)
    } else {
        match POWERS_OF_TEN.get(usize::from(from - to)) {
            Some(divisor) => Some(divide_half_up(value, *divisor)),
            None => Some(0),
        }
    }
}

fn wide_power(exponent: u8) -> i256 {
    let (low, high) = (exponent.min(38), exponent.saturating_sub(38));
    i256::from_i128(POWERS_OF_TEN[usize::from(low)])
        .wrapping_mul(i256::from_i128(POWERS_OF_TEN[usize::from(high.min(38))]))
}

fn wide_divide_half_up(value: i256, divisor: i256) -> i256 {
    let quotient = value.wrapping_div(divisor);
    let rest = value.wrapping_rem(divisor).wrapping_abs();
    if rest >= divisor.wrapping_abs().wrapping_sub(rest) {
        let one = if value.is_negative() == divisor.is_negative() {
            i256::ONE
        } else {
            i256::MINUS_ONE
        };
        quotient.wrapping_add(one)
    } else {
        quotient
    }
}

/// Precision and scale.
#[derive(Clone, Copy)]
struct Shape {
    precision: u8,
    scale: u8,
}

fn shape(logical: &LogicalType) -> Option<Shape> {
    match logical {
        LogicalType::Decimal { precision, scale } => Some(Shape {
            precision: *precision,
            scale: *scale,
        }),
        _ => None,
    }
}

/// Makes the kernel of a binary operator over DECIMALs.
pub(super) fn build(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    let [left, right] = signature.args else {
        return Err(signature.unsupported());
    };
    let shapes = (
        shape(&left.logical),
        shape(&right.logical),
        shape(&signature.result.logical),
    );
    let (Some(left), Some(right), Some(result)) = shapes else {
        return Err(signature.unsupported());
    };
    let data_type = arrow_type(&signature.result.logical);
    Ok(match signature.function {
        ScalarFunction::Add => add(left, right, result, data_type, false),
        ScalarFunction::Subtract => add(left, right, result, data_type, true),
        ScalarFunction::Multiply => multiply(left, right, result, data_type),
        ScalarFunction::Divide => divide(left, right, result, data_type),
        ScalarFunction::Modulo => modulo(left, right, result, data_type),
        _ => return Err(signature.unsupported()),
    })
}

type Decimals<'a> = Numbers<'a, Decimal128Type>;

fn by_pair(
    args: &Args<'_>,
    data_type: &ArrowType,
    f: impl Fn(i128, i128) -> Result<Option<i128>, EvalError>,
) -> Result<ArrayRef, EvalError> {
    let (a, b): (Decimals<'_>, Decimals<'_>) = (args.numbers(0), args.numbers(1));
    by_row::<Decimal128Type>(args, data_type, |row| f(a.at(row), b.at(row)))
}

fn add(left: Shape, right: Shape, result: Shape, data_type: ArrowType, negate: bool) -> Kernel {
    let scale = left.scale.max(right.scale);
    let digits = |shape: Shape| shape.precision - shape.scale;
    let whole = digits(left).max(digits(right)) + 1;
    let left_factor = POWERS_OF_TEN[usize::from(scale - left.scale)];
    let right_factor = POWERS_OF_TEN[usize::from(scale - right.scale)];
    let right_factor = if negate { -right_factor } else { right_factor };
    if result.scale == scale && whole + scale <= result.precision {
        // The sum always fits.
        return Box::new(move |args| {
            Ok(binary::<Decimal128Type, Decimal128Type, Decimal128Type>(
                args,
                &data_type,
                |a, b| {
                    a.wrapping_mul(left_factor)
                        .wrapping_add(b.wrapping_mul(right_factor))
                },
            ))
        });
    }
    Box::new(move |args| {
        by_pair(args, &data_type, |a, b| {
            let sum = a
                .checked_mul(left_factor)
                .zip(b.checked_mul(right_factor))
                .and_then(|(a, b)| a.checked_add(b));
            Ok(sum
                .and_then(|sum| rescale(sum, scale, result.scale))
                .filter(|sum| fits(*sum, result.precision)))
        })
    })
}

fn multiply(left: Shape, right: Shape, result: Shape, data_type: ArrowType) -> Kernel {
    let scale = left.scale + right.scale;
    if result.scale == scale && left.precision + right.precision <= result.precision {
        return Box::new(move |args| {
            Ok(binary::<Decimal128Type, Decimal128Type, Decimal128Type>(
                args,
                &data_type,
                i128::wrapping_mul,
            ))
        });
    }
    Box::new(move |args| {
        by_pair(args, &data_type, |a, b| {
            let product = match a.checked_mul(b) {
                Some(product) => rescale(product, scale, result.scale),
                None => wide_rescale(
                    i256::from_i128(a).wrapping_mul(i256::from_i128(b)),
                    scale,
                    result.scale,
                ),
            };
            Ok(product.filter(|product| fits(*product, result.precision)))
        })
    })
}

fn wide_rescale(value: i256, from: u8, to: u8) -> Option<i128> {
    let value = if to >= from {
        value.checked_mul(wide_power(to - from))?
    } else {
        wide_divide_half_up(value, wide_power(from - to))
    };
    value.to_i128()
}

fn divide(left: Shape, right: Shape, result: Shape, data_type: ArrowType) -> Kernel {
    // a / 10^sa / (b / 10^sb), at the result's scale: a * 10^(s - sa + sb) / b.
    let shift = i32::from(result.scale) - i32::from(left.scale) + i32::from(right.scale);
    let (up, down) = (shift.max(0) as u8, (-shift).max(0) as u8);
    Box::new(move |args| {
        by_pair(args, &data_type, |a, b| {
            if b == 0 {
                return Err(EvalError::DivisionByZero { operator: "/" });
            }
            let narrow = POWERS_OF_TEN
                .get(usize::from(up))
                .and_then(|factor| a.checked_mul(*factor))
                .zip(
                    POWERS_OF_TEN
                        .get(usize::from(down))
                        .and_then(|factor| b.checked_mul(*factor)),
                );
            let quotient = match narrow {
                Some((a, b)) => Some(divide_half_up(a, b)),
                None => i256::from_i128(a)
                    .checked_mul(wide_power(up))
                    .zip(i256::from_i128(b).checked_mul(wide_power(down)))
                    .and_then(|(a, b)| wide_divide_half_up(a, b).to_i128()),
            };
            Ok(quotient.filter(|quotient| fits(*quotient, result.precision)))
        })
    })
}

fn modulo(left: Shape, right: Shape, result: Shape, data_type: ArrowType) -> Kernel {
    let scale = left.scale.max(right.scale);
    Box::new(move |args| {
        by_pair(args, &data_type, |a, b| {
            if b == 0 {
                return Err(EvalError::DivisionByZero { operator: "%" });
            }
            let a = i256::from_i128(a).wrapping_mul(wide_power(scale - left.scale));
            let b = i256::from_i128(b).wrapping_mul(wide_power(scale - right.scale));
            Ok(wide_rescale(a.wrapping_rem(b), scale, result.scale)
                .filter(|rest| fits(*rest, result.precision)))
        })
    })
}
