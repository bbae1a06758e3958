//! Functions of real numbers, and rounding of DOUBLE and DECIMAL.

use std::sync::atomic::{AtomicU64, Ordering};

use arrow::{
    array::{ArrayRef, ArrowPrimitiveType},
    datatypes::{
        DataType as ArrowType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type,
        Int32Type, Int64Type,
    },
};
use engine::schema::arrow_type;
use proto::{plan::ScalarFunction, types::LogicalType};

use super::{
    Kernel, POWERS_OF_TEN, Signature, fits,
    kernel::{binary, by_row, unary},
    random::entropy,
};
use crate::expr::{
    ExprError,
    cast::parse_unscaled,
    format::{write_double, write_float},
    value::Args,
};

/// Makes the kernel of a mathematical function.
pub(super) fn build(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    use ScalarFunction as F;
    match signature.function {
        F::Floor | F::Ceil => floor_or_ceil(signature),
        F::Round | F::Truncate => round(signature),
        F::Pi | F::E => {
            let value = match signature.function {
                F::Pi => std::f64::consts::PI,
                _ => std::f64::consts::E,
            };
            Ok(Box::new(move |args| {
                by_row::<Float64Type>(args, &ArrowType::Float64, |_| Ok(Some(value)))
            }))
        }
        F::Rand | F::RandInteger => random_numbers(signature),
        _ => real(signature),
    }
}

fn real(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    use ScalarFunction as F;
    let one: Option<fn(f64) -> f64> = match signature.function {
        F::Sqrt => Some(f64::sqrt),
        F::Cbrt => Some(f64::cbrt),
        F::Ln | F::Log => Some(f64::ln),
        F::Log10 => Some(f64::log10),
        F::Log2 => Some(f64::log2),
        F::Exp => Some(f64::exp),
        F::Sin => Some(f64::sin),
        F::Cos => Some(f64::cos),
        F::Tan => Some(f64::tan),
        F::Cot => Some(|x| 1.0 / x.tan()),
        F::Asin => Some(f64::asin),
        F::Acos => Some(f64::acos),
        F::Atan => Some(f64::atan),
        F::Sinh => Some(f64::sinh),
        F::Cosh => Some(f64::cosh),
        F::Tanh => Some(f64::tanh),
        F::Degrees => Some(f64::to_degrees),
        F::Radians => Some(f64::to_radians),
        _ => None,
    };
    let two: Option<fn(f64, f64) -> f64> = match signature.function {
        F::Power => Some(f64::powf),
        F::Atan2 => Some(f64::atan2),
        F::Log => Some(|base, x| x.ln() / base.ln()),
        _ => None,
    };
    match (signature.args.len(), one, two) {
        (1, Some(f), _) => Ok(Box::new(move |args| {
            Ok(unary::<Float64Type, Float64Type>(
                args,
                &ArrowType::Float64,
                f,
            ))
        })),
        (2, _, Some(f)) => Ok(Box::new(move |args| {
            Ok(binary::<Float64Type, Float64Type, Float64Type>(
                args,
                &ArrowType::Float64,
                f,
            ))
        })),
        _ => Err(signature.unsupported()),
    }
}

fn floor_or_ceil(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    let [operand] = signature.args else {
        return Err(signature.unsupported());
    };
    let floor = signature.function == ScalarFunction::Floor;
    Ok(match operand.logical {
        LogicalType::Double => {
            let f = if floor { f64::floor } else { f64::ceil };
            Box::new(move |args| {
                Ok(unary::<Float64Type, Float64Type>(
                    args,
                    &ArrowType::Float64,
                    f,
                ))
            })
        }
        LogicalType::Float => {
            let f = if floor { f32::floor } else { f32::ceil };
            Box::new(move |args| {
                Ok(unary::<Float32Type, Float32Type>(
                    args,
                    &ArrowType::Float32,
                    f,
                ))
            })
        }
        LogicalType::Decimal { scale, .. } => {
            let one = POWERS_OF_TEN[usize::from(scale)];
            let LogicalType::Decimal {
                precision,
                scale: result_scale,
            } = signature.result.logical
            else {
                return Err(signature.unsupported());
            };
            let unit = POWERS_OF_TEN[usize::from(result_scale)];
            let data_type = arrow_type(&signature.result.logical);
            Box::new(move |args| {
                let values = args.numbers::<Decimal128Type>(0);
                by_row::<Decimal128Type>(args, &data_type, |row| {
                    let value = values.at(row);
                    let whole = if floor {
                        value.div_euclid(one)
                    } else {
                        -(-value).div_euclid(one)
                    };
                    Ok(whole
                        .checked_mul(unit)
                        .filter(|value| fits(*value, precision)))
                })
            })
        }
        ref logical if logical.is_integer() => Box::new(|args| Ok(args.value(0).array().clone())),
        _ => return Err(signature.unsupported()),
    })
}

