//! What an operator changed in one epoch, on its way into a section.

use proto::types::{Epoch, KeyGroup, KeyGroupCount, TableId};
use state_client::{
    Block, Changes, StagedOutput,
    page::{RowRef, write_run},
};

/// Bytes of rows that are kept in one piece: a list of many rows is never copied to grow, and its memory
/// comes from what lists before it gave back.
const CHUNK_BYTES: usize = 256 << 10;
/// A chunk takes no more rows when less than this is free; longer rows make it longer.
const CHUNK_REST: usize = 1 << 10;

/// Rows in the order in which they were encoded.
#[derive(Clone, Debug, Default)]
pub struct FrozenRows {
    chunks: Vec<Vec<u8>>,
    rows: Vec<FrozenRow>,
}

/// A row: its identity, then its value, in a chunk.
#[derive(Clone, Copy, Debug)]
struct FrozenRow {
    hash: u64,
    chunk: u32,
    start: u32,
    identity_end: u32,
    end: u32,
    deleted: bool,
}

impl FrozenRows {
    /// The last chunk if it takes another row, or a new one.
    fn chunk(&mut self) -> &mut Vec<u8> {
        let has_room = |chunk: &Vec<u8>| {
            chunk.len() + CHUNK_REST < CHUNK_BYTES || chunk.capacity() - chunk.len() >= CHUNK_REST
        };
        if !self.chunks.last().is_some_and(has_room) {
            // A list of few rows takes what it needs.
            let first = self.chunks.is_empty();
            let capacity = if first { 0 } else { CHUNK_BYTES };
            self.chunks.push(Vec::with_capacity(capacity));
        }
        let last = self.chunks.len() - 1;
        &mut self.chunks[last]
    }

    /// So many rows will be added.
    pub fn reserve(&mut self, rows: usize) {
        self.rows.reserve_exact(rows);
    }

    /// Adds a row: `identity` and `value` append their bytes.
    pub fn push(
        &mut self,
        hash: u64,
        identity: impl FnOnce(&mut Vec<u8>),
        value: Option<impl FnOnce(&mut Vec<u8>)>,
    ) {
        let bytes = self.chunk();
        let start = bytes.len() as u32;
        identity(bytes);
        let identity_end = bytes.len() as u32;
        let deleted = value.is_none();
        if let Some(value) = value {
            value(bytes);
        }
        let end = bytes.len() as u32;
        self.rows.push(FrozenRow {
            hash,
            chunk: (self.chunks.len() - 1) as u32,
            start,
            identity_end,
            end,
            deleted,
        });
    }

    /// Adds a delete mark.
    pub fn push_deleted(&mut self, hash: u64, identity: &[u8]) {
        let write = |out: &mut Vec<u8>| out.extend_from_slice(identity);
        self.push(hash, write, None::<fn(&mut Vec<u8>)>);
    }

    /// Adds the rows of another list.
    pub fn append(&mut self, other: FrozenRows) {
        if self.rows.is_empty() {
            *self = other;
            return;
        }
        let before = self.chunks.len() as u32;
        self.chunks.extend(other.chunks);
        let moved = other.rows.into_iter().map(|row| FrozenRow {
            chunk: row.chunk + before,
            ..row
        });
        self.rows.extend(moved);
    }

    /// The values of the rows; `None`: it is deleted.
    #[cfg(test)]
    pub(super) fn values(&self) -> Vec<Option<&[u8]>> {
        self.rows.iter().map(|row| self.value(row)).collect()
    }

