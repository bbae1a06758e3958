//! Aggregate functions: names, arguments, types of results.

use proto::plan::AggregateFunction as F;
use proto::types::{DataType, LogicalType};

use super::shown_type;
use crate::error::SqlError;
use crate::logical::Expr;

/// Name, function.
const AGGREGATES: &[(&str, F)] = &[
    ("COUNT", F::Count),
    ("SUM", F::Sum),
    ("AVG", F::Avg),
    ("MIN", F::Min),
    ("MAX", F::Max),
    ("STDDEV_POP", F::StddevPop),
    ("STDDEV_SAMP", F::StddevSamp),
    ("STDDEV", F::StddevSamp),
    ("VAR_POP", F::VarPop),
    ("VAR_SAMP", F::VarSamp),
    ("VARIANCE", F::VarSamp),
    ("FIRST_VALUE", F::FirstValue),
    ("LAST_VALUE", F::LastValue),
    ("SINGLE_VALUE", F::SingleValue),
    ("LISTAGG", F::ListAgg),
    ("ARRAY_AGG", F::ArrayAgg),
    ("COLLECT", F::Collect),
    ("PERCENTILE", F::Percentile),
    ("JSON_OBJECTAGG", F::JsonObjectAgg),
    ("JSON_ARRAYAGG", F::JsonArrayAgg),
];

/// The aggregate `name` (upper case).
pub(crate) fn find_aggregate(name: &str) -> Option<F> {
    AGGREGATES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, function)| *function)
}

/// Whether `name` (upper case) is one.
pub(crate) fn is_aggregate(name: &str) -> bool {
    find_aggregate(name).is_some()
}

/// All names that are supported.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    AGGREGATES
        .iter()
        .filter(|(_, function)| !matches!(function, F::JsonObjectAgg | F::JsonArrayAgg))
        .map(|(name, _)| *name)
}

/// Type of an aggregate's result. `may_be_empty`: there may be no row that counts, because there
/// is no GROUP BY or a FILTER.
pub(crate) fn aggregate_result(
    function: F,
    args: &[Expr],
    may_be_empty: bool,
) -> Result<DataType, SqlError> {
    let types: Vec<&LogicalType> = args.iter().map(|arg| &arg.data_type.logical).collect();
    let arg_nullable = args.first().is_some_and(|arg| arg.data_type.nullable);
    let nullable = may_be_empty || arg_nullable;
    let of = |logical: LogicalType| DataType { logical, nullable };
    let refuse = |wanted: &str| {
        let types: Vec<String> = args.iter().map(|arg| shown_type(&arg.data_type)).collect();
        let name = names_of(function);
        Err(
            SqlError::validate(format!("cannot apply `{name}` to ({})", types.join(", ")))
                .hint(format!("it takes {wanted}")),
        )
    };
    Ok(match (function, types.as_slice()) {
        (F::Count, [] | [_]) => LogicalType::BigInt.not_null(),
        (F::Count, _) => {
            return Err(
                SqlError::plan("COUNT of more than one column is not supported")
                    .hint("count a concatenation or a ROW of them"),
            );
        }
        (F::Sum, [LogicalType::Decimal { scale, .. }]) => of(LogicalType::Decimal {
            precision: 38,
            scale: *scale,
        }),
        (
            F::Avg | F::StddevPop | F::StddevSamp | F::VarPop | F::VarSamp,
            [LogicalType::Decimal { scale, .. }],
        ) => of(LogicalType::Decimal {
            precision: 38,
            scale: (*scale).max(6),
        }),
        (F::Sum | F::Avg, [t]) if t.is_numeric() => of((*t).clone()),
        (F::Sum, [t]) if t.is_interval() => of((*t).clone()),
        (F::StddevPop | F::VarPop, [t]) if t.is_numeric() => of((*t).clone()),
        // One row has no sample variance.
        (F::StddevSamp | F::VarSamp, [t]) if t.is_numeric() => (*t).clone().nullable(),
        (F::Sum | F::Avg | F::StddevPop | F::StddevSamp | F::VarPop | F::VarSamp, _) => {
            return refuse("one number");
        }
        (F::Min | F::Max, [t]) if is_comparable(t) => of((*t).clone()),
        (F::Min | F::Max, _) => return refuse("one value of a type that has an order"),
        (F::FirstValue | F::LastValue | F::SingleValue, [t]) => of((*t).clone()),
        (F::ListAgg, [t] | [t, LogicalType::Char(_) | LogicalType::Varchar(_)])
            if t.is_character() =>
        {
            of(LogicalType::STRING)
        }
        (F::ListAgg, _) => return refuse("a STRING and an optional separator"),
        (F::ArrayAgg, [_]) => LogicalType::Array(Box::new(args[0].data_type.clone())).nullable(),
        (F::Collect, [_]) => LogicalType::Multiset(Box::new(args[0].data_type.clone())).not_null(),
        (F::Percentile, [t, fraction]) if t.is_numeric() && fraction.is_numeric() => {
            of(LogicalType::Double)
        }
        (F::Percentile, [t, LogicalType::Array(fraction)])
            if t.is_numeric() && fraction.logical.is_numeric() =>
        {
            of(LogicalType::Array(Box::new(LogicalType::Double.nullable())))
        }
        (F::Percentile, _) => return refuse("a number and a fraction or an ARRAY of fractions"),
        (F::JsonObjectAgg | F::JsonArrayAgg, _) => {
            let message = format!("aggregate {} is not supported", names_of(function));
            let hint = "collect the values with ARRAY_AGG, or text with LISTAGG";
            return Err(SqlError::plan(message).hint(hint));
        }
        _ => return refuse("one value"),
    })
}

fn is_comparable(logical: &LogicalType) -> bool {
    !matches!(
        logical,
        LogicalType::Array(_)
            | LogicalType::Map(..)
            | LogicalType::Multiset(_)
            | LogicalType::Row(_)
    )
}

fn names_of(function: F) -> &'static str {
    AGGREGATES
        .iter()
        .find(|(_, known)| *known == function)
        .map_or("aggregate", |(name, _)| name)
}
