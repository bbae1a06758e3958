//! What an operator lets go of.

use proto::types::TableId;

use crate::state::FrozenRows;

/// Rows on their way out of memory: of every hash all rows, in each of the tables that are named.
#[derive(Debug, Default)]
pub struct Evicted {
    is_wanted: bool,
    pub(super) tables: Vec<(TableId, FrozenRows)>,
}

impl Evicted {
    /// For rows that are to be kept at hand.
    #[must_use]
    pub fn kept() -> Evicted {
        Evicted {
            is_wanted: true,
            tables: Vec::new(),
        }
    }

    /// For rows that nobody wants.
    #[must_use]
    pub fn dropped() -> Evicted {
        Evicted::default()
    }

    /// Where rows of a table go, which has rows of all hashes that go; `None`: nobody wants them.
    pub fn rows(&mut self, table: TableId) -> Option<&mut FrozenRows> {
        if !self.is_wanted {
            return None;
        }
        let at = self.tables.iter().position(|(known, _)| *known == table);
        let at = at.unwrap_or_else(|| {
            self.tables.push((table, FrozenRows::default()));
            self.tables.len() - 1
        });
        Some(&mut self.tables[at].1)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tables.iter().all(|(_, rows)| rows.is_empty())
    }
}
