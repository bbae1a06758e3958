//! Kinds of changelog rows.

/// What a row of a changelog does. The byte is the one stored and sent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum RowKind {
    /// `+I`: a new row.
    Insert = 0,
    /// `-U`: takes back the old content of an updated row.
    UpdateBefore = 1,
    /// `+U`: the new content of an updated row.
    UpdateAfter = 2,
    /// `-D`: takes a row away.
    Delete = 3,
}

impl RowKind {
    /// Whether the row adds a copy (`+I`, `+U`) rather than taking one away.
    #[inline]
    #[must_use]
    pub fn is_add(self) -> bool {
        matches!(self, RowKind::Insert | RowKind::UpdateAfter)
    }

    /// The kind of a stored byte.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<RowKind> {
        Some(match byte {
            0 => RowKind::Insert,
            1 => RowKind::UpdateBefore,
            2 => RowKind::UpdateAfter,
            3 => RowKind::Delete,
            _ => return None,
        })
    }

    /// `+I`, `-U`, `+U`, `-D`.
    #[must_use]
    pub fn symbol(self) -> &'static str {
        match self {
            RowKind::Insert => "+I",
            RowKind::UpdateBefore => "-U",
            RowKind::UpdateAfter => "+U",
            RowKind::Delete => "-D",
        }
    }
}
