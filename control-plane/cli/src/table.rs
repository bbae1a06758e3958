//! Values as aligned columns.

use std::io::{self, Write};

use serde_json::Value;

/// Prints a header and rows.
pub(crate) fn print(
    out: &mut dyn Write,
    header: &[String],
    rows: &[Vec<String>],
) -> io::Result<()> {
    let mut widths: Vec<usize> = header.iter().map(|name| name.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut line = |cells: &[String]| {
        let padded: Vec<String> = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        writeln!(out, "{}", padded.join("  ").trim_end())
    };
    line(header)?;
    rows.iter().try_for_each(|row| line(row))
}

/// A JSON value as a cell: text without quotes, control characters made harmless.
pub(crate) fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => "NULL".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let shown = |character: char| {
        if character.is_control() {
            '␣'
        } else {
            character
        }
    };
    text.chars().map(shown).collect()
}

/// Fields of an object as cells.
pub(crate) fn cells(object: &Value, fields: &[&str]) -> Vec<String> {
    let value = |field: &&str| object.get(*field).map_or_else(String::new, cell);
    fields.iter().map(value).collect()
}
