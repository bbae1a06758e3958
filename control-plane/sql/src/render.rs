//! An error as a person wants to see it: with the line of the script that it is about.

use std::fmt::Write;

use crate::error::{Span, SqlError};

impl SqlError {
    /// Several lines: message, position, the line of `source` with the place underlined, hint.
    /// `source` is the script whose statements carry the positions.
    #[must_use]
    pub fn render(&self, source: &str) -> String {
        let mut text = format!("error: {}\n", self.message);
        if let Some(span) = self.span {
            underline(&mut text, span, source);
        }
        if let Some(hint) = &self.hint {
            text.push_str("hint: ");
            text.push_str(hint);
            text.push('\n');
        }
        text
    }
}

fn underline(text: &mut String, span: Span, source: &str) {
    let number = span.line.to_string();
    let margin = " ".repeat(number.len());
    let start = (span.column as usize).max(1) - 1;
    let line = source
        .lines()
        .nth((span.line as usize).max(1) - 1)
        .unwrap_or_default();
    let rest = line.chars().count().saturating_sub(start);
    let length = if span.end_line == span.line {
        (span.end_column.saturating_sub(span.column) as usize).min(rest)
    } else {
        rest
    };
    // Tabs stay tabs, so that the carets stand under their text.
    let indent = line
        .chars()
        .take(start)
        .map(|c| if c == '\t' { '\t' } else { ' ' });
    let indent: String = indent.collect();
    let carets = "^".repeat(length.max(1));
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{margin}--> {}:{}", span.line, span.column);
    let _ = writeln!(text, "{margin} |");
    let _ = writeln!(text, "{number} | {line}");
    let _ = writeln!(text, "{margin} | {indent}{carets}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str, span: (u64, u64, u64, u64), expected: &str) {
        let (line, column, end_line, end_column) = span;
        let error = SqlError::validate("no such thing")
            .hint("look again")
            .at(Span {
                line,
                column,
                end_line,
                end_column,
            });
        assert_eq!(error.render(source), expected);
    }

    #[test]
    fn the_place_is_underlined() {
        check(
            "SELECT 1;\n\tSELECT äb, c\nFROM t",
            (2, 9, 2, 11),
            "error: no such thing\n --> 2:9\n  |\n2 | \tSELECT äb, c\n  | \t       ^^\nhint: look again\n",
        );
        check(
            "SELECT a\nFROM t",
            (1, 8, 2, 7),
            "error: no such thing\n --> 1:8\n  |\n1 | SELECT a\n  |        ^\nhint: look again\n",
        );
        check(
            "SELECT",
            (1, 7, 1, 8),
            "error: no such thing\n --> 1:7\n  |\n1 | SELECT\n  |       ^\nhint: look again\n",
        );
        check(
            "",
            (9, 9, 9, 9),
            "error: no such thing\n --> 9:9\n  |\n9 | \n  | ^\nhint: look again\n",
        );
    }
}
