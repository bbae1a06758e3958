//! Patterns that stand in a query as constants, looked at while there is a place to point to:
//! found by a worker, a wrong one would fail the job instead of the statement.

use proto::plan::ScalarFunction as F;

use crate::error::SqlError;
use crate::logical::{Expr, ExprKind, Literal};

/// Letters of patterns of dates and times.
const LETTERS: &str = "yuMLdDEHkKhmsSaGZXxQn";

/// Checks the pattern of a call, if it has one that is constant.
pub(super) fn check(function: F, args: &[Expr]) -> Result<(), SqlError> {
    let of_time = match function {
        F::DateFormat | F::ToDate | F::ToTimestamp | F::UnixTimestamp | F::FromUnixtime => true,
        F::ToTimestampLtz => args
            .first()
            .is_some_and(|arg| arg.data_type.logical.is_character()),
        _ => false,
    };
    match args.get(1).and_then(constant) {
        Some(pattern) if of_time => time_pattern(pattern),
        _ => Ok(()),
    }
}

fn time_pattern(pattern: &str) -> Result<(), SqlError> {
    let mut quoted = false;
    for letter in pattern.chars() {
        if letter == '\'' {
            quoted = !quoted;
        } else if !quoted && letter.is_ascii_alphabetic() && !LETTERS.contains(letter) {
            return Err(SqlError::validate(format!(
                "letter `{letter}` of the pattern '{pattern}' is not supported"
            ))
            .hint("a pattern is like 'yyyy-MM-dd HH:mm:ss'; text in it stands between two ''"));
        }
    }
    if quoted {
        return Err(SqlError::validate(format!(
            "a quote in the pattern '{pattern}' is not closed"
        )));
    }
    Ok(())
}

/// Checks a LIKE pattern: what is escaped must need it.
pub(crate) fn like_pattern(pattern: &Expr, escape: char) -> Result<(), SqlError> {
    let Some(text) = constant(pattern) else {
        return Ok(());
    };
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter == escape
            && !letters
                .next()
                .is_some_and(|c| "%_".contains(c) || c == escape)
        {
            return Err(SqlError::validate(format!(
                "`{escape}` escapes nothing in the pattern '{text}'"
            ))
            .hint("the escape character may stand only before %, _ and itself"));
        }
    }
    Ok(())
}

fn constant(expr: &Expr) -> Option<&str> {
    match &expr.kind {
        ExprKind::Literal(Literal::String(text)) => Some(text),
        ExprKind::Cast { input, .. } => constant(input),
        _ => None,
    }
}