fn round(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    let half_up = signature.function == ScalarFunction::Round;
    if !matches!(signature.args.len(), 1 | 2) {
        return Err(signature.unsupported());
    }
    let result = &signature.result.logical;
    Ok(match (&signature.args[0].logical, result) {
        (LogicalType::Double, LogicalType::Double) => Box::new(move |args| {
            let values = args.numbers::<Float64Type>(0);
            let mut text = String::new();
            by_row::<Float64Type>(args, &ArrowType::Float64, |row| {
                let value = values.at(row);
                text.clear();
                write_double(value, &mut text);
                Ok(Some(
                    round_text(&text, digits_at(args, row), half_up).unwrap_or(value),
                ))
            })
        }),
        (LogicalType::Float, LogicalType::Float) => Box::new(move |args| {
            let values = args.numbers::<Float32Type>(0);
            let mut text = String::new();
            by_row::<Float32Type>(args, &ArrowType::Float32, |row| {
                let value = values.at(row);
                text.clear();
                write_float(value, &mut text);
                let rounded = round_text(&text, digits_at(args, row), half_up);
                Ok(Some(rounded.map_or(value, |rounded| rounded as f32)))
            })
        }),
        (
            LogicalType::Decimal { scale, .. },
            LogicalType::Decimal {
                precision,
                scale: result_scale,
            },
        ) => round_decimal(*scale, (*precision, *result_scale), half_up),
        (LogicalType::TinyInt, LogicalType::TinyInt) => integers::<Int8Type>(half_up),
        (LogicalType::SmallInt, LogicalType::SmallInt) => integers::<Int16Type>(half_up),
        (LogicalType::Int, LogicalType::Int) => integers::<Int32Type>(half_up),
        (LogicalType::BigInt, LogicalType::BigInt) => integers::<Int64Type>(half_up),
        _ => return Err(signature.unsupported()),
    })
}

fn digits_at(args: &Args<'_>, row: usize) -> i32 {
    if args.len() > 1 {
        args.numbers::<Int32Type>(1).at(row)
    } else {
        0
    }
}

/// The number of this text with `digits` digits after the point; `None` keeps it as it is (no
/// finite number, or one so large that it has no digits there).
fn round_text(text: &str, digits: i32, half_up: bool) -> Option<f64> {
    let unscaled = parse_unscaled(text, i64::from(digits), half_up)??;
    // By way of text again, so that the result is the double nearest to the rounded decimal.
    format!("{unscaled}e{}", -i64::from(digits)).parse().ok()
}

/// Cuts or rounds `value`, of `scale`, to `digits` digits, and gives it at `result_scale`.
fn round_unscaled(
    value: i128,
    scale: u8,
    digits: i32,
    result_scale: u8,
    half_up: bool,
) -> Option<i128> {
    let dropped = i32::from(scale) - digits;
    let value = if dropped <= 0 {
        value
    } else {
        match POWERS_OF_TEN.get(dropped as usize) {
            Some(unit) if half_up => {
                super::decimal::divide_half_up(value, *unit).checked_mul(*unit)?
            }
            Some(unit) => value / unit * unit,
            None => 0,
        }
    };
    if result_scale >= scale {
        value.checked_mul(POWERS_OF_TEN[usize::from(result_scale - scale)])
    } else {
        Some(value / POWERS_OF_TEN[usize::from(scale - result_scale)])
    }
}

