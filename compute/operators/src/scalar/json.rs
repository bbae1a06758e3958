//! IS JSON, JSON_EXISTS, JSON_VALUE, JSON_QUERY and JSON_LENGTH.

use std::{fmt::Write as _, sync::Arc};

use arrow::{
    array::{ArrayRef, BooleanBuilder},
    datatypes::{DataType as ArrowType, Int32Type},
};
use proto::{plan::ScalarFunction, types::LogicalType};
use serde_json::Value;

use super::{
    Kernel, Signature,
    json_path::{Found, JsonPath},
    json_text::{write_json, write_number},
    kernel::{by_row, strings},
    pattern::Cache,
};
use crate::expr::{
    EvalError, ExprError,
    cast::{self, Mode},
    value::{Args, Strings, is_valid},
};

/// Makes the kernel of a JSON query function.
pub(super) fn build(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    use ScalarFunction as F;
    match (signature.function, signature.args.len()) {
        (F::IsJson, 1 | 2) => is_json(signature),
        (F::JsonExists, 2 | 3) => json_exists(signature),
        (F::JsonValue, 6) => json_value(signature),
        (F::JsonQuery, 5) => json_query(signature),
        (F::JsonLength, 1 | 2) => json_length(signature),
        _ => Err(signature.unsupported()),
    }
}

/// The path argument.
enum Paths {
    Constant(Arc<JsonPath>),
    PerRow,
}

impl Paths {
    fn new(signature: &Signature<'_>) -> Result<Self, ExprError> {
        match signature.constant_text(1) {
            Some(path) => {
                let path = JsonPath::new(path).map_err(|message| signature.invalid(message))?;
                Ok(Paths::Constant(Arc::new(path)))
            }
            None => Ok(Paths::PerRow),
        }
    }

    fn rows<'a>(&self, args: &Args<'a>) -> RowPaths<'a> {
        match self {
            Paths::Constant(path) => RowPaths::Constant(Arc::clone(path)),
            Paths::PerRow => RowPaths::PerRow(args.strings(1), Cache::new(JsonPath::new)),
        }
    }
}

enum RowPaths<'a> {
    Constant(Arc<JsonPath>),
    PerRow(Strings<'a>, Cache<JsonPath>),
}

impl RowPaths<'_> {
    fn at(&mut self, row: usize) -> Result<Arc<JsonPath>, EvalError> {
        match self {
            RowPaths::Constant(path) => Ok(Arc::clone(path)),
            RowPaths::PerRow(paths, cache) => cache
                .get(paths.at(row))
                .map_err(|message| EvalError::function("a JSON path", message)),
        }
    }
}

fn is_json(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    let accepts: fn(&Value) -> bool = match signature.constant_text(1).unwrap_or("VALUE") {
        "VALUE" => |_| true,
        "SCALAR" => |value| !value.is_array() && !value.is_object(),
        "ARRAY" => Value::is_array,
        "OBJECT" => Value::is_object,
        other => return Err(signature.invalid(format!("unknown kind `{other}`"))),
    };
    Ok(Box::new(move |args| {
        let texts = args.strings(0);
        let mut builder = BooleanBuilder::with_capacity(args.rows);
        for row in 0..args.rows {
            // NULL is no JSON.
            let value = texts
                .get(row)
                .and_then(|text| serde_json::from_str(text).ok());
            builder.append_value(value.as_ref().is_some_and(accepts));
        }
        Ok(Arc::new(builder.finish()))
    }))
}

fn json_exists(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    let paths = Paths::new(signature)?;
    let on_error = match signature.constant_text(2).unwrap_or("FALSE") {
        "TRUE" => Some(Some(true)),
        "FALSE" => Some(Some(false)),
        "UNKNOWN" => Some(None),
        "ERROR" => None,
        other => return Err(signature.invalid(format!("unknown behaviour `{other}`"))),
    };
    Ok(Box::new(move |args| {
        let texts = args.strings(0);
        let mut rows = paths.rows(args);
        let nulls = args.nulls_of(0..2);
        let mut builder = BooleanBuilder::with_capacity(args.rows);
        for row in 0..args.rows {
            if !is_valid(nulls.as_ref(), row) {
                builder.append_null();
                continue;
            }
            let path = rows.at(row)?;
            let exists = serde_json::from_str::<Value>(texts.at(row))
                .ok()
                .and_then(|document| match path.find(&document) {
                    Found::Missing if path.lax => Some(false),
                    Found::Missing => None,
                    Found::One(_) | Found::Many(_) => Some(true),
                });
            builder.append_option(match (exists, on_error) {
                (Some(exists), _) => Some(exists),
                (None, Some(default)) => default,
                (None, None) => return Err(not_found("JSON_EXISTS")),
            });
        }
        Ok(Arc::new(builder.finish()))
    }))
}

fn not_found(function: &'static str) -> EvalError {
    EvalError::function(function, "the path leads nowhere, or the text is not JSON")
}

/// What stands for a value that is missing or wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Behaviour {
    Null,
    Error,
    /// The given operand's value.
    Default(usize),
    EmptyArray,
    EmptyObject,
}

fn behaviour(signature: &Signature<'_>, kind: usize, value: usize) -> Result<Behaviour, ExprError> {
    match signature.constant_text(kind).unwrap_or("NULL") {
        "NULL" => Ok(Behaviour::Null),
        "ERROR" => Ok(Behaviour::Error),
        "DEFAULT" => Ok(Behaviour::Default(value)),
        "EMPTY ARRAY" | "EMPTY" => Ok(Behaviour::EmptyArray),
        "EMPTY OBJECT" => Ok(Behaviour::EmptyObject),
        other => Err(signature.invalid(format!("unknown behaviour `{other}`"))),
    }
}

