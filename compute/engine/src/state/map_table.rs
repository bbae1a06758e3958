//! One value per key: index, change tracking and the owner's columns.

use std::collections::HashSet;

use planted::Bug;
use proto::types::{Epoch, TableId};
use state_client::LoadedRow;

use super::{
    changes::Changes,
    delta::{FrozenRows, TableDelta},
    evict::Evict,
    index::{KeyIndex, NO_SLOT},
    undo::{Before, ChangedHashes, UndoLog},
};
use crate::{
    key::{KeyBatch, KeyWidth},
    operator::{OperatorError, Reassigned, StateSize, TaskScope},
    spill::Evicted,
};

/// Rows of key groups that left that are freed for each row that comes: it takes about as long as the
/// row itself.
const FREED_PER_ROW: usize = 8;
/// Rows that get another slot at a time: it takes about a millisecond.
const MOVED_MAX: usize = 4096;

/// Values as columns that are addressed by slot.
pub trait Values: Send {
    /// Makes room for slots below `slots`.
    fn reserve(&mut self, slots: usize);

    /// A new row begins in `slot`, which may have held another before.
    fn reset(&mut self, slot: u32);

    /// Appends the bytes of a row.
    fn encode(&self, slot: u32, out: &mut Vec<u8>);

    /// Reads a row that [`Values::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are not such a row; says what is wrong.
    fn decode(&mut self, slot: u32, bytes: &[u8]) -> Result<(), String>;

    /// A row is in another slot from now on, which has none.
    fn relocate(&mut self, from: u32, to: u32);

    /// Slots from `slots` on, which have no rows, are not there any more.
    fn truncate(&mut self, slots: usize);

    /// Bytes of memory.
    fn memory(&self) -> usize;

    /// Bytes of it that are free for new rows, of which there are `free_slots`.
    fn free_memory(&self, free_slots: usize) -> usize;
}

/// A table of one value per key, in one namespace.
#[derive(Debug)]
pub struct MapTable<V> {
    table: TableId,
    namespace: i64,
    index: KeyIndex,
    changes: Changes,
    /// If rows are put back that an epoch has changed which never was.
    undo: Option<UndoLog>,
    /// Slots that a batch has made.
    made: Vec<u32>,
    /// The values; change a row only after [`MapTable::touch`].
    pub values: V,
}

impl<V: Values> MapTable<V> {
    /// An empty table; `partial`: see [`KeyIndex::new`].
    pub fn new(
        table: TableId,
        namespace: i64,
        width: KeyWidth,
        scope: &TaskScope,
        partial: bool,
        values: V,
    ) -> Self {
        let index = KeyIndex::new(width, scope.key_groups, &scope.owned, partial);
        MapTable {
            table,
            namespace,
            index,
            changes: Changes::default(),
            undo: None,
            made: Vec::new(),
            values,
        }
    }

    /// Remembers what rows were before epochs that are not committed, as long as there is room: after
    /// [`MapTable::roll_back`] they are in memory as of then. Not for a table whose epochs are never committed,
    /// nor if there is more to a key than its row here.
    pub fn keep_undo(&mut self) {
        self.keep_undo_of(UndoLog::default());
    }

    pub(super) fn keep_undo_of(&mut self, undo: UndoLog) {
        self.undo = Some(undo);
    }

    /// The key index.
    #[must_use]
    pub fn index(&self) -> &KeyIndex {
        &self.index
    }

    /// The key index, to mark what has been read.
    pub fn index_mut(&mut self) -> &mut KeyIndex {
        &mut self.index
    }

    /// The slots of a batch's keys, made where there are none, all marked as changed. `slots` is
    /// cleared first.
    pub fn upsert(&mut self, keys: &KeyBatch, slots: &mut Vec<u32>) {
        self.find_or_insert(keys, slots);
        slots.iter().for_each(|slot| self.touch(*slot));
    }

    /// The slots of a batch's keys, made (and reset) where there are none.
    pub fn find_or_insert(&mut self, keys: &KeyBatch, slots: &mut Vec<u32>) {
        self.free_leaving(keys.len().saturating_mul(FREED_PER_ROW));
        let (values, changes, made) = (&mut self.values, &mut self.changes, &mut self.made);
        made.clear();
        self.index.find_or_insert(keys, slots, |slot| {
            values.reserve(slot as usize + 1);
            changes.reserve(slot as usize + 1);
            values.reset(slot);
            made.push(slot);
        });
        if let Some(undo) = &mut self.undo {
            let index = &self.index;
            for slot in &self.made {
                let identity = |out: &mut Vec<u8>| index.write_identity(*slot, out);
                undo.note(index.hash(*slot), identity, None::<fn(&mut Vec<u8>)>);
            }
        }
    }

    /// Marks a row as changed; call it before changing the row.
    #[inline]
    pub fn touch(&mut self, slot: u32) {
        if !self.changes.is_changed(slot) {
            self.touch_first(slot);
        }
    }

