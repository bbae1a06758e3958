//! JSON_OBJECT, JSON_ARRAY and texts to and from JSON strings.

use std::fmt::Write as _;

use arrow::array::AsArray as _;
use proto::{plan::ScalarFunction, types::LogicalType};
use serde_json::Value;

use super::{
    Kernel, Signature,
    json_text::{write_quoted, write_sql},
    kernel::{strings, unary_text},
};
use crate::expr::{
    EvalError, ExprError,
    value::{Args, NullAt as _},
};

/// Makes the kernel of a JSON constructor.
pub(super) fn build(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    use ScalarFunction as F;
    let count = signature.args.len();
    Ok(match signature.function {
        F::JsonObject if count % 2 == 1 => object(signature)?,
        F::JsonArray if count >= 1 => array(signature)?,
        F::JsonString if count == 1 => {
            let logical = signature.args[0].logical.clone();
            Box::new(move |args| {
                let value = args.value(0);
                let mut text = String::new();
                strings(
                    args.rows,
                    args.nulls().as_ref(),
                    args.rows * 16,
                    |row, out| {
                        text.clear();
                        write_sql(value.array(), row * value.step(), &logical, &mut text);
                        let _ = out.write_str(&text);
                        Ok(true)
                    },
                )
            })
        }
        F::JsonQuote if count == 1 => Box::new(|args| unary_text(args, write_quoted)),
        F::JsonUnquote if count == 1 => Box::new(|args| {
            unary_text(args, |text, out| {
                let quoted = text.starts_with('"') && text.ends_with('"') && text.len() > 1;
                match serde_json::from_str::<Value>(text) {
                    Ok(Value::String(inner)) if quoted => out.push_str(&inner),
                    _ => out.push_str(text),
                }
            })
        }),
        F::Json if count == 1 => Box::new(|args| {
            let texts = args.strings(0);
            strings(
                args.rows,
                args.nulls().as_ref(),
                texts.capacity(),
                |row, out| {
                    let value: Value = serde_json::from_str(texts.at(row))
                        .map_err(|error| EvalError::function("JSON", error.to_string()))?;
                    let mut text = String::new();
                    super::json_text::write_json(&value, &mut text);
                    let _ = out.write_str(&text);
                    Ok(true)
                },
            )
        }),
        _ => return Err(signature.unsupported()),
    })
}

/// Whether NULLs are left out.
fn absent_on_null(signature: &Signature<'_>) -> Result<bool, ExprError> {
    match signature.constant_text(0) {
        Some("ABSENT") => Ok(true),
        Some("NULL") => Ok(false),
        _ => Err(signature.invalid("the behaviour on NULL must be NULL or ABSENT")),
    }
}

/// How each argument is written: JSON texts as they are, everything else as a value.
struct Values {
    types: Vec<LogicalType>,
    is_json: Vec<bool>,
}

impl Values {
    fn new(signature: &Signature<'_>) -> Self {
        use ScalarFunction as F;
        Values {
            types: signature
                .args
                .iter()
                .map(|arg| arg.logical.clone())
                .collect(),
            is_json: signature
                .made_by
                .iter()
                .map(|made_by| matches!(made_by, Some(F::JsonObject | F::JsonArray | F::Json)))
                .collect(),
        }
    }

    fn is_null(&self, args: &Args<'_>, index: usize, row: usize) -> bool {
        let value = args.value(index);
        value.array().is_null_at(row * value.step())
    }

    fn write(&self, args: &Args<'_>, index: usize, row: usize, out: &mut String) {
        let value = args.value(index);
        let at = row * value.step();
        if self.is_json[index] && !value.array().is_null_at(at) {
            out.push_str(value.array().as_string::<i32>().value(at));
        } else {
            write_sql(value.array(), at, &self.types[index], out);
        }
    }
}

fn object(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    let absent = absent_on_null(signature)?;
    if !signature
        .args
        .iter()
        .skip(1)
        .step_by(2)
        .all(|key| key.logical.is_character())
    {
        return Err(signature.unsupported());
    }
    let values = Values::new(signature);
    Ok(Box::new(move |args| {
        let mut text = String::new();
        strings(args.rows, None, args.rows * 32, |row, out| {
            text.clear();
            text.push('{');
            for key in (1..args.len()).step_by(2) {
                if absent && values.is_null(args, key + 1, row) {
                    continue;
                }
                let name = args
                    .strings(key)
                    .get(row)
                    .ok_or_else(|| EvalError::function("JSON_OBJECT", "a key is NULL"))?;
                if text.len() > 1 {
                    text.push(',');
                }
                write_quoted(name, &mut text);
                text.push(':');
                values.write(args, key + 1, row, &mut text);
            }
            text.push('}');
            let _ = out.write_str(&text);
            Ok(true)
        })
    }))
}

fn array(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    let absent = absent_on_null(signature)?;
    let values = Values::new(signature);
    Ok(Box::new(move |args| {
        let mut text = String::new();
        strings(args.rows, None, args.rows * 32, |row, out| {
            text.clear();
            text.push('[');
            for index in 1..args.len() {
                if absent && values.is_null(args, index, row) {
                    continue;
                }
                if text.len() > 1 {
                    text.push(',');
                }
                values.write(args, index, row, &mut text);
            }
            text.push(']');
            let _ = out.write_str(&text);
            Ok(true)
        })
    }))
}
