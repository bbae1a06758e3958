//! `/*+ OPTIONS('k' = 'v', …) */` after table names. sqlparser has no place for them in its AST,
//! so they are kept beside it, found again by position.

use crate::error::Span;

/// The table hints of a statement.
#[derive(Clone, Default, PartialEq, Debug)]
pub(crate) struct TableHints {
    pub(crate) hints: Vec<TableHint>,
}

/// One table hint.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct TableHint {
    /// Where the table name before the hint ends.
    pub(crate) after: (u64, u64),
    /// The hint itself.
    pub(crate) span: Span,
    /// Options that override those of the table's WITH.
    pub(crate) options: Vec<(String, String)>,
}

impl TableHints {
    /// The hint that stands after the table name at `name` (the span of its `ObjectName`).
    pub(crate) fn for_table(&self, name: sqlparser::tokenizer::Span) -> Option<&TableHint> {
        let end = (name.end.line, name.end.column);
        self.hints.iter().find(|hint| hint.after == end)
    }
}
