//! A row as a JSON object.
//!
//! ROW and MAP are objects, ARRAY an array, MULTISET an object of counts; keys are text, a NULL key
//! is `null`. BIGINT is a number, though some readers round it beyond 2^53; what no reader should
//! round (DECIMAL) and what JSON has no number for (NaN) is text, as times and bytes are.

use std::collections::HashSet;

use proto::types::{Field, LogicalType};
use serde_json::{Map, Number, Value};

use super::ResultRow;

/// Names of the columns for use as JSON keys: a name that is there twice gets a number.
#[must_use]
pub fn column_names(columns: &[Field]) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(columns.len());
    let mut taken: HashSet<String> = HashSet::with_capacity(columns.len());
    for column in columns {
        let mut name = column.name.clone();
        let mut number = 0;
        while !taken.insert(name.clone()) {
            number += 1;
            name = format!("{}_{number}", column.name);
        }
        names.push(name);
    }
    names
}

/// The row's values by column name. `names` are those of [`column_names`].
#[must_use]
pub fn row_json(row: &ResultRow, columns: &[Field], names: &[String]) -> Value {
    let typed = columns.iter().zip(names).zip(row.values());
    let object: Map<String, Value> = typed
        .map(|((column, name), text)| {
            let value = text.map_or(Value::Null, |text| value(&column.data_type.logical, &text));
            (name.clone(), value)
        })
        .collect();
    Value::Object(object)
}

fn value(logical: &LogicalType, text: &str) -> Value {
    match carried(logical, text) {
        Some(carried) => nested(logical, carried),
        None => plain(logical, text),
    }
}

/// A nested value in the form in which [`ResultRow`] has it; `None` for a plain one.
pub(super) fn carried(logical: &LogicalType, text: &str) -> Option<Value> {
    let nested = matches!(
        logical,
        LogicalType::Array(_)
            | LogicalType::Row(_)
            | LogicalType::Map(_, _)
            | LogicalType::Multiset(_)
    );
    nested.then(|| serde_json::from_str(text).ok()).flatten()
}

fn nested(logical: &LogicalType, carried: Value) -> Value {
    match (logical, carried) {
        (_, Value::String(text)) => plain(logical, &text),
        (LogicalType::Array(element), Value::Array(items)) => items
            .into_iter()
            .map(|item| nested(&element.logical, item))
            .collect(),
        (LogicalType::Row(fields), Value::Array(items)) => column_names(fields)
            .into_iter()
            .zip(fields)
            .zip(items)
            .map(|((name, field), item)| (name, nested(&field.data_type.logical, item)))
            .collect(),
        (LogicalType::Map(key, value), Value::Array(pairs)) => {
            entries(&key.logical, &value.logical, pairs)
        }
        (LogicalType::Multiset(element), Value::Array(pairs)) => {
            entries(&element.logical, &LogicalType::Int, pairs)
        }
        (_, other) => other,
    }
}

fn entries(key: &LogicalType, value: &LogicalType, pairs: Vec<Value>) -> Value {
    let entry = |pair: Value| {
        let Value::Array(pair) = pair else {
            return None;
        };
        let [name, item] = <[Value; 2]>::try_from(pair).ok()?;
        let name = match name {
            Value::String(text) => text,
            other => nested(key, other).to_string(),
        };
        Some((name, nested(value, item)))
    };
    let object: Map<String, Value> = pairs.into_iter().filter_map(entry).collect();
    Value::Object(object)
}

fn plain(logical: &LogicalType, text: &str) -> Value {
    let number = match logical {
        LogicalType::Boolean => return Value::Bool(text == "true"),
        LogicalType::TinyInt | LogicalType::SmallInt | LogicalType::Int | LogicalType::BigInt => {
            text.parse::<i64>().ok().map(Number::from)
        }
        LogicalType::Float | LogicalType::Double => {
            text.parse::<f64>().ok().and_then(Number::from_f64)
        }
        _ => None,
    };
    number.map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

#[cfg(test)]
mod tests {
    use proto::types::RowKind;

    use super::*;

    #[test]
    fn values_keep_their_kind() {
        let field = |name: &str, data_type: &str| {
            Field::new(name, data_type.parse().expect("a valid type"))
        };
        let columns = [
            field("a", "BOOLEAN"),
            field("b", "BIGINT"),
            field("b", "DOUBLE"),
            field("b", "DOUBLE"),
            field("c", "DECIMAL(10, 2)"),
            field("d", "STRING"),
            field("e", "INT"),
        ];
        let row = ResultRow {
            kind: RowKind::Insert,
            line: "true\t-7\t1.5E10\tNaN\t1.50\ta\\tb\t\\N".into(),
        };
        let names = column_names(&columns);
        assert_eq!(
            row_json(&row, &columns, &names).to_string(),
            r#"{"a":true,"b":-7,"b_1":15000000000.0,"b_2":"NaN","c":"1.50","d":"a\tb","e":null}"#
        );
    }

    #[test]
    fn nested_values_keep_their_structure() {
        let check = |data_type: &str, carried: &str, expected: &str| {
            let columns = [Field::new("v", data_type.parse().expect("a valid type"))];
            let mut line = String::new();
            crate::results::escape(carried, &mut line);
            let row = ResultRow {
                kind: RowKind::Insert,
                line: line.into(),
            };
            let json = row_json(&row, &columns, &column_names(&columns));
            assert_eq!(json.to_string(), format!(r#"{{"v":{expected}}}"#));
        };
        check(
            "ARRAY<STRING>",
            r#"["a","\\N",null,"x\ty"]"#,
            r#"["a","\\N",null,"x\ty"]"#,
        );
        check(
            "ROW<a INT, b ROW<c DECIMAL(4, 2), c DOUBLE>>",
            r#"["1",["1.50","1.0E-4"]]"#,
            r#"{"a":1,"b":{"c":"1.50","c_1":0.0001}}"#,
        );
        check(
            "MAP<INT, ARRAY<BOOLEAN>>",
            r#"[["1",["true",null]],["2",null],[null,[]]]"#,
            r#"{"1":[true,null],"2":null,"null":[]}"#,
        );
        check(
            "MULTISET<ROW<a INT>>",
            r#"[[["1"],"2"]]"#,
            r#"{"{\"a\":1}":2}"#,
        );
    }
}