    #[cold]
    fn touch_first(&mut self, slot: u32) {
        self.note(slot);
        let (index, values) = (&self.index, &self.values);
        self.changes
            .touch(slot, |slot, rows| encode_row(index, values, slot, rows));
    }

    /// Notes a row before the open epoch's first change of it.
    fn note(&mut self, slot: u32) {
        if let Some(undo) = &mut self.undo {
            let (index, values) = (&self.index, &self.values);
            let identity = |out: &mut Vec<u8>| index.write_identity(slot, out);
            let value = |out: &mut Vec<u8>| values.encode(slot, out);
            undo.note(index.hash(slot), identity, Some(value));
        }
    }

    /// Deletes a row.
    pub fn remove(&mut self, slot: u32) {
        if !self.changes.is_changed(slot) {
            self.note(slot);
        }
        let (index, values) = (&self.index, &self.values);
        self.changes.delete(
            slot,
            index.hash(slot),
            |out| index.write_identity(slot, out),
            |slot, rows| encode_row(index, values, slot, rows),
        );
        self.index.remove(slot);
        self.values.reset(slot);
    }

    /// Forgets a row that another task owns from now on; see [`Changes::forget`].
    pub fn forget(&mut self, slot: u32) {
        let (index, values) = (&self.index, &self.values);
        self.changes
            .forget(slot, |slot, rows| encode_row(index, values, slot, rows));
        self.index.forget(slot);
        self.values.reset(slot);
    }

    /// Takes rows that [`KeyIndex::find_old`] has found out of memory.
    pub fn evict(&mut self, slots: &[u32], evicted: &mut Evicted) {
        let mut rows = evicted.rows(self.table);
        for slot in slots {
            debug_assert!(self.changes.is_clean(*slot), "a change is lost");
            if let Some(rows) = &mut rows {
                encode_row(&self.index, &self.values, *slot, rows);
            }
            self.index.evict(*slot);
            self.values.reset(*slot);
        }
    }

    /// As [`MapTable::reassign`], in time that does not grow with the rows: they are freed bit by bit
    /// as others come. Not for values that anything but the index finds.
    pub fn let_go(&mut self, change: &Reassigned) {
        self.index.let_go(&change.left);
        self.index.reassign(&change.left, &change.came);
    }

    /// Frees rows that were let go of.
    fn free_leaving(&mut self, most: usize) {
        for _ in 0..most {
            let Some(slot) = self.index.next_leaving() else {
                return;
            };
            let (index, values) = (&self.index, &self.values);
            self.changes
                .forget(slot, |slot, rows| encode_row(index, values, slot, rows));
            self.index.free_leaving(slot);
            self.values.reset(slot);
        }
    }

    /// Forgets the rows of key groups that left; those that came are to be read.
    pub fn reassign(&mut self, change: &Reassigned) {
        for slot in self.index.slots_of(&change.left) {
            self.forget(slot);
        }
        self.index.reassign(&change.left, &change.came);
    }

    /// Puts a committed row that was read into memory. A row that is there wins.
    ///
    /// # Errors
    /// When its bytes do not decode.
    pub fn install(&mut self, row: &LoadedRow) -> Result<(), OperatorError> {
        let decode_error = |cause: String| OperatorError::Decode {
            table: self.table.to_string(),
            cause,
        };
        let keys = self
            .index
            .read_identity(&row.identity)
            .ok_or_else(|| decode_error("a key has too few bytes".to_owned()))?;
        let mut is_new = false;
        let slot = self
            .index
            .find_or_insert_row(&keys, 0, row.hash, &mut |_| is_new = true);
        if is_new {
            self.values.reserve(slot as usize + 1);
            self.changes.reserve(slot as usize + 1);
            self.values.reset(slot);
            self.values
                .decode(slot, &row.value)
                .map_err(|cause| OperatorError::Decode {
                    table: self.table.to_string(),
                    cause,
                })?;
        }
        Ok(())
    }

    /// See [`Changes::committed`].
    pub fn committed(&mut self, epoch: Epoch) {
        self.changes.committed(epoch);
        self.index.committed(epoch);
        if let Some(undo) = &mut self.undo {
            undo.committed(epoch);
        }
    }

    /// See [`Changes::roll_back`]. Rows that are known as of then are put back, and their hashes are not told.
    pub fn roll_back(&mut self, restored: Epoch, dirty: &mut HashSet<u64>) {
        self.free_leaving(usize::MAX);
        let index = &self.index;
        let changed = self.changes.take_back(restored, |slot| index.hash(slot));
        self.index.roll_back(restored);
        let known = self.put_back(&changed);
        let hashes = changed.into_iter().flat_map(|(_, hashes)| hashes);
        dirty.extend(hashes.filter(|hash| !known.contains(hash)));
    }

