//! How much is stored of a job's operators: a count that is never at an end. Which piece is counted next,
//! and what the pieces counted so far amount to.
//!
//! Tables are counted key group by key group, in pieces of bounded size, round after round. Keys are
//! spread over key groups by their hash, so the first ones tell how many the others have; only key group
//! 0, where rows without a key are, tells nothing of others. After the first round all has been counted,
//! each key group as of some epoch since the round before began.

use std::collections::BTreeMap;

use proto::{
    plan::{Node, Plan},
    types::{Epoch, KeyGroup, KeyGroupCount, TableId},
};

/// What is stored, and as of when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stored {
    /// Rows.
    pub rows: u64,
    /// Bytes of keys and values, before compression.
    pub bytes: u64,
    /// Nothing of it was counted before this epoch.
    pub since: Epoch,
    /// Whether all has been counted; else it is reckoned from a part.
    pub is_whole: bool,
}

/// What is to be counted next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Table.
    pub table: TableId,
    /// Key group.
    pub key_group: KeyGroup,
    /// Where the piece before ended; `None`: it is the first one of the key group.
    pub cursor: Option<Vec<u8>>,
}

/// The count of one job.
#[derive(Debug)]
pub struct Census {
    tables: Vec<Counts>,
    key_groups: u32,
    /// The table and the key group that are next.
    next: (usize, u32),
    /// What was counted of that already.
    begun: Counted,
    cursor: Option<Vec<u8>>,
    /// The last committed epoch when the round began.
    round: Epoch,
}

#[derive(Debug)]
struct Counts {
    table: TableId,
    /// By key group, as far as they have been counted.
    counted: Vec<Counted>,
}

#[derive(Clone, Copy, Default, Debug)]
struct Counted {
    rows: u64,
    bytes: u64,
    at: Epoch,
}

impl Census {
    /// Nothing is counted yet.
    #[must_use]
    pub fn new(plan: &Plan) -> Census {
        let nodes = plan.fragments.iter().flat_map(|fragment| &fragment.nodes);
        let tables = nodes.flat_map(|node| &node.tables);
        let counts = |id: u32| Counts {
            table: TableId(id),
            counted: Vec::new(),
        };
        let key_groups = KeyGroupCount::new(plan.key_groups).unwrap_or(KeyGroupCount::DEFAULT);
        Census {
            tables: tables.map(|table| counts(table.id)).collect(),
            key_groups: key_groups.count(),
            next: (0, 0),
            begun: Counted::default(),
            cursor: None,
            round: Epoch::ZERO,
        }
    }

    /// What is to be counted next, of a job that has committed an epoch; `None`: there is nothing, or
    /// nothing has been committed since all was counted.
    pub fn next(&mut self, committed: Epoch) -> Option<Piece> {
        let (table, group) = self.next;
        let begins = (table, group) == (0, 0) && self.cursor.is_none();
        if begins {
            if committed == self.round {
                return None;
            }
            self.round = committed;
        }
        if self.cursor.is_none() {
            self.begun = Counted {
                at: committed,
                ..Counted::default()
            };
        }
        Some(Piece {
            table: self.tables.get(table)?.table,
            key_group: KeyGroup(u16::try_from(group).ok()?),
            cursor: self.cursor.clone(),
        })
    }

    /// The next piece has been counted; `cursor`: the key group has more.
    pub fn counted(&mut self, rows: u64, bytes: u64, cursor: Option<Vec<u8>>) {
        self.begun.rows += rows;
        self.begun.bytes += bytes;
        self.cursor = cursor;
        if self.cursor.is_some() {
            return;
        }
        let (table, group) = self.next;
        let Some(counts) = self.tables.get_mut(table) else {
            return;
        };
        match counts.counted.get_mut(group as usize) {
            Some(before) => *before = self.begun,
            None => counts.counted.push(self.begun),
        }
        self.next = match (table + 1 < self.tables.len(), group + 1 < self.key_groups) {
            (true, _) => (table + 1, group),
            (false, true) => (0, group + 1),
            (false, false) => (0, 0),
        };
    }

    /// What is stored of the tables of an operator; `None`: it has none, or nothing has been counted.
    #[must_use]
    pub fn stored(&self, node: &Node) -> Option<Stored> {
        let tables: BTreeMap<TableId, &Counts> = self
            .tables
            .iter()
            .map(|counts| (counts.table, counts))
            .collect();
        let mut stored: Option<Stored> = None;
        for table in &node.tables {
            let of_table = tables.get(&TableId(table.id))?.stored(self.key_groups)?;
            let before = stored.unwrap_or(Stored {
                rows: 0,
                bytes: 0,
                since: of_table.since,
                is_whole: true,
            });
            stored = Some(Stored {
                rows: before.rows + of_table.rows,
                bytes: before.bytes + of_table.bytes,
                since: before.since.min(of_table.since),
                is_whole: before.is_whole && of_table.is_whole,
            });
        }
        stored
    }
}

