//! What an operator changed in one epoch, on its way into a section.

use bytes::Bytes;
use proto::types::{Epoch, KeyGroup, KeyGroupCount, TableId};
use state_client::{
    Block, Changes, StagedOutput,
    page::{RowRef, write_run},
};

use super::hash_order::by_hash;

/// Bytes of rows that are kept in one piece: a list of many rows is never copied to grow, and its memory
/// comes from what lists before it gave back.
const CHUNK_BYTES: usize = 64 << 10;
/// A chunk takes no more rows when less than this is free; longer rows make it longer.
const CHUNK_REST: usize = 1 << 10;

/// Rows are kept apart by the upper bits of their hash, so that each part is sorted, and written, by
/// itself, and its memory is free before the next one's turn.
const PARTS: usize = 16;
const PART_BITS: u32 = PARTS.ilog2();
/// Parts have room for one in so many rows above the mean: then it is rare that one is copied to grow.
const UNEVEN: usize = 32;
/// There is no such part yet.
const NO_PART: u8 = u8::MAX;

/// Rows in the order in which they were encoded.
#[derive(Clone, Debug)]
pub struct FrozenRows {
    /// Those that have rows, as they came.
    parts: Vec<Part>,
    /// By the upper bits of the hash, which of these.
    part_of: [u8; PARTS],
    /// Rows that a part is expected to get.
    expected: usize,
}

/// Rows whose hashes have the same upper bits.
#[derive(Clone, Debug, Default)]
struct Part {
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

impl Default for FrozenRows {
    fn default() -> Self {
        FrozenRows {
            parts: Vec::new(),
            part_of: [NO_PART; PARTS],
            expected: 0,
        }
    }
}

impl FrozenRows {
    fn part(&mut self, prefix: usize) -> &mut Part {
        let part = &mut self.part_of[prefix];
        if *part == NO_PART {
            *part = self.parts.len() as u8;
            self.parts.push(Part {
                chunks: Vec::new(),
                rows: Vec::with_capacity(self.expected),
            });
        }
        &mut self.parts[usize::from(*part)]
    }

    /// Parts in the order of their hashes.
    fn in_order(&self) -> impl Iterator<Item = &Part> {
        let there = self.part_of.iter().filter(|part| **part != NO_PART);
        there.map(|part| &self.parts[usize::from(*part)])
    }

    /// Parts with the least hash that each may have, in order.
    fn into_parts(mut self) -> impl Iterator<Item = (u64, Part)> {
        let parts = (0..).zip(self.part_of);
        parts
            .filter(|(_, part)| *part != NO_PART)
            .map(move |(prefix, part): (u64, u8)| {
                let least = prefix << (u64::BITS - PART_BITS);
                (least, std::mem::take(&mut self.parts[usize::from(part)]))
            })
    }

    /// About so many rows will be added. Some parts get a little more than their part.
    pub fn reserve(&mut self, rows: usize) {
        let even = rows / PARTS;
        self.expected = even + even / UNEVEN;
    }

    /// Adds a row: `identity` and `value` append their bytes. How many these are.
    pub fn push(
        &mut self,
        hash: u64,
        identity: impl FnOnce(&mut Vec<u8>),
        value: Option<impl FnOnce(&mut Vec<u8>)>,
    ) -> usize {
        let prefix = hash >> (u64::BITS - PART_BITS);
        self.part(prefix as usize).push(hash, identity, value)
    }

    /// Adds a delete mark.
    pub fn push_deleted(&mut self, hash: u64, identity: &[u8]) {
        let write = |out: &mut Vec<u8>| out.extend_from_slice(identity);
        self.push(hash, write, None::<fn(&mut Vec<u8>)>);
    }

    /// Adds the rows of another list.
    pub fn append(&mut self, mut other: FrozenRows) {
        for (prefix, part) in other.part_of.into_iter().enumerate() {
            if part != NO_PART {
                let part = std::mem::take(&mut other.parts[usize::from(part)]);
                self.part(prefix).append(part);
            }
        }
    }

    /// Hash, identity and value of the rows, those of one hash in the order in which they were added; no value:
    /// it is deleted.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &[u8], Option<&[u8]>)> {
        self.in_order().flat_map(|part| {
            let rows = part.rows.iter();
            rows.map(move |row| (row.hash, part.identity(row), part.value(row)))
        })
    }

    /// The hashes of the rows' keys.
    pub fn hashes(&self) -> impl Iterator<Item = u64> + '_ {
        let rows = self.parts.iter().flat_map(|part| &part.rows);
        rows.map(|row| row.hash)
    }

    /// Bytes of memory.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.parts.iter().map(Part::memory).sum()
    }

    /// Rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.rows.len()).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.iter().all(|part| part.rows.is_empty())
    }

    /// Hash, identity and value of rows that are not deleted, by (hash, identity).
    pub(crate) fn sorted_values(&self) -> impl Iterator<Item = (u64, (&[u8], &[u8]))> {
        self.in_order().flat_map(|part| {
            let rows = part.sorted().into_iter();
            rows.filter_map(move |row| Some((row.hash, (part.identity(&row), part.value(&row)?))))
        })
    }
}