fn round_decimal(scale: u8, result: (u8, u8), half_up: bool) -> Kernel {
    let (precision, result_scale) = result;
    let data_type = arrow_type(&LogicalType::Decimal {
        precision,
        scale: result_scale,
    });
    Box::new(move |args| {
        let values = args.numbers::<Decimal128Type>(0);
        by_row::<Decimal128Type>(args, &data_type, |row| {
            let digits = digits_at(args, row);
            let rounded = round_unscaled(values.at(row), scale, digits, result_scale, half_up);
            Ok(rounded.filter(|value| fits(*value, precision)))
        })
    })
}

/// Integers change only for negative digits.
fn integers<T>(half_up: bool) -> Kernel
where
    T: ArrowPrimitiveType,
    T::Native: Into<i64> + TryFrom<i64>,
{
    Box::new(move |args| {
        let values = args.numbers::<T>(0);
        by_row::<T>(args, &T::DATA_TYPE, |row| {
            let value = values.at(row);
            let digits = digits_at(args, row);
            if digits >= 0 {
                return Ok(Some(value));
            }
            let rounded = round_unscaled(i128::from(value.into()), 0, digits, 0, half_up);
            Ok(rounded
                .and_then(|rounded| i64::try_from(rounded).ok())
                .and_then(|rounded| T::Native::try_from(rounded).ok()))
        })
    })
}

/// RAND and RAND_INTEGER: the linear congruential generator that java.util.Random documents, so
/// that a seed gives the numbers it gives there.
struct Generator(AtomicU64);

const MULTIPLIER: u64 = 0x5_DEEC_E66D;
const MASK: u64 = (1 << 48) - 1;

impl Generator {
    fn new(seed: u64) -> Self {
        Generator(AtomicU64::new((seed ^ MULTIPLIER) & MASK))
    }

    fn bits(&self, count: u32) -> u64 {
        let step = |state: u64| state.wrapping_mul(MULTIPLIER).wrapping_add(0xB) & MASK;
        let previous = self
            .0
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |state| {
                Some(step(state))
            })
            .unwrap_or_default();
        step(previous) >> (48 - count)
    }

    fn double(&self) -> f64 {
        let bits = (self.bits(26) << 27) + self.bits(27);
        bits as f64 / (1u64 << 53) as f64
    }

    fn below(&self, bound: i32) -> i32 {
        if bound <= 1 {
            return 0;
        }
        let bound = bound as u64;
        if bound.is_power_of_two() {
            return ((bound * self.bits(31)) >> 31) as i32;
        }
        loop {
            let bits = self.bits(31);
            let value = bits % bound;
            if bits - value + (bound - 1) < 1 << 31 {
                return value as i32;
            }
        }
    }
}

fn random_numbers(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    let count = signature.args.len();
    let integer = signature.function == ScalarFunction::RandInteger;
    let seeded = count == if integer { 2 } else { 1 };
    if count > 1 + usize::from(integer) || (integer && count == 0) {
        return Err(signature.unsupported());
    }
    let seed = match (seeded, signature.constants.first()) {
        (false, _) => entropy(),
        (true, Some(Some(seed))) => {
            let value = crate::expr::value::Value::Scalar(ArrayRef::clone(seed));
            let seed = crate::expr::value::Numbers::<Int32Type>::new(&value).get(0);
            i64::from(seed.unwrap_or(0)) as u64
        }
        (true, _) => return Err(signature.invalid("the seed must be a constant")),
    };
    let generator = Generator::new(seed);
    if !integer {
        return Ok(Box::new(move |args| {
            by_row::<Float64Type>(args, &ArrowType::Float64, |_| Ok(Some(generator.double())))
        }));
    }
    Ok(Box::new(move |args| {
        let bounds = args.numbers::<Int32Type>(args.len() - 1);
        by_row::<Int32Type>(args, &ArrowType::Int32, |row| {
            Ok(Some(generator.below(bounds.at(row))))
        })
    }))
}