impl Counts {
    fn stored(&self, key_groups: u32) -> Option<Stored> {
        let (first, others) = self.counted.split_first()?;
        let counted = others.len() as u64;
        let all = u64::from(key_groups) - 1;
        let reckoned = |first: u64, others: u64| match counted {
            0 => first,
            _ => {
                let all = u128::from(others) * u128::from(all) / u128::from(counted);
                first.saturating_add(u64::try_from(all).unwrap_or(u64::MAX))
            }
        };
        Some(Stored {
            rows: reckoned(first.rows, others.iter().map(|of| of.rows).sum()),
            bytes: reckoned(first.bytes, others.iter().map(|of| of.bytes).sum()),
            since: self.counted.iter().map(|of| of.at).min()?,
            is_whole: counted == all,
        })
    }
}

#[cfg(test)]
mod tests {
    use proto::plan::{Fragment, StateTable};

    use super::*;

    const KEY_GROUPS: u32 = 8;

    fn node(id: &str, tables: &[u32]) -> Node {
        let table = |id: &u32| StateTable {
            id: *id,
            name: format!("table {id}"),
        };
        Node {
            id: id.to_owned(),
            tables: tables.iter().map(table).collect(),
            ..Node::default()
        }
    }

    fn plan(nodes: Vec<Node>) -> Plan {
        Plan {
            key_groups: KEY_GROUPS,
            fragments: vec![Fragment {
                nodes,
                ..Fragment::default()
            }],
            ..Plan::default()
        }
    }

    /// Counts pieces of one row, of which a table has so many in each key group.
    fn count(census: &mut Census, committed: u64, pieces: usize, rows: impl Fn(Piece) -> u64) {
        for _ in 0..pieces {
            let Some(piece) = census.next(Epoch(committed)) else {
                return;
            };
            let done = piece.cursor.as_ref().map_or(0, |done| u64::from(done[0]));
            let all = rows(piece);
            match all > done {
                false => census.counted(0, 0, None),
                true => {
                    let cursor = (all > done + 1).then(|| vec![done as u8 + 1]);
                    census.counted(1, 10, cursor);
                }
            }
        }
    }

    #[test]
    fn what_was_counted_tells_how_much_there_is() {
        let (group, join) = (node("group", &[4]), node("join", &[5, 6]));
        let stateless = node("calc", &[]);
        let mut census = Census::new(&plan(vec![group.clone(), stateless.clone(), join.clone()]));
        assert_eq!(census.stored(&group), None);
        // Each table has as many rows in each key group as its number; table 4 has more in the first.
        let rows = |piece: Piece| match (piece.table.0, piece.key_group.0) {
            (4, 0) => 100,
            (table, _) => u64::from(table),
        };
        count(&mut census, 16, 100, rows);
        let stored = |census: &Census, node: &Node| {
            let stored = census.stored(node).expect("counted");
            (stored.rows, stored.bytes, stored.since.0, stored.is_whole)
        };
        assert_eq!(stored(&census, &group), (100, 1_000, 16, false));
        assert_eq!(census.stored(&join), None);
        count(&mut census, 17, 5 + 6 + 4, rows);
        assert_eq!(stored(&census, &group), (100 + 7 * 4, 1_280, 16, false));
        count(&mut census, 18, 5 + 6 + 6 * (4 + 5 + 6), rows);
        assert_eq!(stored(&census, &group), (128, 1_280, 16, true));
        assert_eq!(stored(&census, &join), (88, 880, 17, true));
        assert_eq!(census.stored(&stateless), None);
    }

    #[test]
    fn all_is_counted_again_only_after_a_commit() {
        let only = node("group", &[4]);
        let mut census = Census::new(&plan(vec![only.clone()]));
        count(&mut census, 16, 1_000, |_| 1);
        assert_eq!(census.next(Epoch(16)), None);
        let whole = |rows, since| Stored {
            rows,
            bytes: 10 * rows,
            since: Epoch(since),
            is_whole: true,
        };
        assert_eq!(census.stored(&only), Some(whole(8, 16)));
        // In the middle of a round some are as of then, others as of before.
        count(&mut census, 17, 6, |_| 2);
        assert_eq!(census.stored(&only), Some(whole(8 + 3, 16)));
        count(&mut census, 18, 10, |_| 2);
        assert_eq!(census.stored(&only), Some(whole(16, 17)));
        // Another epoch has been committed since that round began.
        assert!(census.next(Epoch(18)).is_some());
    }

    #[test]
    fn a_job_without_state_is_never_counted() {
        let mut census = Census::new(&plan(vec![node("calc", &[])]));
        assert_eq!(census.next(Epoch(16)), None);
        assert_eq!(census.next(Epoch(17)), None);
    }
}
