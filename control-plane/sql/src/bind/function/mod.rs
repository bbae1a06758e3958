//! Built-in functions: one table from the SQL name to the plan's function, what arguments it takes
//! and what it returns. Functions with a syntax of their own stand in `bind::special`.

mod aggregates;
mod collections;
mod json;
mod math;
mod pattern;
mod signature;
mod strings;
mod time;

use proto::types::{DataType, LogicalType};

pub(crate) use aggregates::{aggregate_result, find_aggregate, is_aggregate};
pub(crate) use pattern::like_pattern;
use signature::{Arg, Returns, Signature, sig};

use super::coerce::coerce;
use crate::error::SqlError;
use crate::logical::Expr;
use crate::suggest::nearest;

/// Names that the table does not hold, for "did you mean".
const SPECIAL_NAMES: [&str; 32] = [
    "COALESCE",
    "IFNULL",
    "NULLIF",
    "IF",
    "GREATEST",
    "LEAST",
    "CEIL",
    "FLOOR",
    "EXTRACT",
    "TRIM",
    "SUBSTRING",
    "SUBSTR",
    "OVERLAY",
    "POSITION",
    "TIMESTAMPADD",
    "TIMESTAMPDIFF",
    "MOD",
    "ROW",
    "ARRAY",
    "MAP",
    "JSON_VALUE",
    "JSON_QUERY",
    "JSON_EXISTS",
    "JSON_OBJECT",
    "JSON_ARRAY",
    "ROW_NUMBER",
    "RANK",
    "DENSE_RANK",
    "LAG",
    "GROUPING",
    "GROUPING_ID",
    "TYPEOF",
];

/// Every signature, family by family.
fn signatures() -> impl Iterator<Item = &'static Signature> {
    [
        strings::SIGNATURES,
        math::SIGNATURES,
        time::SIGNATURES,
        collections::SIGNATURES,
        json::SIGNATURES,
    ]
    .into_iter()
    .flatten()
}

/// Names of all functions, sorted, for SHOW FUNCTIONS.
pub(crate) fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> = signatures()
        .map(|signature| signature.name)
        .chain(SPECIAL_NAMES)
        .chain(aggregates::names())
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The call of the function `name` (upper case) with bound arguments, cast as the function wants.
pub(crate) fn call(name: &str, args: Vec<Expr>) -> Result<Expr, SqlError> {
    let candidates: Vec<&Signature> = signatures()
        .filter(|signature| signature.name == name)
        .collect();
    if candidates.is_empty() {
        return Err(unknown(name));
    }
    for signature in &candidates {
        let Some(targets) = signature.matches(&args) else {
            continue;
        };
        let args: Vec<Expr> = args
            .into_iter()
            .zip(&targets)
            .map(|(arg, target)| match target {
                Some(target) => coerce(arg, target),
                None => arg,
            })
            .collect();
        let data_type = signature.result(&args)?;
        pattern::check(signature.function, &args)?;
        let args = collections::align(signature.function, args, &data_type)?;
        return Ok(Expr::call(signature.function, args, data_type));
    }
    let types: Vec<String> = args.iter().map(|arg| shown_type(&arg.data_type)).collect();
    let forms: Vec<String> = candidates
        .iter()
        .map(|signature| signature.to_string())
        .collect();
    Err(
        SqlError::validate(format!("cannot apply `{name}` to ({})", types.join(", ")))
            .hint(format!("it takes {}", forms.join(" or "))),
    )
}

fn unknown(name: &str) -> SqlError {
    let error = SqlError::validate(format!("function `{name}` does not exist"));
    let all = names();
    if all.contains(&name) {
        return SqlError::validate(format!("`{name}` does not take these arguments"));
    }
    match nearest(name, all.iter().copied()) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint("SHOW FUNCTIONS lists those that exist"),
    }
}

/// A type in an error about types: nullability does not matter there.
pub(crate) fn shown_type(data_type: &DataType) -> String {
    data_type.logical.to_string()
}

/// Nullable if one of the arguments is.
fn any_nullable(args: &[Expr]) -> bool {
    args.iter().any(|arg| arg.data_type.nullable)
}

/// `STRING`, shortened for the tables.
const STRING: LogicalType = LogicalType::STRING;
