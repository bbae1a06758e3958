//! An error as a person wants to see it: with the line of the script that it is about.

use std::fmt::Write;
use std::ops::Range;

use crate::caps::ERROR_LINE_CHARS;
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
    let characters: Vec<char> = line.chars().collect();
    let rest = characters.len().saturating_sub(start);
    let length = if span.end_line == span.line {
        (span.end_column.saturating_sub(span.column) as usize).min(rest)
    } else {
        rest
    };
    let window = window(characters.len(), start);
    let (cut, more) = (window.start > 0, window.end < characters.len());
    let length = length.min(window.end.saturating_sub(start));
    let shown = characters.get(window.clone()).unwrap_or_default();
    let before = shown.iter().take(start.saturating_sub(window.start));
    // Tabs stay tabs, so that the carets stand under their text.
    let indent = before.map(|c| if *c == '\t' { '\t' } else { ' ' });
    let indent: String = cut.then_some(' ').into_iter().chain(indent).collect();
    let shown: String = shown.iter().collect();
    let (left, right) = (if cut { "…" } else { "" }, if more { "…" } else { "" });
    let carets = "^".repeat(length.max(1));
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{margin}--> {}:{}", span.line, span.column);
    let _ = writeln!(text, "{margin} |");
    let _ = writeln!(text, "{number} | {left}{shown}{right}");
    let _ = writeln!(text, "{margin} | {indent}{carets}");
}

/// The part of a long line around the place at `start`.
fn window(length: usize, start: usize) -> Range<usize> {
    let start = start.min(length);
    if length <= ERROR_LINE_CHARS {
        return 0..length;
    }
    let from = start.saturating_sub(ERROR_LINE_CHARS / 2);
    let to = (from + ERROR_LINE_CHARS).min(length);
    to - ERROR_LINE_CHARS..to
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
    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let source = format!("{}wrong{}", "a".repeat(1000), "b".repeat(1000));
        let expected = format!(
            "error: no such thing\n --> 1:1001\n  |\n1 | …{}wrong{}…\n  | {}^^^^^\nhint: look again\n",
            "a".repeat(50),
            "b".repeat(45),
            " ".repeat(51),
        );
        check(&source, (1, 1001, 1, 1006), &expected);
    }
}
