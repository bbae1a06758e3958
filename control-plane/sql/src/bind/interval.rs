//! INTERVAL literals: every pair of fields, with the digits that each field may have.

use proto::types::LogicalType;
use sqlparser::ast::{self, DateTimeField, Spanned as _, UnaryOperator, Value};

use super::literal::negated;
use crate::error::SqlError;
use crate::logical::{Expr, Literal};

/// Digits that the first field may have unless the literal says otherwise.
const LEADING_DIGITS: u64 = 2;
/// Digits that the first field may have at most.
const LEADING_DIGITS_MAX: u64 = 10;

/// A field of an interval, largest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum IntervalField {
    Year,
    Quarter,
    Month,
    Week,
    Day,
    Hour,
    Minute,
    Second,
}

impl IntervalField {
    pub(crate) fn of(field: &DateTimeField) -> Option<IntervalField> {
        Some(match field {
            DateTimeField::Year | DateTimeField::Years => IntervalField::Year,
            DateTimeField::Quarter => IntervalField::Quarter,
            DateTimeField::Month | DateTimeField::Months => IntervalField::Month,
            DateTimeField::Week(None) | DateTimeField::Weeks => IntervalField::Week,
            DateTimeField::Day | DateTimeField::Days => IntervalField::Day,
            DateTimeField::Hour | DateTimeField::Hours => IntervalField::Hour,
            DateTimeField::Minute | DateTimeField::Minutes => IntervalField::Minute,
            DateTimeField::Second | DateTimeField::Seconds => IntervalField::Second,
            DateTimeField::Custom(name) => match name.value.to_ascii_uppercase().as_str() {
                "QUARTERS" => IntervalField::Quarter,
                _ => return None,
            },
            _ => return None,
        })
    }

    /// Months, or milliseconds, in one.
    fn unit(self) -> i64 {
        match self {
            IntervalField::Year => 12,
            IntervalField::Quarter => 3,
            IntervalField::Month => 1,
            IntervalField::Week => 7 * 86_400_000,
            IntervalField::Day => 86_400_000,
            IntervalField::Hour => 3_600_000,
            IntervalField::Minute => 60_000,
            IntervalField::Second => 1_000,
        }
    }

    /// How many make one of the next larger field.
    fn limit(self) -> i64 {
        match self {
            IntervalField::Month => 12,
            IntervalField::Hour => 24,
            _ => 60,
        }
    }

    fn in_months(self) -> bool {
        self <= IntervalField::Month
    }
}

/// Binds `INTERVAL '…' field [TO field]`.
pub(crate) fn bind_interval(interval: &ast::Interval) -> Result<Expr, SqlError> {
    bind(interval).map_err(|error| error.at_parser(interval.value.span()))
}

fn bind(interval: &ast::Interval) -> Result<Expr, SqlError> {
    let ast::Interval {
        value,
        leading_field,
        leading_precision,
        last_field,
        fractional_seconds_precision,
    } = interval;
    let (text, negative) = literal_text(value)?;
    let Some(leading) = leading_field else {
        return Err(SqlError::validate("an interval needs a unit")
            .hint("write INTERVAL '10' MINUTE, for example"));
    };
    let field = |field: &DateTimeField| {
        IntervalField::of(field)
            .ok_or_else(|| SqlError::validate(format!("an interval of {field} is not supported")))
    };
    let first = field(leading)?;
    let last = last_field.as_ref().map(field).transpose()?.unwrap_or(first);
    let steps = fields_between(first, last).ok_or_else(|| {
        SqlError::validate(format!(
            "an interval from {first:?} to {last:?} does not exist"
        ))
    })?;
    let digits = leading_precision.unwrap_or(LEADING_DIGITS);
    if digits == 0 || digits > LEADING_DIGITS_MAX {
        return Err(SqlError::validate(format!(
            "the precision of an interval is 1 to {LEADING_DIGITS_MAX}, not {digits}"
        )));
    }
    if fractional_seconds_precision.is_some_and(|digits| digits > 9) {
        return Err(SqlError::validate(
            "a fraction of a second has 9 digits at most",
        ));
    }
    let amount = amount(&text, &steps, digits)?;
    let logical = if first.in_months() {
        LogicalType::IntervalYearMonth
    } else {
        LogicalType::IntervalDayTime
    };
    let literal = Expr::literal(Literal::Integer(amount), logical.not_null());
    Ok(if negative {
        negated(&literal).unwrap_or(literal)
    } else {
        literal
    })
}

