//! Functions on ARRAY, MAP and MULTISET. Element types widen so that both sides fit.

use proto::plan::ScalarFunction as F;
use proto::types::{DataType, LogicalType};

use super::Arg::{Any, Array, Boolean, Collection, Int, Map};
use super::Returns::{SameAs, Type, With};
use super::{Signature, any_nullable, sig};
use crate::bind::coerce::coerce;
use crate::bind::types::{implicit_cast_allowed, least_restrictive};
use crate::error::SqlError;
use crate::logical::Expr;

/// The family.
pub(super) static SIGNATURES: &[Signature] = &[
    sig(
        "CARDINALITY",
        F::Cardinality,
        &[Collection],
        Type(LogicalType::Int),
    ),
    sig("ELEMENT", F::Element, &[Array], With(element)),
    sig(
        "ARRAY_CONTAINS",
        F::ArrayContains,
        &[Array, Any],
        Type(LogicalType::Boolean),
    ),
    sig("ARRAY_DISTINCT", F::ArrayDistinct, &[Array], SameAs(0)),
    sig(
        "ARRAY_POSITION",
        F::ArrayPosition,
        &[Array, Any],
        Type(LogicalType::Int),
    ),
    sig("ARRAY_REVERSE", F::ArrayReverse, &[Array], SameAs(0)),
    sig("ARRAY_SLICE", F::ArraySlice, &[Array, Int, Int], SameAs(0)).optional(1),
    sig(
        "ARRAY_SORT",
        F::ArraySort,
        &[Array, Boolean, Boolean],
        SameAs(0),
    )
    .optional(2),
    sig("ARRAY_MAX", F::ArrayMax, &[Array], With(element)),
    sig("ARRAY_MIN", F::ArrayMin, &[Array], With(element)),
    sig("ARRAY_CONCAT", F::ArrayConcat, &[Array], With(common)).variadic(),
    sig("ARRAY_UNION", F::ArrayUnion, &[Array, Array], With(common)),
    sig(
        "ARRAY_INTERSECT",
        F::ArrayIntersect,
        &[Array, Array],
        With(common),
    ),
    sig(
        "ARRAY_EXCEPT",
        F::ArrayExcept,
        &[Array, Array],
        With(common),
    ),
    sig(
        "ARRAY_APPEND",
        F::ArrayAppend,
        &[Array, Any],
        With(with_element),
    ),
    sig(
        "ARRAY_PREPEND",
        F::ArrayPrepend,
        &[Array, Any],
        With(with_element),
    ),
    sig("ARRAY_REMOVE", F::ArrayRemove, &[Array, Any], SameAs(0)),
    sig("MAP_KEYS", F::MapKeys, &[Map], With(keys)),
    sig("MAP_VALUES", F::MapValues, &[Map], With(values)),
    sig("MAP_ENTRIES", F::MapEntries, &[Map], With(entries)),
    sig(
        "MAP_FROM_ARRAYS",
        F::MapFromArrays,
        &[Array, Array],
        With(from_arrays),
    ),
    sig("MAP_UNION", F::MapUnion, &[Map], With(common)).variadic(),
];

/// Casts collections and elements that go together to one type.
pub(super) fn align(
    function: F,
    args: Vec<Expr>,
    result: &DataType,
) -> Result<Vec<Expr>, SqlError> {
    let element = match function {
        F::ArrayConcat | F::ArrayUnion | F::ArrayIntersect | F::ArrayExcept | F::MapUnion => {
            return Ok(args
                .into_iter()
                .map(|arg| coerce(arg, &result.logical))
                .collect());
        }
        F::ArrayAppend | F::ArrayPrepend => match &result.logical {
            LogicalType::Array(element) => (**element).clone(),
            _ => return Ok(args),
        },
        F::ArrayContains | F::ArrayPosition | F::ArrayRemove => {
            let element = element_of(&args[0]);
            if !implicit_cast_allowed(&args[1].data_type.logical, &element.logical) {
                return Err(mixed("array and element", &args));
            }
            element
        }
        _ => return Ok(args),
    };
    let mut args = args.into_iter();
    let array = args
        .next()
        .map(|array| coerce(array, &LogicalType::Array(Box::new(element.clone()))));
    let rest = args.map(|arg| coerce(arg, &element.logical));
    Ok(array.into_iter().chain(rest).collect())
}

fn element_of(expr: &Expr) -> DataType {
    match &expr.data_type.logical {
        LogicalType::Array(element) => (**element).clone(),
        _ => LogicalType::Null.nullable(),
    }
}

fn array_of(element: DataType, args: &[Expr]) -> DataType {
    let logical = LogicalType::Array(Box::new(element));
    DataType {
        logical,
        nullable: any_nullable(args),
    }
}

fn element(args: &[Expr]) -> Result<DataType, SqlError> {
    Ok(element_of(&args[0]).with_nullable(true))
}

fn mixed(what: &str, args: &[Expr]) -> SqlError {
    let types: Vec<String> = args
        .iter()
        .map(|arg| arg.data_type.logical.to_string())
        .collect();
    SqlError::validate(format!(
        "the {what} {} have no common type",
        types.join(" and ")
    ))
    .hint("cast one of them")
}

fn common(args: &[Expr]) -> Result<DataType, SqlError> {
    let types: Vec<DataType> = args.iter().map(|arg| arg.data_type.clone()).collect();
    least_restrictive(&types).ok_or_else(|| mixed("collections", args))
}

fn with_element(args: &[Expr]) -> Result<DataType, SqlError> {
    let element = least_restrictive(&[element_of(&args[0]), args[1].data_type.clone()])
        .ok_or_else(|| mixed("array and element", args))?;
    let logical = LogicalType::Array(Box::new(element));
    Ok(DataType {
        logical,
        nullable: args[0].data_type.nullable,
    })
}

fn key_and_value(expr: &Expr) -> (DataType, DataType) {
    match &expr.data_type.logical {
        LogicalType::Map(key, value) => ((**key).clone(), (**value).clone()),
        _ => (LogicalType::Null.nullable(), LogicalType::Null.nullable()),
    }
}

fn keys(args: &[Expr]) -> Result<DataType, SqlError> {
    Ok(array_of(key_and_value(&args[0]).0, args))
}

fn values(args: &[Expr]) -> Result<DataType, SqlError> {
    Ok(array_of(key_and_value(&args[0]).1, args))
}

fn entries(args: &[Expr]) -> Result<DataType, SqlError> {
    let (key, value) = key_and_value(&args[0]);
    let fields = vec![
        proto::types::Field::new("key", key),
        proto::types::Field::new("value", value),
    ];
    Ok(array_of(LogicalType::Row(fields).not_null(), args))
}

fn from_arrays(args: &[Expr]) -> Result<DataType, SqlError> {
    let logical = LogicalType::Map(
        Box::new(element_of(&args[0])),
        Box::new(element_of(&args[1])),
    );
    Ok(DataType {
        logical,
        nullable: any_nullable(args),
    })
}
