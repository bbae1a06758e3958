//! Constants: numbers, text, bytes, dates and times. Their types are those of the values as
//! written: `1` INT, `1.5` DECIMAL(2, 1), `1E0` DOUBLE, `'abc'` CHAR(3).

use proto::types::LogicalType;
use sqlparser::ast::{self, Value};

use super::calendar::{days_from_civil, parse_date, parse_time, parse_timestamp};
use crate::error::SqlError;
use crate::logical::{Expr, Literal};

/// A constant of the grammar.
pub(crate) fn bind_value(value: &Value) -> Result<Expr, SqlError> {
    match value {
        Value::Number(text, false) => number(text),
        Value::SingleQuotedString(text)
        | Value::UnicodeStringLiteral(text)
        | Value::NationalStringLiteral(text) => Ok(string(text)),
        Value::HexStringLiteral(text) => binary(text),
        Value::Boolean(value) => Ok(Expr::literal(
            Literal::Boolean(*value),
            LogicalType::Boolean.not_null(),
        )),
        Value::Null => Ok(Expr::literal(Literal::Null, LogicalType::Null.nullable())),
        Value::DoubleQuotedString(text) => Err(SqlError::validate(format!(
            "a name in double quotes is not supported: \"{text}\""
        ))
        .hint("write names in backticks and text in single quotes")),
        Value::Placeholder(text) => Err(SqlError::validate(format!(
            "parameter `{text}` is not supported"
        ))),
        other => Err(SqlError::validate(format!(
            "literal {other} is not supported"
        ))),
    }
}

/// A text constant.
pub(crate) fn string(text: &str) -> Expr {
    let length = u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
    // CHAR needs a length of 1 at least.
    let logical = if length == 0 {
        LogicalType::Varchar(1)
    } else {
        LogicalType::Char(length)
    };
    Expr::literal(Literal::String(text.to_owned()), logical.not_null())
}

/// An INT constant.
pub(crate) fn int(value: i32) -> Expr {
    Expr::literal(
        Literal::Integer(i64::from(value)),
        LogicalType::Int.not_null(),
    )
}

/// A BIGINT constant.
pub(crate) fn big_int(value: i64) -> Expr {
    Expr::literal(Literal::Integer(value), LogicalType::BigInt.not_null())
}

/// `DATE '…'`, `TIME '…'`, `TIMESTAMP '…'`.
pub(crate) fn typed_string(literal: &ast::TypedString) -> Result<Expr, SqlError> {
    let ast::TypedString {
        data_type,
        value,
        uses_odbc_syntax,
    } = literal;
    if *uses_odbc_syntax {
        return Err(SqlError::validate(
            "the `{d '…'}` notation is not supported",
        ));
    }
    let Value::SingleQuotedString(text) = &value.value else {
        return Err(SqlError::validate("expected text in single quotes"));
    };
    let kind = super::types_of_ast(data_type)?.logical;
    let refuse = |what: &str, form: &str| {
        SqlError::validate(format!("`{text}` is not a {what}"))
            .at_parser(value.span)
            .hint(format!("write it as {form}"))
    };
    match kind {
        LogicalType::Date => {
            let (year, month, day) =
                parse_date(text).ok_or_else(|| refuse("date", "'yyyy-mm-dd'"))?;
            let days = days_from_civil(year, month, day);
            Ok(Expr::literal(
                Literal::Integer(days),
                LogicalType::Date.not_null(),
            ))
        }
        LogicalType::Time(_) => {
            let (nanos, _) = parse_time(text).ok_or_else(|| refuse("time", "'hh:mm:ss'"))?;
            Ok(Expr::literal(
                Literal::Integer(nanos / 1_000_000),
                LogicalType::Time(0).not_null(),
            ))
        }
        LogicalType::Timestamp(_) | LogicalType::TimestampLtz(_) => {
            let (days, nanos, precision) = parse_timestamp(text)
                .ok_or_else(|| refuse("timestamp", "'yyyy-mm-dd hh:mm:ss[.fraction]'"))?;
            let unit = match precision {
                0..=3 => 1_000_000,
                4..=6 => 1_000,
                _ => 1,
            };
            let ticks = days
                .checked_mul(86_400_000_000_000 / unit)
                .and_then(|ticks| ticks.checked_add(nanos / unit))
                .ok_or_else(|| refuse("timestamp that nanoseconds can hold", "fewer digits"))?;
            let logical = match kind {
                LogicalType::Timestamp(_) => LogicalType::Timestamp(precision),
                _ => LogicalType::TimestampLtz(precision),
            };
            Ok(Expr::literal(Literal::Integer(ticks), logical.not_null()))
        }
        other => Err(
            SqlError::validate(format!("a literal `{other} '…'` is not supported"))
                .at_parser(value.span)
                .hint(format!("write CAST('…' AS {other})")),
        ),
    }
}