    /// Puts rows back as they were before all this was changed; the hashes of which all are as of then.
    fn put_back(&mut self, changed: &ChangedHashes) -> HashSet<u64> {
        let Some(undo) = &mut self.undo else {
            return HashSet::new();
        };
        let (rows, mut known) = undo.roll_back(changed);
        if planted::is(Bug::KeepUncommitted) {
            return known;
        }
        // What is another task's by now is not in memory.
        for row in rows {
            if self.index.owns(row.hash) && self.put_row_back(&row).is_none() {
                known.remove(&row.hash);
            }
        }
        known
    }

    /// `None`: it cannot be read.
    fn put_row_back(&mut self, row: &Before) -> Option<()> {
        let keys = self.index.read_identity(&row.identity)?;
        let Some(value) = &row.value else {
            let slot = self.index.find_row(&keys, 0, row.hash);
            if slot != NO_SLOT {
                self.index.remove(slot);
                self.values.reset(slot);
            }
            return Some(());
        };
        let slot = self
            .index
            .find_or_insert_row(&keys, 0, row.hash, &mut |_| ());
        self.values.reserve(slot as usize + 1);
        self.changes.reserve(slot as usize + 1);
        self.values.reset(slot);
        self.values.decode(slot, value).ok()
    }

    /// Forgets the rows of keys with these hashes: they are to be read again.
    pub fn forget_dirty(&mut self, dirty: &HashSet<u64>) {
        if planted::is(Bug::KeepUncommitted) {
            return;
        }
        let owned = dirty.iter().filter(|hash| self.index.owns(**hash));
        let of_hash = |hash: &u64| self.index.slots_of_hash(*hash);
        let mut slots: Vec<u32> = owned.flat_map(of_hash).collect();
        // They are used again in the order in which they are freed, which is not to be chance.
        slots.sort_unstable();
        for slot in slots {
            self.index.forget(slot);
            self.values.reset(slot);
        }
        self.index.mark_unknown(dirty);
    }

    /// See [`Changes::freeze`].
    pub fn freeze(&mut self, epoch: Epoch) {
        self.changes.freeze(epoch);
        self.index.freeze(epoch);
        if let Some(undo) = &mut self.undo {
            undo.freeze(epoch);
        }
    }

    /// See [`Changes::encode`].
    pub fn encode(&mut self, rows_max: usize) -> bool {
        let (index, values) = (&self.index, &self.values);
        self.changes
            .encode(rows_max, |slot, rows| encode_row(index, values, slot, rows))
    }

    /// The frozen rows; `None` if there are none.
    pub fn take_delta(&mut self) -> Option<TableDelta> {
        let rows = self.changes.take();
        (!rows.is_empty()).then_some(TableDelta {
            table: self.table,
            namespace: self.namespace,
            rows,
        })
    }

    /// Goes on making columns shorter of which most is free: some rows get other slots. For who knows rows by their
    /// keys alone between two batches.
    pub fn shrink(&mut self) {
        self.shrink_some(MOVED_MAX);
    }

    pub(super) fn shrink_some(&mut self, most: usize) {
        if self.changes.is_frozen() {
            return;
        }
        let (values, changes) = (&mut self.values, &mut self.changes);
        let cut = self.index.shrink(most, |from, to| {
            values.relocate(from, to);
            changes.relocate(from, to);
        });
        if let Some(slots) = cut {
            self.values.truncate(slots);
            self.changes.truncate(slots);
        }
    }

    /// Live rows and bytes.
    #[must_use]
    pub fn size(&self) -> StateSize {
        let undo = self.undo.as_ref().map_or(0, UndoLog::memory);
        let bytes = self.index.memory() + self.changes.memory() + self.values.memory();
        let free_slots = self.index.slots() - self.index.len();
        let free = self.index.free_memory() + free_slots * 4 + self.values.free_memory(free_slots);
        let used = bytes.saturating_sub(free);
        let per_row = used / self.index.len().max(1);
        StateSize {
            rows: self.index.len() as u64,
            // What rows were goes with the next commit, or as soon as memory is short, and is nothing of a row.
            bytes: (bytes + undo) as u64,
            free_bytes: (free + undo) as u64,
            changed_bytes: (self.changes.open_len() * per_row) as u64,
        }
    }
}

impl<V: Values> Evict for MapTable<V> {
    fn size(&self) -> StateSize {
        MapTable::size(self)
    }

    fn find_old(&mut self, most: usize) -> Vec<u32> {
        if let Some(undo) = &mut self.undo {
            undo.give_up();
        }
        // The room of what has left is there for less, and none of it is to be found.
        self.free_leaving(usize::MAX);
        self.index.find_old(most)
    }

    fn index(&self) -> &KeyIndex {
        &self.index
    }

    fn evict(&mut self, slots: &[u32], evicted: &mut Evicted) {
        MapTable::evict(self, slots, evicted);
    }
}

fn encode_row<V: Values>(index: &KeyIndex, values: &V, slot: u32, rows: &mut FrozenRows) {
    rows.push(
        index.hash(slot),
        |out| index.write_identity(slot, out),
        Some(|out: &mut Vec<u8>| values.encode(slot, out)),
    );
}
