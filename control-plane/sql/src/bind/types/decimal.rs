//! Precision and scale of DECIMAL results, and the result types of arithmetic.

use proto::types::LogicalType;

use super::supertype::least_restrictive;

/// Digits that a DECIMAL may have.
const PRECISION_MAX: u32 = 38;
/// Digits after the point that shrinking a result keeps, if it has them.
const SCALE_KEPT: u32 = 6;
/// Least scale of a quotient and of an average.
const QUOTIENT_SCALE_MIN: u32 = 6;

/// The operators with rules of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Arithmetic {
    /// `+` and `-`
    Sum,
    Product,
    Quotient,
    Remainder,
}

/// Type of `left op right` for numbers; `None` if one of them is no number.
pub(crate) fn arithmetic_type(
    op: Arithmetic,
    left: &LogicalType,
    right: &LogicalType,
) -> Option<LogicalType> {
    if !left.is_numeric() || !right.is_numeric() {
        return None;
    }
    let is_decimal = |t: &LogicalType| matches!(t, LogicalType::Decimal { .. });
    if (is_decimal(left) || is_decimal(right))
        && left.is_exact_numeric()
        && right.is_exact_numeric()
    {
        return Some(decimal_result(op, digits(left)?, digits(right)?));
    }
    if op == Arithmetic::Remainder && left.is_integer() && right.is_integer() {
        return Some(right.clone());
    }
    let common = least_restrictive(&[left.clone().nullable(), right.clone().nullable()])?;
    Some(common.logical)
}

/// The DECIMAL that holds every value of an exact numeric type.
pub(crate) fn decimal_of(logical: &LogicalType) -> Option<LogicalType> {
    let (precision, scale) = digits(logical)?;
    Some(shrunk(precision, scale))
}

/// Type of ROUND and TRUNCATE of a DECIMAL to `digits` after the point.
pub(crate) fn rounded_decimal(precision: u8, scale: u8, digits: i64) -> LogicalType {
    if digits >= i64::from(scale) {
        return LogicalType::Decimal { precision, scale };
    }
    let kept = u32::try_from(digits).unwrap_or(0);
    let whole = u32::from(precision) - u32::from(scale);
    shrunk((1 + whole + kept).min(PRECISION_MAX), kept)
}

fn digits(logical: &LogicalType) -> Option<(u32, u32)> {
    Some(match logical {
        LogicalType::TinyInt => (3, 0),
        LogicalType::SmallInt => (5, 0),
        LogicalType::Int => (10, 0),
        LogicalType::BigInt => (19, 0),
        LogicalType::Decimal { precision, scale } => (u32::from(*precision), u32::from(*scale)),
        _ => return None,
    })
}

fn decimal_result(op: Arithmetic, (p1, s1): (u32, u32), (p2, s2): (u32, u32)) -> LogicalType {
    match op {
        Arithmetic::Sum => {
            let scale = s1.max(s2);
            shrunk((p1 - s1).max(p2 - s2) + scale + 1, scale)
        }
        Arithmetic::Product => shrunk(p1 + p2 + 1, s1 + s2),
        Arithmetic::Quotient => {
            let scale = QUOTIENT_SCALE_MIN.max(s1 + p2 + 1);
            shrunk(p1 - s1 + s2 + scale, scale)
        }
        Arithmetic::Remainder => {
            let scale = s1.max(s2);
            shrunk(((p1 - s1).min(p2 - s2) + scale).max(1), scale)
        }
    }
}

/// Gives up digits after the point, down to six, where there are too many in all.
fn shrunk(precision: u32, scale: u32) -> LogicalType {
    let (precision, scale) = if precision <= PRECISION_MAX {
        (precision, scale)
    } else {
        let whole = precision - scale;
        let scale = PRECISION_MAX
            .saturating_sub(whole)
            .max(scale.min(SCALE_KEPT));
        (PRECISION_MAX, scale)
    };
    LogicalType::Decimal {
        precision: u8::try_from(precision).expect("shrunk to 38"),
        scale: u8::try_from(scale).expect("not more than the precision"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logical(text: &str) -> LogicalType {
        text.parse::<proto::types::DataType>().unwrap().logical
    }

    #[test]
    fn results_of_arithmetic() {
        use Arithmetic::{Product, Quotient, Remainder, Sum};
        let check = |op, left: &str, right: &str, expected: &str| {
            let result = arithmetic_type(op, &logical(left), &logical(right));
            let shown = result.map_or_else(|| "none".to_owned(), |t| t.to_string());
            assert_eq!(shown, expected, "{left} {op:?} {right}");
        };
        check(Sum, "SMALLINT", "INT", "INT");
        check(Sum, "INT", "DECIMAL(4, 2)", "DECIMAL(13, 2)");
        check(Sum, "DECIMAL(38, 10)", "DECIMAL(38, 10)", "DECIMAL(38, 9)");
        check(Product, "DECIMAL(10, 2)", "INT", "DECIMAL(21, 2)");
        check(
            Product,
            "DECIMAL(10, 2)",
            "DECIMAL(10, 4)",
            "DECIMAL(21, 6)",
        );
        check(Product, "DECIMAL(4, 2)", "FLOAT", "DOUBLE");
        check(Quotient, "SMALLINT", "DECIMAL(2, 1)", "DECIMAL(12, 6)");
        check(Quotient, "SMALLINT", "INT", "INT");
        check(Quotient, "FLOAT", "INT", "FLOAT");
        check(Remainder, "BIGINT", "INT", "INT");
        check(Remainder, "DECIMAL(10, 2)", "INT", "DECIMAL(10, 2)");
        check(Sum, "STRING", "INT", "none");
    }

    #[test]
    fn rounding() {
        assert_eq!(rounded_decimal(12, 3, 1).to_string(), "DECIMAL(11, 1)");
        assert_eq!(rounded_decimal(12, 3, -2).to_string(), "DECIMAL(10, 0)");
        assert_eq!(rounded_decimal(12, 3, 5).to_string(), "DECIMAL(12, 3)");
    }
}
