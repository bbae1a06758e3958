//! JSON as text: parsed values and SQL values written the way the dialect's reference writes them
//! (no blanks, numbers in Java's form).

use std::fmt::Write as _;

use arrow::array::{Array, AsArray as _};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use proto::types::LogicalType;
use serde_json::{Number, Value};

use crate::expr::{
    format::{Style, write_double, write_value},
    value::NullAt as _,
};

/// Appends a parsed value.
pub(super) fn write_json(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) => write_number(number, out),
        Value::String(text) => write_quoted(text, out),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_json(item, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            for (index, (name, member)) in members.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_quoted(name, out);
                out.push(':');
                write_json(member, out);
            }
            out.push('}');
        }
    }
}

/// Appends a JSON number.
pub(super) fn write_number(number: &Number, out: &mut String) {
    match number.as_f64() {
        Some(double) if number.is_f64() => write_double(double, out),
        _ => {
            let _ = write!(out, "{number}");
        }
    }
}

/// Appends a text in quotes.
pub(super) fn write_quoted(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Appends a SQL value as JSON.
pub(super) fn write_sql(array: &dyn Array, row: usize, logical: &LogicalType, out: &mut String) {
    if array.is_null_at(row) {
        out.push_str("null");
        return;
    }
    match logical {
        LogicalType::Boolean => {
            out.push_str(if array.as_boolean().value(row) {
                "true"
            } else {
                "false"
            });
        }
        LogicalType::Float | LogicalType::Double => {
            let start = out.len();
            write_value(array, row, logical, Style::Cast, out);
            // JSON has no NaN and no infinities: they become texts.
            if !out[start..].ends_with(|c: char| c.is_ascii_digit()) {
                let special = out.split_off(start);
                write_quoted(&special, out);
            }
        }
        logical if logical.is_numeric() => write_value(array, row, logical, Style::Cast, out),
        logical if logical.is_character() => {
            write_quoted(array.as_string::<i32>().value(row), out);
        }
        logical if logical.is_binary() => {
            write_quoted(&STANDARD.encode(array.as_binary::<i32>().value(row)), out);
        }
        LogicalType::Array(element) => {
            let items = array.as_list::<i32>().value(row);
            out.push('[');
            for item in 0..items.len() {
                if item > 0 {
                    out.push(',');
                }
                write_sql(&items, item, &element.logical, out);
            }
            out.push(']');
        }
        LogicalType::Row(fields) => {
            let columns = array.as_struct();
            out.push('{');
            for (index, field) in fields.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_quoted(&field.name, out);
                out.push(':');
                write_sql(columns.column(index), row, &field.data_type.logical, out);
            }
            out.push('}');
        }
        LogicalType::Map(key, value) => write_map(array, row, &key.logical, &value.logical, out),
        LogicalType::Multiset(element) => {
            write_map(array, row, &element.logical, &LogicalType::Int, out);
        }
        logical => {
            let mut text = String::new();
            write_value(array, row, logical, Style::Cast, &mut text);
            write_quoted(&text, out);
        }
    }
}

fn write_map(
    array: &dyn Array,
    row: usize,
    key: &LogicalType,
    value: &LogicalType,
    out: &mut String,
) {
    let entries = array.as_map().value(row);
    out.push('{');
    let mut name = String::new();
    for entry in 0..entries.len() {
        if entry > 0 {
            out.push(',');
        }
        name.clear();
        write_value(entries.column(0), entry, key, Style::Cast, &mut name);
        write_quoted(&name, out);
        out.push(':');
        write_sql(entries.column(1), entry, value, out);
    }
    out.push('}');
}