/// How a row's query ended.
enum Outcome {
    /// Its text was written.
    Value,
    Empty,
    Error,
}

/// Writes what a behaviour stands for; whether the row has a value.
fn fall_back(
    behaviour: Behaviour,
    function: &'static str,
    args: &Args<'_>,
    row: usize,
    out: &mut String,
) -> Result<bool, EvalError> {
    match behaviour {
        Behaviour::Null => return Ok(false),
        Behaviour::Error => return Err(not_found(function)),
        Behaviour::EmptyArray => out.push_str("[]"),
        Behaviour::EmptyObject => out.push_str("{}"),
        Behaviour::Default(value) => match args.strings(value).get(row) {
            Some(text) => out.push_str(text),
            None => return Ok(false),
        },
    }
    Ok(true)
}

/// The texts of a query, one row after the other.
fn query(
    args: &Args<'_>,
    paths: &Paths,
    function: &'static str,
    behaviours: (Behaviour, Behaviour),
    evaluate: impl Fn(&Found<'_>, bool, &mut String) -> Outcome,
) -> Result<ArrayRef, EvalError> {
    let texts = args.strings(0);
    let mut rows = paths.rows(args);
    let (on_empty, on_error) = behaviours;
    let nulls = args.nulls_of(0..2);
    let mut buffer = String::new();
    strings(args.rows, nulls.as_ref(), args.rows * 16, |row, out| {
        let path = rows.at(row)?;
        buffer.clear();
        let outcome = match serde_json::from_str::<Value>(texts.at(row)) {
            Ok(document) => match path.find(&document) {
                Found::Missing if path.lax => Outcome::Empty,
                Found::Missing => Outcome::Error,
                found => evaluate(&found, path.lax, &mut buffer),
            },
            Err(_) => Outcome::Error,
        };
        let has_value = match outcome {
            Outcome::Value => true,
            Outcome::Empty => fall_back(on_empty, function, args, row, &mut buffer)?,
            Outcome::Error => fall_back(on_error, function, args, row, &mut buffer)?,
        };
        let _ = out.write_str(&buffer);
        Ok(has_value)
    })
}

fn json_value(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    let paths = Paths::new(signature)?;
    let behaviours = (behaviour(signature, 2, 3)?, behaviour(signature, 4, 5)?);
    let result = &signature.result.logical;
    // A value of another type counts as NULL, like one that does not convert.
    let convert = match result {
        LogicalType::Varchar(_) | LogicalType::Char(_) => None,
        other => Some(cast::build(&LogicalType::STRING, other, Mode::Try)?),
    };
    Ok(Box::new(move |args| {
        let texts = query(args, &paths, "JSON_VALUE", behaviours, |found, lax, out| {
            let wrong = if lax { Outcome::Empty } else { Outcome::Error };
            match found {
                Found::One(Value::Null) => Outcome::Empty,
                Found::One(Value::Bool(value)) => {
                    out.push_str(if *value { "true" } else { "false" });
                    Outcome::Value
                }
                Found::One(Value::Number(number)) => {
                    write_number(number, out);
                    Outcome::Value
                }
                Found::One(Value::String(text)) => {
                    out.push_str(text);
                    Outcome::Value
                }
                _ => wrong,
            }
        })?;
        match &convert {
            Some(cast) => (cast.convert)(&texts),
            None => Ok(texts),
        }
    }))
}

fn json_query(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Wrapper {
        Never,
        UnlessArray,
        Always,
    }
    let words = signature.constant_text(2).unwrap_or("WITHOUT");
    let wrapper = if words.starts_with("WITHOUT") {
        Wrapper::Never
    } else if words.contains("CONDITIONAL") && !words.contains("UNCONDITIONAL") {
        Wrapper::UnlessArray
    } else {
        Wrapper::Always
    };
    let paths = Paths::new(signature)?;
    let behaviours = (behaviour(signature, 3, 3)?, behaviour(signature, 4, 4)?);
    Ok(Box::new(move |args| {
        query(args, &paths, "JSON_QUERY", behaviours, |found, lax, out| {
            let many;
            let value: &Value = match found {
                Found::One(Value::Null) | Found::Missing => return Outcome::Empty,
                Found::One(value) => value,
                Found::Many(values) => {
                    many = Value::Array(values.iter().map(|value| (*value).clone()).collect());
                    &many
                }
            };
            let wrap = match wrapper {
                Wrapper::Never if !value.is_array() && !value.is_object() => {
                    return if lax { Outcome::Empty } else { Outcome::Error };
                }
                Wrapper::Never => false,
                Wrapper::UnlessArray => !value.is_array(),
                Wrapper::Always => true,
            };
            if wrap {
                out.push('[');
            }
            write_json(value, out);
            if wrap {
                out.push(']');
            }
            Outcome::Value
        })
    }))
}

fn json_length(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    let paths = if signature.args.len() > 1 {
        Paths::new(signature)?
    } else {
        Paths::Constant(Arc::new(
            JsonPath::new("$").map_err(|e| signature.invalid(e))?,
        ))
    };
    Ok(Box::new(move |args| {
        let texts = args.strings(0);
        let mut rows = paths.rows(args);
        by_row::<Int32Type>(args, &ArrowType::Int32, |row| {
            let path = rows.at(row)?;
            let Ok(document) = serde_json::from_str::<Value>(texts.at(row)) else {
                return Ok(None);
            };
            Ok(match path.find(&document) {
                Found::Missing => None,
                Found::One(Value::Array(items)) => Some(items.len() as i32),
                Found::One(Value::Object(members)) => Some(members.len() as i32),
                Found::One(_) => Some(1),
                Found::Many(values) => Some(values.len() as i32),
            })
        })
    }))
}
