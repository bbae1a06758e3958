//! Functions on dates and times whose units are words of the grammar: EXTRACT, FLOOR(x TO unit),
//! TIMESTAMPADD, TIMESTAMPDIFF, and the short forms YEAR(x), MONTH(x), …

use proto::plan::ScalarFunction as F;
use proto::types::{DataType, LogicalType};
use sqlparser::ast::{self, DateTimeField as D, Spanned as _};

use super::coerce::coerce;
use super::expr::ExprBinder;
use super::literal::string;
use crate::error::SqlError;
use crate::logical::Expr;
use crate::suggest::nearest;

/// Units of EXTRACT.
const EXTRACT_UNITS: [&str; 19] = [
    "MILLENNIUM",
    "CENTURY",
    "DECADE",
    "YEAR",
    "QUARTER",
    "MONTH",
    "WEEK",
    "DAY",
    "DOY",
    "DOW",
    "ISODOW",
    "ISOYEAR",
    "HOUR",
    "MINUTE",
    "SECOND",
    "MILLISECOND",
    "EPOCH",
    "MICROSECOND",
    "NANOSECOND",
];
/// Units of FLOOR and CEIL.
const FLOOR_UNITS: [&str; 12] = [
    "MILLENNIUM",
    "CENTURY",
    "DECADE",
    "YEAR",
    "QUARTER",
    "MONTH",
    "WEEK",
    "DAY",
    "HOUR",
    "MINUTE",
    "SECOND",
    "MILLISECOND",
];
/// Units of TIMESTAMPADD and TIMESTAMPDIFF.
const STEP_UNITS: [&str; 8] = [
    "YEAR", "QUARTER", "MONTH", "WEEK", "DAY", "HOUR", "MINUTE", "SECOND",
];

impl ExprBinder<'_> {
    /// EXTRACT(unit FROM x).
    pub(crate) fn extract(&self, field: &D, expr: &ast::Expr) -> Result<Expr, SqlError> {
        let unit = unit_of(field, &EXTRACT_UNITS)?;
        extract_of(unit, self.bind(expr)?)
    }

    /// FLOOR and CEIL, of numbers and of times.
    pub(crate) fn floor_or_ceil(
        &self,
        name: &str,
        of_time: F,
        expr: &ast::Expr,
        field: &ast::CeilFloorKind,
    ) -> Result<Expr, SqlError> {
        let bound = self.bind(expr)?;
        match field {
            ast::CeilFloorKind::DateTimeField(D::NoDateTime) => self.call(name, vec![bound]),
            ast::CeilFloorKind::DateTimeField(field) => {
                let unit = unit_of(field, &FLOOR_UNITS)?;
                if !is_temporal(&bound.data_type.logical) {
                    return Err(SqlError::validate(format!(
                        "cannot apply `{name}(… TO {unit})` to {}",
                        bound.data_type.logical
                    )));
                }
                let data_type = bound.data_type.clone();
                Ok(Expr::call(of_time, vec![bound, string(unit)], data_type))
            }
            ast::CeilFloorKind::Scale(_) => Err(SqlError::validate(format!(
                "`{name}` with a scale is not supported"
            ))
            .hint("use ROUND or TRUNCATE")),
        }
    }

    /// TIMESTAMPADD, TIMESTAMPDIFF and the parts of a date; `None` for other names.
    pub(crate) fn time_function(
        &self,
        name: &str,
        args: &[&ast::Expr],
    ) -> Result<Option<Expr>, SqlError> {
        let part = match name {
            "YEAR" | "QUARTER" | "MONTH" | "WEEK" | "HOUR" | "MINUTE" | "SECOND" => name,
            "DAYOFMONTH" => "DAY",
            "DAYOFYEAR" => "DOY",
            "DAYOFWEEK" => "DOW",
            "TIMESTAMPADD" | "TIMESTAMPDIFF" => return self.steps(name, args).map(Some),
            _ => return Ok(None),
        };
        let [arg] = args else {
            return Err(SqlError::validate(format!(
                "`{name}` takes one date or time"
            )));
        };
        extract_of(part, self.bind(arg)?).map(Some)
    }

    fn steps(&self, name: &str, args: &[&ast::Expr]) -> Result<Expr, SqlError> {
        let [unit, second, third] = args else {
            return Err(SqlError::validate(format!(
                "`{name}` takes a unit and two values"
            )));
        };
        let unit = match unit {
            ast::Expr::Identifier(ident) => unit_named(&ident.value, &STEP_UNITS),
            _ => Err(SqlError::validate(format!("`{name}` takes a unit first"))
                .hint(format!("one of {}", STEP_UNITS.join(", ")))),
        }
        .map_err(|error| error.at_parser(unit.span()))?;
        let (second, third) = (self.bind(second)?, self.bind(third)?);
        let nullable = second.data_type.nullable || third.data_type.nullable;
        let refuse = |wrong: &Expr| {
            SqlError::validate(format!(
                "cannot apply `{name}` to {}",
                wrong.data_type.logical
            ))
        };
        if !is_temporal(&third.data_type.logical) {
            return Err(refuse(&third));
        }
        if name == "TIMESTAMPDIFF" {
            if !is_temporal(&second.data_type.logical) {
                return Err(refuse(&second));
            }
            let (from, to) = same_kind(second, third);
            let data_type = DataType {
                logical: LogicalType::Int,
                nullable,
            };
            return Ok(Expr::call(
                F::TimestampDiff,
                vec![string(unit), from, to],
                data_type,
            ));
        }
        if !second.data_type.logical.is_integer() {
            return Err(refuse(&second).hint("the amount is an integer"));
        }
        let of_day = !matches!(unit, "HOUR" | "MINUTE" | "SECOND");
        let third = if third.data_type.logical == LogicalType::Date && !of_day {
            coerce(third, &LogicalType::Timestamp(6))
        } else {
            third
        };
        let data_type = third.data_type.clone().with_nullable(nullable);
        let amount = match second.data_type.logical {
            LogicalType::BigInt => second,
            _ => coerce(second, &LogicalType::Int),
        };
        Ok(Expr::call(
            F::TimestampAdd,
            vec![string(unit), amount, third],
            data_type,
        ))
    }
}

