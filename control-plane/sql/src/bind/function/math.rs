//! Functions on numbers.

use proto::plan::ScalarFunction as F;
use proto::types::{DataType, LogicalType};

use super::Arg::{BigInt, Double, Int, Number, NumberOrInterval, Text};
use super::Returns::{NotNull, Nullable, SameAs, Type, With};
use super::{STRING, Signature, any_nullable, sig};
use crate::bind::types::{decimal_of, rounded_decimal};
use crate::error::SqlError;
use crate::logical::{Expr, ExprKind, Literal};

const DOUBLE: LogicalType = LogicalType::Double;

/// The family.
pub(super) static SIGNATURES: &[Signature] = &[
    sig("ABS", F::Abs, &[NumberOrInterval], SameAs(0)),
    sig("SIGN", F::Sign, &[Number], SameAs(0)),
    sig("FLOOR", F::Floor, &[Number], With(whole)),
    sig("CEIL", F::Ceil, &[Number], With(whole)),
    sig("CEILING", F::Ceil, &[Number], With(whole)),
    sig("ROUND", F::Round, &[Number, Int], With(rounded)).optional(1),
    sig("TRUNCATE", F::Truncate, &[Number, Int], With(rounded)).optional(1),
    sig("SQRT", F::Sqrt, &[Double], Type(DOUBLE)),
    sig("CBRT", F::Cbrt, &[Double], Type(DOUBLE)),
    sig("LN", F::Ln, &[Double], Type(DOUBLE)),
    sig("LOG10", F::Log10, &[Double], Type(DOUBLE)),
    sig("LOG2", F::Log2, &[Double], Type(DOUBLE)),
    sig("LOG", F::Log, &[Double, Double], Type(DOUBLE)).optional(1),
    sig("EXP", F::Exp, &[Double], Type(DOUBLE)),
    sig("POWER", F::Power, &[Double, Double], Type(DOUBLE)),
    sig("POW", F::Power, &[Double, Double], Type(DOUBLE)),
    sig("SIN", F::Sin, &[Double], Type(DOUBLE)),
    sig("COS", F::Cos, &[Double], Type(DOUBLE)),
    sig("TAN", F::Tan, &[Double], Type(DOUBLE)),
    sig("COT", F::Cot, &[Double], Type(DOUBLE)),
    sig("ASIN", F::Asin, &[Double], Type(DOUBLE)),
    sig("ACOS", F::Acos, &[Double], Type(DOUBLE)),
    sig("ATAN", F::Atan, &[Double], Type(DOUBLE)),
    sig("ATAN2", F::Atan2, &[Double, Double], Type(DOUBLE)),
    sig("SINH", F::Sinh, &[Double], Type(DOUBLE)),
    sig("COSH", F::Cosh, &[Double], Type(DOUBLE)),
    sig("TANH", F::Tanh, &[Double], Type(DOUBLE)),
    sig("DEGREES", F::Degrees, &[Double], Type(DOUBLE)),
    sig("RADIANS", F::Radians, &[Double], Type(DOUBLE)),
    sig("PI", F::Pi, &[], NotNull(DOUBLE)),
    sig("E", F::E, &[], NotNull(DOUBLE)),
    sig("RAND", F::Rand, &[Int], Type(DOUBLE)).optional(1),
    sig(
        "RAND_INTEGER",
        F::RandInteger,
        &[Int, Int],
        Type(LogicalType::Int),
    )
    .optional(1),
    sig("BIN", F::Bin, &[BigInt], Type(STRING)),
    sig("CONV", F::Conv, &[Text, Int, Int], Nullable(STRING)),
    sig(
        "BITAND",
        F::BitAnd,
        &[BigInt, BigInt],
        Type(LogicalType::BigInt),
    ),
    sig(
        "BITOR",
        F::BitOr,
        &[BigInt, BigInt],
        Type(LogicalType::BigInt),
    ),
    sig(
        "BITXOR",
        F::BitXor,
        &[BigInt, BigInt],
        Type(LogicalType::BigInt),
    ),
    sig("BITNOT", F::BitNot, &[BigInt], Type(LogicalType::BigInt)),
];

/// FLOOR and CEIL: a DECIMAL loses its scale.
fn whole(args: &[Expr]) -> Result<DataType, SqlError> {
    let logical = match args[0].data_type.logical.clone() {
        LogicalType::Decimal { precision, .. } => LogicalType::Decimal {
            precision,
            scale: 0,
        },
        other => other,
    };
    Ok(DataType {
        logical,
        nullable: any_nullable(args),
    })
}

/// ROUND and TRUNCATE: the scale of a DECIMAL follows a constant number of digits.
fn rounded(args: &[Expr]) -> Result<DataType, SqlError> {
    let digits = match args.get(1).map(|arg| &arg.kind) {
        None => Some(0),
        Some(ExprKind::Literal(Literal::Integer(digits))) => Some(*digits),
        Some(_) => None,
    };
    let logical = match (&args[0].data_type.logical, digits) {
        (LogicalType::Decimal { precision, scale }, Some(digits)) => {
            rounded_decimal(*precision, *scale, digits)
        }
        (other @ LogicalType::Decimal { .. }, None) => {
            decimal_of(other).unwrap_or_else(|| other.clone())
        }
        (other, _) => other.clone(),
    };
    Ok(DataType {
        logical,
        nullable: any_nullable(args),
    })
}
