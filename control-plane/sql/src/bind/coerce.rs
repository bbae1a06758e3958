//! Puts casts into bound expressions. A cast of a constant becomes a constant where that cannot
//! fail and loses nothing, so that plans read like their queries.

use proto::plan::ScalarFunction;
use proto::types::{DataType, LogicalType};

use super::calendar::{days_from_civil, parse_date};
use super::types::{comparison_type, decimal_of, equal_but_nullability};
use crate::logical::{Expr, ExprKind, Literal};

/// `expr` as a value of type `target`; itself where it is one already.
pub(crate) fn coerce(expr: Expr, target: &LogicalType) -> Expr {
    if equal_but_nullability(&expr.data_type.logical, target) {
        return expr;
    }
    let nullable = expr.data_type.nullable || expr.data_type.logical == LogicalType::Null;
    if let (
        ExprKind::Call {
            function: ScalarFunction::ArrayConstructor,
            ..
        },
        LogicalType::Array(element),
    ) = (&expr.kind, target)
        && let ExprKind::Call { function, args } = expr.kind
    {
        let args = args
            .into_iter()
            .map(|arg| coerce(arg, &element.logical))
            .collect();
        return Expr::call(
            function,
            args,
            DataType {
                logical: target.clone(),
                nullable,
            },
        );
    }
    let data_type = DataType {
        logical: target.clone(),
        nullable,
    };
    if let ExprKind::Literal(literal) = &expr.kind
        && let Some(literal) = fold(literal, &expr.data_type.logical, target)
    {
        return Expr::literal(literal, data_type);
    }
    cast(expr, data_type, false)
}

/// A cast as written.
pub(crate) fn cast(expr: Expr, data_type: DataType, r#try: bool) -> Expr {
    Expr {
        kind: ExprKind::Cast {
            input: Box::new(expr),
            r#try,
        },
        data_type,
    }
}

/// `expr` for a comparison in type `target`: text compares as it is, whatever its length.
pub(crate) fn coerce_operand(expr: Expr, target: &LogicalType) -> Expr {
    if expr.data_type.logical.is_character() && target.is_character() {
        expr
    } else {
        coerce(expr, target)
    }
}

/// Both sides in the type in which they compare; the sides themselves if they do not. A constant
/// that the other side's type holds takes that type, so that no column is cast for it.
pub(crate) fn coerce_comparison(
    left: Expr,
    right: Expr,
) -> Result<(Expr, Expr), Box<(Expr, Expr)>> {
    let Some(common) = comparison_type(&left.data_type.logical, &right.data_type.logical) else {
        return Err(Box::new((left, right)));
    };
    if let Some(right) = constant_as(&right, &left.data_type.logical) {
        return Ok((left, right));
    }
    if let Some(left) = constant_as(&left, &right.data_type.logical) {
        return Ok((left, right));
    }
    Ok((
        coerce_operand(left, &common),
        coerce_operand(right, &common),
    ))
}

/// An exact number that is constant, as a value of another exact type, if that holds it.
fn constant_as(expr: &Expr, target: &LogicalType) -> Option<Expr> {
    let ExprKind::Literal(literal) = &expr.kind else {
        return None;
    };
    let from = &expr.data_type.logical;
    if *from == *target || !from.is_exact_numeric() || !target.is_exact_numeric() {
        return None;
    }
    let data_type = DataType {
        logical: target.clone(),
        nullable: expr.data_type.nullable,
    };
    fold(literal, from, target).map(|literal| Expr::literal(literal, data_type))
}

/// A number for arithmetic in type `result`: DECIMAL operands keep their own digits.
pub(crate) fn coerce_number(expr: Expr, result: &LogicalType) -> Expr {
    match result {
        LogicalType::Decimal { .. } => match decimal_of(&expr.data_type.logical) {
            Some(own) => coerce(expr, &own),
            None => coerce(expr, result),
        },
        _ => coerce(expr, result),
    }
}

fn fold(literal: &Literal, from: &LogicalType, to: &LogicalType) -> Option<Literal> {
    use LogicalType as T;
    Some(match (literal, to) {
        (Literal::Null, _) => Literal::Null,
        (Literal::Integer(value), to) if from.is_integer() => match to {
            T::BigInt => Literal::Integer(*value),
            T::Varchar(length) if value.to_string().len() <= *length as usize => {
                Literal::String(value.to_string())
            }
            T::Int => Literal::Integer(i64::from(i32::try_from(*value).ok()?)),
            T::SmallInt => Literal::Integer(i64::from(i16::try_from(*value).ok()?)),
            T::TinyInt => Literal::Integer(i64::from(i8::try_from(*value).ok()?)),
            T::Double | T::Float => Literal::Double(f64::from(i32::try_from(*value).ok()?)),
            T::Decimal { precision, scale } => {
                decimal_text(&value.to_string(), *precision, *scale)?
            }
            _ => return None,
        },
        (Literal::Decimal(text), T::Decimal { precision, scale }) => {
            decimal_text(text, *precision, *scale)?
        }
        (Literal::Decimal(text), T::Double) => Literal::Double(text.parse().ok()?),
        (Literal::Integer(value), to) if from.is_timestamp() && to.is_timestamp() => {
            let (own, wanted) = (ticks_digits(from)?, ticks_digits(to)?);
            let factor = 10i64.checked_pow(wanted.checked_sub(own)?)?;
            // A lower precision within one unit would have to cut digits: left to the cast.
            (precision(to)? >= precision(from)?).then_some(())?;
            Literal::Integer(value.checked_mul(factor)?)
        }
        (Literal::String(text), T::Date) => {
            let (year, month, day) = parse_date(text)?;
            Literal::Integer(days_from_civil(year, month, day))
        }
        (Literal::String(text), T::Varchar(length)) => {
            (text.chars().count() <= *length as usize).then(|| Literal::String(text.clone()))?
        }
        _ => return None,
    })
}

/// A number of a DECIMAL type as text with its full scale, if no digit is lost.
fn decimal_text(text: &str, precision: u8, scale: u8) -> Option<Literal> {
    let (precision, scale) = (usize::from(precision), usize::from(scale));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = whole.trim_start_matches('-').trim_start_matches('0').len();
    if fraction.len() > scale || digits > precision - scale {
        return None;
    }
    Some(Literal::Decimal(match scale {
        0 => whole.to_owned(),
        _ => format!("{whole}.{fraction:0<scale$}"),
    }))
}

fn precision(logical: &LogicalType) -> Option<u8> {
    match logical {
        LogicalType::Timestamp(p) | LogicalType::TimestampLtz(p) => Some(*p),
        _ => None,
    }
}

/// Digits of the unit in which literals of a timestamp type count.
fn ticks_digits(logical: &LogicalType) -> Option<u32> {
    Some(match precision(logical)? {
        0..=3 => 3,
        4..=6 => 6,
        _ => 9,
    })
}
