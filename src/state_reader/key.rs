//! A key as a client writes it, in JSON, as columns of one row.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, BinaryArray, StringArray},
    compute::{CastOptions, cast_with_options},
};
use control_plane::api::StateQueryError;
use engine::schema::arrow_type;
use proto::types::{Field, LogicalType};
use serde_json::Value;

use super::{columns_text, hex};

/// The columns of a key, or with `is_whole` unset the first ones.
///
/// # Errors
/// When it has other columns, or values that are none of their types.
pub(super) fn columns(
    fields: &[Field],
    key: &Value,
    is_whole: bool,
) -> Result<Vec<ArrayRef>, StateQueryError> {
    let error = |why: String| StateQueryError::Key {
        why,
        columns: columns_text(fields),
    };
    let values = values(fields, key).map_err(error)?;
    if is_whole && values.len() < fields.len() {
        let why = format!("{} of {} columns are given", values.len(), fields.len());
        return Err(error(why));
    }
    let pairs = fields.iter().zip(values);
    pairs
        .map(|(field, value)| column(field, value).map_err(error))
        .collect()
}

/// The values in the order of the columns.
fn values<'a>(fields: &[Field], key: &'a Value) -> Result<Vec<&'a Value>, String> {
    match key {
        Value::Array(values) if values.len() > fields.len() => Err(format!(
            "{} values are given for {} columns",
            values.len(),
            fields.len()
        )),
        Value::Array(values) => Ok(values.iter().collect()),
        Value::Object(values) => {
            let known = |name: &&String| fields.iter().any(|field| field.name == **name);
            if let Some(unknown) = values.keys().find(|name| !known(name)) {
                return Err(format!("there is no column `{unknown}` in it"));
            }
            let given = fields.iter().map_while(|field| values.get(&field.name));
            let given: Vec<&Value> = given.collect();
            match given.len() == values.len() {
                true => Ok(given),
                false => Err("a column is left out that comes before another one".to_owned()),
            }
        }
        value if fields.is_empty() => Err(format!("{value} is given for no column")),
        value => Ok(vec![value]),
    }
}

fn column(field: &Field, value: &Value) -> Result<ArrayRef, String> {
    let logical = &field.data_type.logical;
    let text = match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Array(_) | Value::Object(_) => {
            return Err(format!("`{}` cannot be given: it is nested", field.name));
        }
    };
    let wrong = || {
        let given = text.as_deref().unwrap_or("NULL");
        format!("`{given}` is no {logical} for `{}`", field.name)
    };
    let data_type = arrow_type(logical);
    if let LogicalType::Binary(_) | LogicalType::Varbinary(_) = logical {
        let bytes = text.as_deref().map(|text| bytes_of(text).ok_or_else(wrong));
        let bytes = bytes.transpose()?;
        return Ok(Arc::new(BinaryArray::from(vec![bytes.as_deref()])));
    }
    let strings: ArrayRef = Arc::new(StringArray::from(vec![text.as_deref()]));
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    cast_with_options(&strings, &data_type, &options).map_err(|_| wrong())
}

/// The bytes of `x'0aff'`, as results show them.
fn bytes_of(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("x'")?.strip_suffix('\'')?;
    hex::read(digits)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(types: &[(&str, &str)]) -> Vec<Field> {
        let field = |(name, text): &(&str, &str)| Field::new(*name, text.parse().expect("a type"));
        types.iter().map(field).collect()
    }

    fn shown(types: &[(&str, &str)], key: &Value, is_whole: bool) -> String {
        match columns(&fields(types), key, is_whole) {
            Ok(columns) => {
                let value = |column: &ArrayRef| {
                    arrow::util::display::array_value_to_string(column, 0).expect("a value")
                };
                columns.iter().map(value).collect::<Vec<_>>().join("|")
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn keys_come_in_several_forms() {
        let two = [("name", "STRING"), ("n", "INT")];
        assert_eq!(shown(&two, &json!(["a", 1]), true), "a|1");
        assert_eq!(shown(&two, &json!({"n": 1, "name": "a"}), true), "a|1");
        assert_eq!(shown(&two, &json!("a"), false), "a");
        assert_eq!(shown(&two, &json!([]), false), "");
        assert_eq!(shown(&[("n", "BIGINT")], &json!(-7), true), "-7");
        assert_eq!(shown(&[("n", "STRING")], &json!(7), true), "7");
        assert_eq!(shown(&[("n", "BIGINT")], &Value::Null, true), "");
        let others = [
            ("a", "BOOLEAN"),
            ("b", "DECIMAL(5, 2)"),
            ("c", "TIMESTAMP(3)"),
            ("d", "DATE"),
            ("e", "BYTES"),
            ("f", "DOUBLE"),
        ];
        let key = json!([
            true,
            "1.5",
            "2026-01-02 03:04:05.006",
            "2026-01-02",
            "x'0aff'",
            1.5
        ]);
        let expected = "true|1.50|2026-01-02T03:04:05.006|2026-01-02|0aff|1.5";
        assert_eq!(shown(&others, &key, true), expected);
    }

    #[test]
    fn keys_that_do_not_fit_are_refused_with_what_would() {
        let two = [("name", "STRING"), ("n", "INT")];
        let columns = "the key is (name STRING, n INT)";
        let check = |key: Value, why: &str| {
            assert_eq!(shown(&two, &key, true), format!("{why}; {columns}"));
        };
        check(json!("a"), "1 of 2 columns are given");
        check(json!(["a", 1, 2]), "3 values are given for 2 columns");
        check(json!(["a", "x"]), "`x` is no INT for `n`");
        check(json!(["a", 1.5]), "`1.5` is no INT for `n`");
        check(
            json!(["a", 3_000_000_000_i64]),
            "`3000000000` is no INT for `n`",
        );
        check(
            json!({"n": 1}),
            "a column is left out that comes before another one",
        );
        check(json!({"m": 1}), "there is no column `m` in it");
        check(json!([["a"], 1]), "`name` cannot be given: it is nested");
        assert_eq!(
            shown(&[], &json!(1), true),
            "1 is given for no column; the key is ()"
        );
    }
}