/// The negative of a constant, if it is one.
pub(crate) fn negated(expr: &Expr) -> Option<Expr> {
    let crate::logical::ExprKind::Literal(literal) = &expr.kind else {
        return None;
    };
    let literal = match literal {
        Literal::Integer(value) => Literal::Integer(value.checked_neg()?),
        Literal::Double(value) => Literal::Double(-value),
        Literal::Decimal(text) => Literal::Decimal(match text.strip_prefix('-') {
            Some(positive) => positive.to_owned(),
            None => format!("-{text}"),
        }),
        _ => return None,
    };
    Some(Expr::literal(literal, expr.data_type.clone()))
}

fn number(text: &str) -> Result<Expr, SqlError> {
    let refuse = || SqlError::validate(format!("`{text}` is not a number that any type holds"));
    if text.contains(['e', 'E']) {
        let value: f64 = text.parse().map_err(|_| refuse())?;
        return Ok(Expr::literal(
            Literal::Double(value),
            LogicalType::Double.not_null(),
        ));
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !whole
        .chars()
        .chain(fraction.chars())
        .all(|c| c.is_ascii_digit())
    {
        return Err(refuse());
    }
    if fraction.is_empty() {
        let whole = if whole.is_empty() { "0" } else { whole };
        if let Ok(value) = whole.parse::<i64>() {
            let logical = match i32::try_from(value) {
                Ok(_) => LogicalType::Int,
                Err(_) => LogicalType::BigInt,
            };
            return Ok(Expr::literal(Literal::Integer(value), logical.not_null()));
        }
        let digits = whole.trim_start_matches('0');
        return decimal(digits.to_owned(), digits.len(), 0).ok_or_else(refuse);
    }
    let shown = format!("{}.{fraction}", if whole.is_empty() { "0" } else { whole });
    decimal(shown, whole.len() + fraction.len(), fraction.len()).ok_or_else(refuse)
}

fn decimal(text: String, precision: usize, scale: usize) -> Option<Expr> {
    let logical = LogicalType::Decimal {
        precision: u8::try_from(precision).ok().filter(|p| *p <= 38)?,
        scale: u8::try_from(scale).ok()?,
    };
    Some(Expr::literal(Literal::Decimal(text), logical.not_null()))
}

fn binary(text: &str) -> Result<Expr, SqlError> {
    let refuse = || SqlError::validate(format!("X'{text}' is not a whole number of bytes"));
    let digits: Vec<u32> = text
        .chars()
        .map(|c| c.to_digit(16))
        .collect::<Option<_>>()
        .ok_or_else(refuse)?;
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return Err(refuse());
    }
    let bytes: Vec<u8> = digits
        .chunks_exact(2)
        .map(|pair| u8::try_from(pair[0] * 16 + pair[1]).expect("two hex digits"))
        .collect();
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    Ok(Expr::literal(
        Literal::Binary(bytes),
        LogicalType::Binary(length).not_null(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let check = |text: &str, expected: &str| {
            let shown = match bind_value(&Value::Number(text.to_owned(), false)) {
                Ok(expr) => expr.data_type.to_string(),
                Err(error) => error.to_string(),
            };
            assert_eq!(shown, expected, "{text}");
        };
        check("1", "INT NOT NULL");
        check("2147483648", "BIGINT NOT NULL");
        check("9223372036854775808", "DECIMAL(19, 0) NOT NULL");
        check("1.5", "DECIMAL(2, 1) NOT NULL");
        check("0.908", "DECIMAL(4, 3) NOT NULL");
        check(".5", "DECIMAL(1, 1) NOT NULL");
        check("1E0", "DOUBLE NOT NULL");
        check(
            &"9".repeat(39),
            &format!("`{}` is not a number that any type holds", "9".repeat(39)),
        );
    }
}