impl Part {
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

    fn push(
        &mut self,
        hash: u64,
        identity: impl FnOnce(&mut Vec<u8>),
        value: Option<impl FnOnce(&mut Vec<u8>)>,
    ) -> usize {
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
        (end - start) as usize
    }

    fn append(&mut self, other: Part) {
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

    fn memory(&self) -> usize {
        let bytes: usize = self.chunks.iter().map(Vec::capacity).sum();
        bytes + self.rows.capacity() * size_of::<FrozenRow>()
    }

    /// Rows by (hash, identity), each once. A row deleted and made again in one epoch is there
    /// twice: the value stays, the mark goes. (Made and then deleted again, its value is not
    /// frozen.)
    fn sorted(&self) -> Vec<FrozenRow> {
        // Rows of one hash (those of a hot key in a list) mostly come in order already.
        let places = by_hash(self.rows.iter().map(|row| row.hash)).into_iter();
        // Copied, for they are gone through several times, and are then one after the other.
        let mut order: Vec<FrozenRow> =
            places.map(|(_, index)| self.rows[index as usize]).collect();
        let key = |row: &FrozenRow| (self.identity(row), row.deleted);
        for group in order.chunk_by_mut(|a, b| a.hash == b.hash) {
            if group.len() > 1 && !group.is_sorted_by(|a, b| key(a) <= key(b)) {
                group.sort_unstable_by(|a, b| key(a).cmp(&key(b)));
            }
        }
        order.dedup_by(|b, a| a.hash == b.hash && self.identity(a) == self.identity(b));
        order
    }

    /// Calls with the rows of each key group.
    fn write_runs(
        &self,
        epoch: Epoch,
        key_groups: KeyGroupCount,
        mut write: impl FnMut(KeyGroup, Bytes),
    ) {
        let order = self.sorted();
        let group_of = |row: &FrozenRow| key_groups.of_hash(row.hash);
        for group in order.chunk_by(|a, b| group_of(a) == group_of(b)) {
            let rows = group.iter().map(|row| RowRef {
                hash: row.hash,
                identity: self.identity(row),
                epoch: epoch.0,
                value: self.value(row),
            });
            write(key_groups.of_hash(group[0].hash), write_run(epoch.0, rows));
        }
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
        for delta in self.tables {
            let mut parts = delta.rows.into_parts().peekable();
            while let Some((least, mut part)) = parts.next() {
                // Where there are few key groups, one is in several parts.
                let group = key_groups.of_hash(least);
                let is_same = |(least, _): &(u64, Part)| key_groups.of_hash(*least) == group;
                while let Some((_, more)) = parts.next_if(is_same) {
                    part.append(more);
                }
                part.write_runs(epoch, key_groups, |key_group, run| {
                    blocks.push(Block {
                        table: delta.table,
                        key_group,
                        namespace: delta.namespace,
                        run,
                    });
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

    #[test]
    fn each_key_group_is_one_block_in_order_however_many_there_are() {
        let mut rows = FrozenRows::default();
        rows.reserve(1_000);
        let mut hashes: Vec<u64> = (0..1_000_u64)
            .map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15))
            .collect();
        for hash in &hashes {
            let value = |out: &mut Vec<u8>| out.extend_from_slice(&hash.to_le_bytes());
            rows.push(*hash, |out| out.push(1), Some(value));
        }
        hashes.sort_unstable();
        let mut twice = rows.clone();
        twice.append(rows.clone());
        for (rows, groups) in [(&rows, 1), (&rows, 4), (&rows, 16), (&twice, 64)] {
            assert!(rows.sorted_values().map(|(hash, _)| hash).is_sorted());
            let key_groups = KeyGroupCount::new(groups).expect("a power of two");
            let delta = StateDelta {
                tables: vec![TableDelta {
                    table: TableId(1),
                    namespace: 0,
                    rows: rows.clone(),
                }],
                ..StateDelta::default()
            };
            let blocks = delta.into_changes(Epoch(3), key_groups).blocks;
            let of = |block: &Block| block.key_group;
            assert!(blocks.is_sorted_by(|a, b| of(a) < of(b)), "{groups}");
            assert_eq!(blocks.len(), groups as usize);
            let runs = blocks
                .iter()
                .map(|block| Run::open(block.run.clone()).expect("a run"));
            let written = runs.flat_map(|run| run.iter().map(|row| row.hash).collect::<Vec<_>>());
            assert_eq!(written.collect::<Vec<u64>>(), hashes);
        }
    }
}
