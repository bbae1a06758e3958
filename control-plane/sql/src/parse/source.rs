//! Positions of tokens to places in the text.

use crate::error::Span;

/// A script and where its lines begin.
pub(super) struct Source<'a> {
    text: &'a str,
    lines: Vec<usize>,
}

impl<'a> Source<'a> {
    pub(super) fn new(text: &'a str) -> Source<'a> {
        let breaks = text.match_indices('\n').map(|(offset, _)| offset + 1);
        Source {
            text,
            lines: std::iter::once(0).chain(breaks).collect(),
        }
    }

    /// What stands at `span`; up to the end of the text where the span ends at line 0.
    pub(super) fn slice(&self, span: Span) -> &'a str {
        let start = self.offset(span.line, span.column);
        let end = match span.end_line {
            0 => self.text.len(),
            line => self.offset(line, span.end_column),
        };
        self.text.get(start..end).unwrap_or_default()
    }

    /// The place just behind the last character that is not white space.
    pub(super) fn end(&self) -> Span {
        let text = self.text.trim_end();
        let line = text.matches('\n').count() as u64 + 1;
        let last = text.rsplit('\n').next().unwrap_or_default();
        let column = last.chars().count() as u64 + 1;
        Span {
            line,
            column,
            end_line: line,
            end_column: column + 1,
        }
    }

    fn offset(&self, line: u64, column: u64) -> usize {
        let start = (line as usize)
            .checked_sub(1)
            .and_then(|line| self.lines.get(line).copied())
            .unwrap_or(self.text.len());
        let rest = self.text.get(start..).unwrap_or_default();
        let within = rest.char_indices().nth((column as usize).saturating_sub(1));
        within.map_or(self.text.len(), |(offset, _)| start + offset)
    }
}
