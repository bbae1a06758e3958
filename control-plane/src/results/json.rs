//! A row as a JSON object. Numbers that JSON readers would round (DECIMAL, NaN) stay text.

use proto::types::{Field, LogicalType};
use serde_json::{Map, Number, Value};

use super::ResultRow;

/// Names of the columns for use as JSON keys: a name that is there twice gets a number.
#[must_use]
pub fn column_names(columns: &[Field]) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(columns.len());
    for column in columns {
        let mut name = column.name.clone();
        let mut number = 0;
        while names.contains(&name) {
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
}
