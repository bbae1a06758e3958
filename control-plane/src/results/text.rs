//! A row's values as text for people and tab-separated files: ARRAY `[a, b]`, ROW `(a, b)`, MAP and
//! MULTISET `{k=v}`. What is lost by that, the JSON of a row keeps.

use std::borrow::Cow;

use proto::types::{Field, LogicalType};
use serde_json::Value;

use super::{ResultRow, escape, json::carried};

/// How values are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Style {
    /// NULL is `NULL`, text stands as it is.
    Cell,
    /// NULL is `\N`, text is escaped.
    Separated,
}

/// The row's values, one text each; NULL is `NULL`.
#[must_use]
pub fn row_cells(row: &ResultRow, columns: &[Field]) -> Vec<String> {
    let typed = row.values().zip(columns);
    let cell = |(value, column): (Option<Cow<'_, str>>, &Field)| {
        let Some(text) = value else {
            return "NULL".to_owned();
        };
        match carried(&column.data_type.logical, &text) {
            Some(carried) => text_of(&column.data_type.logical, &carried, Style::Cell),
            None => text.into_owned(),
        }
    };
    typed.map(cell).collect()
}

/// The row as a line of tab-separated values; nothing is copied that is not nested.
pub fn push_separated(row: &ResultRow, columns: &[Field], out: &mut String) {
    for (index, (value, column)) in row.line.split('\t').zip(columns).enumerate() {
        if index > 0 {
            out.push('\t');
        }
        let logical = &column.data_type.logical;
        match carried(logical, &super::unescape(value)) {
            Some(carried) => push(out, logical, &carried, Style::Separated),
            None => out.push_str(value),
        }
    }
}

fn text_of(logical: &LogicalType, carried: &Value, style: Style) -> String {
    let mut text = String::new();
    push(&mut text, logical, carried, style);
    text
}

fn push(out: &mut String, logical: &LogicalType, carried: &Value, style: Style) {
    match (logical, carried) {
        (LogicalType::Array(element), Value::Array(items)) => {
            let items = items.iter().map(|item| (&element.logical, item));
            push_list(out, ['[', ']'], items, style);
        }
        (LogicalType::Row(fields), Value::Array(items)) => {
            let types = fields.iter().map(|field| &field.data_type.logical);
            push_list(out, ['(', ')'], types.zip(items), style);
        }
        (LogicalType::Map(key, value), Value::Array(pairs)) => {
            push_entries(out, (&key.logical, &value.logical), pairs, style);
        }
        (LogicalType::Multiset(element), Value::Array(pairs)) => {
            push_entries(out, (&element.logical, &LogicalType::Int), pairs, style);
        }
        (_, Value::String(text)) => match style {
            Style::Cell => out.push_str(text),
            Style::Separated => escape(text, out),
        },
        (_, _) => out.push_str(match style {
            Style::Cell => "NULL",
            Style::Separated => "\\N",
        }),
    }
}

fn push_list<'a>(
    out: &mut String,
    [open, close]: [char; 2],
    items: impl Iterator<Item = (&'a LogicalType, &'a Value)>,
    style: Style,
) {
    out.push(open);
    for (index, (logical, item)) in items.enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        push(out, logical, item, style);
    }
    out.push(close);
}

fn push_entries(
    out: &mut String,
    (key, value): (&LogicalType, &LogicalType),
    pairs: &[Value],
    style: Style,
) {
    out.push('{');
    for (index, pair) in pairs.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        let part = |place| pair.get(place).unwrap_or(&Value::Null);
        push(out, key, part(0), style);
        out.push('=');
        push(out, value, part(1), style);
    }
    out.push('}');
}

#[cfg(test)]
mod tests {
    use proto::types::RowKind;

    use super::*;

    #[test]
    fn nested_values_as_text() {
        let columns = ["ARRAY<STRING>", "ROW<a INT, b STRING>", "MAP<STRING, INT>"]
            .map(|data_type| Field::new("v", data_type.parse().expect("a valid type")));
        let mut line = String::new();
        escape(r#"["x\ty",null]"#, &mut line);
        line.push_str("\t[\"1\",null]\t[[\"k\",\"2\"],[\"l\",null]]");
        let row = ResultRow {
            kind: RowKind::Insert,
            line: line.into(),
        };
        assert_eq!(
            row_cells(&row, &columns),
            ["[x\ty, NULL]", "(1, NULL)", "{k=2, l=NULL}"]
        );
        let mut separated = String::new();
        push_separated(&row, &columns, &mut separated);
        assert_eq!(separated, "[x\\ty, \\N]\t(1, \\N)\t{k=2, l=\\N}");
    }
}
