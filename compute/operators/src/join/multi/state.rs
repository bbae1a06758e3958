//! The rows of all inputs of a join and the chains that link those of one key.

use std::collections::HashSet;

use engine::{
    key::KeyBatch,
    operator::{OperatorError, Reassigned, StateSize, TaskScope},
    spill::Evicted,
    state::{Evict, KeyIndex, NO_SLOT, StateDelta},
};
use proto::types::{Epoch, TableId};
use state_client::LoadedRow;

use super::shape::{InputShape, MultiShape};
use crate::rows::{Identity, RowIds, RowTable};

/// Rows of all inputs by key.
#[derive(Debug)]
pub(super) struct MultiState {
    pub(super) index: KeyIndex,
    /// By key slot, of each input in turn: the newest row, or [`NO_SLOT`].
    heads: Vec<u32>,
    pub(super) inputs: Vec<Kept>,
}

/// Rows of one input. A chain per key, linked both ways where rows are taken back.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) rows: RowTable,
    next: Vec<u32>,
    /// `None`: rows are never taken back.
    previous: Option<Vec<u32>>,
}

impl MultiState {
    /// Empty state, one table per input, of which it is said whether it only appends.
    pub(super) fn new(
        shape: &MultiShape,
        tables: &[TableId],
        append_only: &[bool],
        scope: &TaskScope,
    ) -> Self {
        let kept = |(table, append_only): (&TableId, &bool)| {
            let identity = match append_only {
                true => Identity::Append { removable: false },
                false => Identity::Content,
            };
            Kept {
                rows: RowTable::new(*table, 0, identity, scope),
                next: Vec::new(),
                previous: (!append_only).then(Vec::new),
            }
        };
        MultiState {
            index: KeyIndex::new(
                shape.inputs[0].keys.width(),
                scope.key_groups,
                &scope.owned,
                scope.restored != Epoch::ZERO,
            ),
            heads: Vec::new(),
            inputs: tables.iter().zip(append_only).map(kept).collect(),
        }
    }

    /// Per input the newest row of a key, or [`NO_SLOT`].
    #[inline]
    pub(super) fn heads(&self, key_slot: u32) -> &[u32] {
        let inputs = self.inputs.len();
        let start = key_slot as usize * inputs;
        &self.heads[start..start + inputs]
    }

    /// Whether a key has rows of all inputs but one.
    #[inline]
    pub(super) fn has_all_but(&self, key_slot: u32, input: usize) -> bool {
        let mut heads = self.heads(key_slot).iter().enumerate();
        heads.all(|(other, head)| other == input || *head != NO_SLOT)
    }

    /// The slot of a row's key, made if there is none.
    #[inline]
    pub(super) fn key_slot(&mut self, keys: &KeyBatch, row: usize) -> u32 {
        let (heads, inputs) = (&mut self.heads, self.inputs.len());
        let mut created = |slot: u32| {
            let start = slot as usize * inputs;
            if start == heads.len() {
                heads.resize(start + inputs, NO_SLOT);
            } else {
                heads[start..start + inputs].fill(NO_SLOT);
            }
        };
        self.index
            .find_or_insert_row(&keys.keys, row, keys.hashes[row], &mut created)
    }

    /// Keeps a row that is never taken back.
    #[inline]
    pub(super) fn append(&mut self, input: usize, key_slot: u32, hash: u64, bytes: &[u8]) {
        let slot = self.inputs[input].rows.append(hash, bytes);
        self.link(input, key_slot, slot);
    }

    /// Keeps a row that is not there.
    pub(super) fn insert(
        &mut self,
        input: usize,
        key_slot: u32,
        (hash, ids): (u64, &RowIds),
        row: usize,
        bytes: &[u8],
    ) {
        let slot = self.inputs[input].rows.insert(hash, ids, row, bytes);
        self.link(input, key_slot, slot);
    }

    /// Takes a row away, and its key with the last one.
    pub(super) fn remove(&mut self, input: usize, key_slot: u32, slot: u32) {
        self.index.touch(key_slot);
        let start = key_slot as usize * self.inputs.len();
        self.inputs[input].unlink(slot, &mut self.heads[start + input]);
        self.inputs[input].rows.remove(slot);
        if self.heads(key_slot).iter().all(|head| *head == NO_SLOT) {
            self.index.remove(key_slot);
        }
    }

    #[inline]
    fn link(&mut self, input: usize, key_slot: u32, slot: u32) {
        let head = &mut self.heads[key_slot as usize * self.inputs.len() + input];
        let next = std::mem::replace(head, slot);
        self.inputs[input].link(slot, next);
    }

    /// Puts committed rows of one input, all of one hash, into memory.
    ///
    /// # Errors
    /// When they do not decode.
    pub(super) fn install(
        &mut self,
        shape: &InputShape,
        input: usize,
        loaded: &[LoadedRow],
    ) -> Result<(), OperatorError> {
        let table = &self.inputs[input].rows;
        let mut bytes: Vec<&[u8]> = Vec::with_capacity(loaded.len());
        for row in loaded {
            let (row, _) = table.stored_row(&row.value)?;
            if row.len() < shape.codec.fixed_bytes() {
                return Err(table.damaged("a row is cut short"));
            }
            bytes.push(row);
        }
        let keys = shape.keys.columns().iter();
        let keys = keys.map(|column| shape.codec.decode_column(*column, &bytes));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        let keys = shape.keys.encode_arrays(&keys, loaded.len())?;
        for (row, loaded) in loaded.iter().enumerate() {
            let slot = self.inputs[input].rows.install(loaded)?;
            let key_slot = self.key_slot(&keys, row);
            self.link(input, key_slot, slot);
        }
        Ok(())
    }