fn literal_text(value: &ast::Expr) -> Result<(String, bool), SqlError> {
    match value {
        ast::Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Ok((text.clone(), false)),
            other => Err(SqlError::validate(format!(
                "expected text after INTERVAL, found {other}"
            ))
            .hint(format!("write INTERVAL '{other}' …"))),
        },
        ast::Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr,
        } => literal_text(expr).map(|(text, negative)| (text, !negative)),
        ast::Expr::UnaryOp {
            op: UnaryOperator::Plus,
            expr,
        } => literal_text(expr),
        _ => Err(SqlError::validate("an interval must be a constant")
            .hint("write INTERVAL '1' DAY * x for an amount that is computed")),
    }
}

fn fields_between(first: IntervalField, last: IntervalField) -> Option<Vec<IntervalField>> {
    use IntervalField::{Day, Hour, Minute, Month, Second, Year};
    if first == last {
        return Some(vec![first]);
    }
    let ladder: &[IntervalField] = if first == Year {
        &[Year, Month]
    } else {
        &[Day, Hour, Minute, Second]
    };
    let from = ladder.iter().position(|f| *f == first)?;
    let to = ladder.iter().position(|f| *f == last)?;
    (from < to).then(|| ladder[from..=to].to_vec())
}

fn amount(text: &str, fields: &[IntervalField], leading_digits: u64) -> Result<i64, SqlError> {
    let malformed = || {
        let form = match fields {
            [IntervalField::Year, ..] if fields.len() > 1 => "'years-months'",
            [IntervalField::Day, ..] if fields.len() > 1 => "'days hours[:minutes[:seconds]]'",
            _ if fields.len() > 1 => "'hours:minutes:seconds'",
            _ => "a number in quotes",
        };
        SqlError::validate(format!("`{text}` is not an interval of this kind"))
            .hint(format!("write {form}"))
    };
    let trimmed = text.trim();
    let (sign, unsigned) = match trimmed.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, trimmed.strip_prefix('+').unwrap_or(trimmed)),
    };
    let parts: Vec<&str> = unsigned.split([' ', ':', '-']).collect();
    if parts.len() != fields.len() {
        return Err(malformed());
    }
    let mut total: i64 = 0;
    for (index, (field, part)) in fields.iter().zip(&parts).enumerate() {
        let (whole, fraction) = match part.split_once('.') {
            Some((whole, fraction)) if *field == IntervalField::Second => (whole, fraction),
            Some(_) => return Err(malformed()),
            None => (*part, ""),
        };
        let plain = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !plain(whole) || !plain(fraction) {
            return Err(malformed());
        }
        let value: i64 = whole.parse().map_err(|_| malformed())?;
        if index == 0 && whole.trim_start_matches('0').len() as u64 > leading_digits {
            let name = format!("{field:?}").to_uppercase();
            return Err(SqlError::validate(format!(
                "interval value {value} exceeds the precision of {name}({leading_digits})"
            ))
            .hint(format!("write {name}({}), or a larger unit", whole.len())));
        }
        if index > 0 && value >= field.limit() {
            return Err(malformed());
        }
        let millis: i64 = format!("{fraction:0<3}")[..3]
            .parse()
            .map_err(|_| malformed())?;
        total = value
            .checked_mul(field.unit())
            .and_then(|amount| total.checked_add(amount)?.checked_add(millis))
            .ok_or_else(malformed)?;
    }
    Ok(sign * total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts() {
        use IntervalField::{Day, Minute, Month, Second, Year};
        let check = |text: &str, first, last, digits, expected: Result<i64, &str>| {
            let fields = fields_between(first, last).unwrap();
            let result = amount(text, &fields, digits).map_err(|error| error.message);
            assert_eq!(result, expected.map_err(str::to_owned), "{text}");
        };
        check("10", Minute, Minute, 2, Ok(600_000));
        check("-3", Minute, Minute, 2, Ok(-180_000));
        check("1 02:03:04.5", Day, Second, 2, Ok(93_784_500));
        check("1-2", Year, Month, 2, Ok(14));
        check("13", Month, Month, 2, Ok(13));
        check("300", Second, Second, 3, Ok(300_000));
        check(
            "300",
            Second,
            Second,
            2,
            Err("interval value 300 exceeds the precision of SECOND(2)"),
        );
        check(
            "1:70",
            IntervalField::Hour,
            Minute,
            2,
            Err("`1:70` is not an interval of this kind"),
        );
        check("x", Day, Day, 2, Err("`x` is not an interval of this kind"));
    }
}
