//! What is wrong with a statement: message, position, hint. One type for all stages, so that a
//! user sees one kind of answer.

use std::fmt;

/// Where in a script: 1-based lines and columns (code points), end exclusive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// Line of the first character.
    pub line: u64,
    /// Column of the first character.
    pub column: u64,
    /// Line of the end.
    pub end_line: u64,
    /// Column one past the last character.
    pub end_column: u64,
}

impl Span {
    /// From sqlparser's; `None` for its "nowhere".
    #[must_use]
    pub fn from_parser(span: sqlparser::tokenizer::Span) -> Option<Span> {
        (span.start.line > 0).then_some(Span {
            line: span.start.line,
            column: span.start.column,
            end_line: span.end.line,
            end_column: span.end.column,
        })
    }
}

/// The stage that refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Not a statement of the language.
    Parse,
    /// Names, types, options.
    Validate,
    /// A query that means something but cannot run as a stream here.
    Plan,
}

/// Why a statement was refused. Nothing has been created or started.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub struct SqlError {
    /// Which stage.
    pub stage: Stage,
    /// What is wrong; lower case, no full stop.
    pub message: String,
    /// Where, if one place is to blame.
    pub span: Option<Span>,
    /// What to do.
    pub hint: Option<String>,
}

impl SqlError {
    /// A syntax error.
    pub fn parse(message: impl Into<String>) -> SqlError {
        SqlError::new(Stage::Parse, message)
    }

    /// A semantic error.
    pub fn validate(message: impl Into<String>) -> SqlError {
        SqlError::new(Stage::Validate, message)
    }

    /// A query that cannot run as a stream.
    pub fn plan(message: impl Into<String>) -> SqlError {
        SqlError::new(Stage::Plan, message)
    }

    fn new(stage: Stage, message: impl Into<String>) -> SqlError {
        SqlError {
            stage,
            message: message.into(),
            span: None,
            hint: None,
        }
    }

    /// With a position, unless it has one already.
    #[must_use]
    pub fn at(mut self, span: impl Into<Option<Span>>) -> SqlError {
        self.span = self.span.or(span.into());
        self
    }

    /// With a position from sqlparser, unless it has one already.
    #[must_use]
    pub fn at_parser(self, span: sqlparser::tokenizer::Span) -> SqlError {
        self.at(Span::from_parser(span))
    }

    /// With advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> SqlError {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(span) = self.span {
            write!(f, "line {}, column {}: ", span.line, span.column)?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}