    /// The hashes of the rows' keys.
    pub fn hashes(&self) -> impl Iterator<Item = u64> + '_ {
        self.rows.iter().map(|row| row.hash)
    }

    /// Bytes of memory.
    #[must_use]
    pub fn memory(&self) -> usize {
        let bytes: usize = self.chunks.iter().map(Vec::capacity).sum();
        bytes + self.rows.capacity() * size_of::<FrozenRow>()
    }

    /// Rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Hash, identity and value of rows that are not deleted, by (hash, identity).
    pub(crate) fn sorted_values(&self) -> impl Iterator<Item = (u64, (&[u8], &[u8]))> {
        let rows = self.sorted().into_iter();
        rows.filter_map(|row| Some((row.hash, (self.identity(row), self.value(row)?))))
    }

    /// Rows by (hash, identity), each once. A row deleted and made again in one epoch is there
    /// twice: the value stays, the mark goes. (Made and then deleted again, its value is not
    /// frozen.)
    fn sorted(&self) -> Vec<&FrozenRow> {
        // Sorting pairs of words is several times faster than comparing rows through references,
        // and rows of one hash (those of a hot key in a list) mostly come in order already.
        let by_hash = |(index, row): (usize, &FrozenRow)| (row.hash, index as u32);
        let mut places: Vec<(u64, u32)> = self.rows.iter().enumerate().map(by_hash).collect();
        places.sort_unstable();
        let mut order: Vec<&FrozenRow> = places
            .iter()
            .map(|(_, index)| &self.rows[*index as usize])
            .collect();
        let key = |row: &&FrozenRow| (self.identity(row), row.deleted);
        let less = |a: &&FrozenRow, b: &&FrozenRow| {
            let (a, b) = (key(a), key(b));
            a.cmp(&b)
        };
        for group in order.chunk_by_mut(|a, b| a.hash == b.hash) {
            if group.len() > 1 && !group.is_sorted_by(|a, b| less(a, b).is_le()) {
                group.sort_unstable_by(less);
            }
        }
        order.dedup_by(|b, a| a.hash == b.hash && self.identity(a) == self.identity(b));
        order
    }

    fn identity(&self, row: &FrozenRow) -> &[u8] {
        &self.chunks[row.chunk as usize][row.start as usize..row.identity_end as usize]
    }

    /// `None`: it is deleted.
    fn value(&self, row: &FrozenRow) -> Option<&[u8]> {
        let chunk = &self.chunks[row.chunk as usize];
        (!row.deleted).then(|| &chunk[row.identity_end as usize..row.end as usize])
    }
}

/// Changes of one table in one namespace.
#[derive(Clone, Debug)]
pub struct TableDelta {
    /// State table.
    pub table: TableId,
    /// Namespace; 0: none.
    pub namespace: i64,
    /// Changed and deleted rows.
    pub rows: FrozenRows,
}

/// Changes of one operator.
#[derive(Clone, Debug, Default)]
pub struct StateDelta {
    /// Changes by table and namespace.
    pub tables: Vec<TableDelta>,
    /// Closed namespaces: (table, key group, first open one).
    pub low_water_marks: Vec<(TableId, KeyGroup, i64)>,
    /// Output to publish after the commit.
    pub staged: Vec<StagedOutput>,
}

impl StateDelta {
    /// Adds another operator's changes.
    pub fn append(&mut self, mut other: StateDelta) {
        self.tables.append(&mut other.tables);
        self.low_water_marks.append(&mut other.low_water_marks);
        self.staged.append(&mut other.staged);
    }

    /// Sorts the rows into blocks. This is where an epoch's work is long: call it off the task.
    #[must_use]
    pub fn into_changes(self, epoch: Epoch, key_groups: KeyGroupCount) -> Changes {
        let mut blocks = Vec::new();
        for delta in &self.tables {
            let rows = &delta.rows;
            let order = rows.sorted();
            for group in
                order.chunk_by(|a, b| key_groups.of_hash(a.hash) == key_groups.of_hash(b.hash))
            {
                let run = write_run(
                    epoch.0,
                    group.iter().map(|row| RowRef {
                        hash: row.hash,
                        identity: rows.identity(row),
                        epoch: epoch.0,
                        value: rows.value(row),
                    }),
                );
                blocks.push(Block {
                    table: delta.table,
                    key_group: key_groups.of_hash(group[0].hash),
                    namespace: delta.namespace,
                    run,
                });
            }
        }
        blocks.sort_by_key(|block| (block.table, block.key_group, block.namespace));
        Changes {
            blocks,
            low_water_marks: self.low_water_marks,
            staged: self.staged,
        }
    }
}

#[cfg(test)]
mod tests {
    use state_client::page::Run;

    use super::*;

    #[test]
    fn a_row_made_again_after_its_deletion_is_a_value() {
        let mut rows = FrozenRows::default();
        rows.push_deleted(5, b"a");
        rows.push_deleted(5, b"b");
        rows.push(
            5,
            |out| out.push(b'a'),
            Some(|out: &mut Vec<u8>| out.push(b'1')),
        );
        rows.push_deleted(u64::MAX, b"z");
        rows.push_deleted(u64::MAX, b"z");
        let tables = vec![TableDelta {
            table: TableId(1),
            namespace: 0,
            rows,
        }];
        let delta = StateDelta {
            tables,
            ..StateDelta::default()
        };
        let blocks = delta.into_changes(Epoch(3), KeyGroupCount::DEFAULT).blocks;
        assert_eq!(blocks.len(), 2);
        let run = Run::open(blocks[0].run.clone()).expect("a run");
        let rows: Vec<_> = run.iter().map(|row| (row.identity, row.value)).collect();
        assert_eq!(rows, [(&b"a"[..], Some(&b"1"[..])), (&b"b"[..], None)]);
        assert_eq!(blocks[1].key_group, KeyGroup(255));
        assert_eq!(Run::open(blocks[1].run.clone()).expect("a run").len(), 1);
    }
}
