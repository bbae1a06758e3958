//! Values as aligned columns.

use std::io::{self, Write};

use serde_json::Value;
use unicode_width::UnicodeWidthStr as _;

/// Prints a header and rows.
pub(crate) fn print(
    out: &mut dyn Write,
    header: &[String],
    rows: &[Vec<String>],
) -> io::Result<()> {
    let mut widths: Vec<usize> = header.iter().map(|name| name.width()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.width().max(*width);
        }
    }
    let mut line = |cells: &[String]| {
        let line = pad_join(cells, &widths, "  ");
        writeln!(out, "{}", line.trim_end())
    };
    line(header)?;
    rows.iter().try_for_each(|row| line(row))
}

/// Cells beside each other, each as wide on a terminal as its column.
#[must_use]
pub fn pad_join(cells: &[String], widths: &[usize], separator: &str) -> String {
    let mut line = String::new();
    for (index, (cell, width)) in cells.iter().zip(widths).enumerate() {
        if index > 0 {
            line.push_str(separator);
        }
        line.push_str(cell);
        let missing = width.saturating_sub(cell.width());
        line.extend(std::iter::repeat_n(' ', missing));
    }
    line
}

/// `text` without what would break a table, or worse the terminal: control characters are shown by
/// their symbols, and what turns the direction of writing is replaced.
#[must_use]
pub fn printable(text: &str) -> String {
    let shown = |character: char| match character {
        '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(character)).unwrap_or('�'),
        '\u{7f}' => '␡',
        '\u{80}'..='\u{9f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => '�',
        other => other,
    };
    text.chars().map(shown).collect()
}

/// A JSON value as a cell: text without quotes.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::String(text) => printable(text),
        other => printable(&other.to_string()),
    }
}

/// Fields of an object as cells.
pub(crate) fn cells(object: &Value, fields: &[&str]) -> Vec<String> {
    let value = |field: &&str| object.get(*field).map_or_else(String::new, cell);
    fields.iter().map(value).collect()
}