    /// Forgets the rows of key groups that are another task's from now on; those that came are to be
    /// read.
    pub(super) fn reassign(&mut self, change: &Reassigned) {
        if !change.left.is_empty() {
            let index = &self.index;
            let left = |hash: u64| change.left.contains(index.key_group(hash));
            for kept in &mut self.inputs {
                kept.rows.forget_left(&left);
            }
        }
        for key_slot in self.index.slots_of(&change.left) {
            self.index.forget(key_slot);
        }
        self.index.reassign(&change.left, &change.came);
    }

    /// See `OperatorState::freeze`.
    pub(super) fn freeze(&mut self, epoch: Epoch) {
        self.index.freeze(epoch);
        let inputs = self.inputs.iter_mut();
        inputs.for_each(|kept| kept.rows.freeze(epoch));
    }

    /// See `OperatorState::encode`.
    pub(super) fn encode(&mut self, rows_max: usize) -> bool {
        let mut inputs = self.inputs.iter_mut();
        inputs.all(|kept| kept.rows.encode(rows_max))
    }

    /// See `OperatorState::take_delta`.
    pub(super) fn take_delta(&mut self) -> StateDelta {
        let inputs = self.inputs.iter_mut();
        StateDelta {
            tables: inputs.filter_map(|kept| kept.rows.take_delta()).collect(),
            ..StateDelta::default()
        }
    }

    /// See `OperatorState::committed`.
    pub(super) fn committed(&mut self, epoch: Epoch) {
        self.index.committed(epoch);
        let inputs = self.inputs.iter_mut();
        inputs.for_each(|kept| kept.rows.committed(epoch));
    }

    /// Forgets all rows of keys of which some came after `restored`: they are to be read again.
    pub(super) fn roll_back(&mut self, restored: Epoch) {
        let mut dirty = HashSet::new();
        for kept in &mut self.inputs {
            kept.rows.roll_back(restored, &mut dirty);
        }
        let is_dirty = |hash: u64| dirty.contains(&hash);
        for kept in &mut self.inputs {
            kept.rows.forget_left(&is_dirty);
        }
        let keys: Vec<u32> = self.index.iter().collect();
        for key in keys {
            if is_dirty(self.index.hash(key)) {
                self.index.forget(key);
            }
        }
        self.index.roll_back(restored);
        self.index.mark_unknown(&dirty);
    }

    /// Live rows and bytes.
    pub(super) fn size(&self) -> StateSize {
        let mut size = StateSize {
            bytes: (self.index.memory() + self.heads.len() * 4) as u64,
            free_bytes: self.index.free_memory() as u64,
            ..StateSize::default()
        };
        for kept in &self.inputs {
            let rows = kept.rows.size();
            size.rows += rows.rows;
            size.bytes += rows.bytes + kept.memory() as u64;
            size.free_bytes += rows.free_bytes;
            size.changed_bytes += rows.changed_bytes;
        }
        size
    }
}

impl Evict for MultiState {
    fn size(&self) -> StateSize {
        MultiState::size(self)
    }

    fn find_old(&mut self, most: usize) -> Vec<u32> {
        self.index.find_old(most)
    }

    fn index(&self) -> &KeyIndex {
        &self.index
    }

    fn evict(&mut self, slots: &[u32], evicted: &mut Evicted) {
        // All tables of a key are asked for, though some may have no rows.
        for kept in &self.inputs {
            let _ = evicted.rows(kept.rows.id());
        }
        for key_slot in slots {
            let start = *key_slot as usize * self.inputs.len();
            for (kept, head) in self.inputs.iter_mut().zip(&self.heads[start..]) {
                let mut slot = *head;
                while slot != NO_SLOT {
                    let next = kept.next(slot);
                    kept.rows.evict(slot, evicted);
                    slot = next;
                }
            }
            self.index.evict(*key_slot);
        }
    }
}

impl Kept {
    /// The row after another in its chain.
    #[inline]
    pub(super) fn next(&self, slot: u32) -> u32 {
        self.next[slot as usize]
    }

    #[inline]
    fn link(&mut self, slot: u32, next: u32) {
        set(&mut self.next, slot, next);
        if let Some(previous) = &mut self.previous {
            set(previous, slot, NO_SLOT);
            if next != NO_SLOT {
                previous[next as usize] = slot;
            }
        }
    }

    fn unlink(&mut self, slot: u32, head: &mut u32) {
        let Some(previous) = &mut self.previous else {
            return;
        };
        let (before, after) = (previous[slot as usize], self.next[slot as usize]);
        match before {
            NO_SLOT => *head = after,
            before => self.next[before as usize] = after,
        }
        if after != NO_SLOT {
            previous[after as usize] = before;
        }
    }

    fn memory(&self) -> usize {
        let previous = self.previous.as_ref().map_or(0, Vec::len);
        (self.next.len() + previous) * 4
    }
}

#[inline]
fn set(column: &mut Vec<u32>, slot: u32, value: u32) {
    if slot as usize == column.len() {
        column.push(value);
    } else {
        column[slot as usize] = value;
    }
}