/// Both as TIMESTAMP, unless both are of one kind. Timestamps keep their digits: with more they
/// would reach less far.
fn same_kind(left: Expr, right: Expr) -> (Expr, Expr) {
    let (l, r) = (&left.data_type.logical, &right.data_type.logical);
    let target = match (l, r) {
        (a, b) if a == b || a.is_timestamp() && b.is_timestamp() => return (left, right),
        (t, _) | (_, t) if t.is_timestamp() => t.clone(),
        _ => LogicalType::Timestamp(3),
    };
    let target = match (l.is_timestamp(), r.is_timestamp()) {
        (false, true) => r.clone(),
        _ => target,
    };
    (coerce(left, &target), coerce(right, &target))
}

fn extract_of(unit: &str, arg: Expr) -> Result<Expr, SqlError> {
    let logical = &arg.data_type.logical;
    if !is_temporal(logical) && !logical.is_interval() {
        return Err(
            SqlError::validate(format!("cannot take the {unit} of {logical}"))
                .hint("it takes a date, a time, a timestamp or an interval"),
        );
    }
    let of_day = matches!(unit, "HOUR" | "MINUTE" | "SECOND" | "MILLISECOND" | "EPOCH");
    let below = matches!(unit, "MICROSECOND" | "NANOSECOND");
    let missing = match logical {
        LogicalType::Time(_) => !of_day && !below,
        LogicalType::Date => below,
        _ => false,
    };
    if missing {
        return Err(SqlError::validate(format!("{logical} has no {unit}"))
            .hint("take it of a timestamp, or of what has it"));
    }
    let nullable = arg.data_type.nullable;
    let data_type = DataType {
        logical: LogicalType::BigInt,
        nullable,
    };
    Ok(Expr::call(F::Extract, vec![string(unit), arg], data_type))
}

fn unit_of(field: &D, units: &[&'static str]) -> Result<&'static str, SqlError> {
    let name = match field {
        D::Custom(ident) => ident.value.clone(),
        D::Millenium => "MILLENNIUM".to_owned(),
        D::DayOfWeek => "DOW".to_owned(),
        D::DayOfYear => "DOY".to_owned(),
        D::IsoWeek => "WEEK".to_owned(),
        other => other.to_string(),
    };
    unit_named(&name, units)
}

fn unit_named(name: &str, units: &[&'static str]) -> Result<&'static str, SqlError> {
    let upper = name.to_uppercase();
    // SQL_TSI_DAY is how ODBC calls DAY.
    let plain = upper.strip_prefix("SQL_TSI_").unwrap_or(&upper);
    if let Some(unit) = units
        .iter()
        .find(|unit| **unit == plain || format!("{unit}S") == plain)
    {
        return Ok(unit);
    }
    let error = SqlError::validate(format!("unit `{name}` is not supported here"));
    Err(match nearest(plain, units.iter().copied()) {
        Some(near) => error.hint(format!("did you mean {near}?")),
        None => error.hint(format!("one of {}", units.join(", "))),
    })
}

fn is_temporal(logical: &LogicalType) -> bool {
    logical.is_timestamp() || matches!(logical, LogicalType::Date | LogicalType::Time(_))
}
