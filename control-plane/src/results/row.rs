//! One row of a changelog as text.

use std::{borrow::Cow, sync::Arc};

use proto::types::RowKind;

/// A change: what it does, and the row as one line of tab-separated values. NULL is `\N`; a
/// backslash, tab, LF or CR within a value is written `\\`, `\t`, `\n`, `\r`.
///
/// ARRAY, ROW, MAP and MULTISET are JSON, so that their structure is kept: an array of the elements,
/// the fields, or the pairs of key and value. What is not nested within them is its text, or `null`.
/// The column's type tells the rest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResultRow {
    /// What the row does.
    pub kind: RowKind,
    /// Its values.
    pub line: Arc<str>,
}

impl ResultRow {
    /// The values, each `None` for NULL.
    pub fn values(&self) -> impl Iterator<Item = Option<Cow<'_, str>>> {
        let value = |text| (text != "\\N").then(|| unescape(text));
        self.line.split('\t').map(value)
    }
}

/// Appends `text` so that it fits into a tab-separated line.
pub fn escape(text: &str, out: &mut String) {
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            other => out.push(other),
        }
    }
}

/// Takes back [`escape`].
#[must_use]
pub fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            out.push(character);
            continue;
        }
        match characters.next() {
            Some('t') => out.push('\t'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some(other) => out.push(other),
            None => out.push('\\'),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_text_comes_back() {
        for text in ["", "plain", "a\tb\nc\rd\\e", "\\N", "\\", "ü\\t"] {
            let mut line = String::new();
            escape(text, &mut line);
            assert!(!line.contains(['\t', '\n', '\r']));
            assert_eq!(unescape(&line), text);
        }
    }

    #[test]
    fn null_and_the_text_that_looks_like_it_differ() {
        let row = ResultRow {
            kind: RowKind::Insert,
            line: "\\N\t\\\\N\t".into(),
        };
        let values: Vec<_> = row.values().collect();
        assert_eq!(values, [None, Some("\\N".into()), Some("".into())]);
    }
}
