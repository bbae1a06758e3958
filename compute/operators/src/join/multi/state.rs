//! The rows of all inputs of a join and the chains that link those of one key.

use engine::{
    key::KeyBatch,
    operator::{OperatorError, Reassigned, StateSize, TaskScope},
    spill::Evicted,
    state::{Evict, KeyIndex, NO_SLOT, StateDelta},
};
use proto::types::{Epoch, TableId};
use state_client::LoadedRow;

use super::{
    super::{chain::Chain, tables},
    shape::{InputShape, MultiShape},
};
use crate::rows::{Identity, RowIds, RowTable};

/// Rows of all inputs by key.
#[derive(Debug)]
pub(super) struct MultiState {
    pub(super) index: KeyIndex,
    /// By key slot, of each input in turn: the newest row, or [`NO_SLOT`].
    heads: Vec<u32>,
    pub(super) inputs: Vec<Kept>,
}

/// Rows of one input, in a chain per key.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) rows: RowTable,
    pub(super) chain: Chain,
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
                chain: Chain::new(!append_only),
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

    /// The slot of a row's key, where [`KeyIndex::likely`] has found it or not.
    #[inline]
    pub(super) fn likely_slot(&mut self, found: u32, keys: &KeyBatch, row: usize) -> u32 {
        let found = self.index.use_found(found);
        found.unwrap_or_else(|| self.key_slot(keys, row))
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
        self.inputs[input]
            .chain
            .unlink(slot, &mut self.heads[start + input]);
        self.inputs[input].rows.remove(slot);
        if self.heads(key_slot).iter().all(|head| *head == NO_SLOT) {
            self.index.remove(key_slot);
        }
    }

    #[inline]
    fn link(&mut self, input: usize, key_slot: u32, slot: u32) {
        let head = &mut self.heads[key_slot as usize * self.inputs.len() + input];
        let next = std::mem::replace(head, slot);
        self.inputs[input].chain.link(slot, next);
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
        for kept in &mut self.inputs {
            tables::forget_left(&self.index, &mut kept.rows, change);
        }
        tables::reassign(&mut self.index, change);
    }

    fn tables(&mut self) -> (&mut KeyIndex, impl Iterator<Item = &mut RowTable>) {
        let tables = self.inputs.iter_mut().map(|kept| &mut kept.rows);
        (&mut self.index, tables)
    }

    /// See `OperatorState::freeze`.
    pub(super) fn freeze(&mut self, epoch: Epoch) {
        let (index, tables) = self.tables();
        tables::freeze(index, tables, epoch);
    }

    /// See `OperatorState::encode`.
    pub(super) fn encode(&mut self, rows_max: usize) -> bool {
        tables::encode(self.tables().1, rows_max)
    }

    /// See `OperatorState::take_delta`.
    pub(super) fn take_delta(&mut self) -> StateDelta {
        tables::take_delta(self.tables().1)
    }

    /// See `OperatorState::committed`.
    pub(super) fn committed(&mut self, epoch: Epoch) {
        let (index, tables) = self.tables();
        tables::committed(index, tables, epoch);
    }

    /// Forgets all rows of keys of which some came after `restored`: they are to be read again.
    pub(super) fn roll_back(&mut self, restored: Epoch) {
        let (index, tables) = self.tables();
        tables::roll_back(index, tables, restored);
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
            size.bytes += rows.bytes + kept.chain.memory() as u64;
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
                    let next = kept.chain.next(slot);
                    kept.rows.evict(slot, evicted);
                    slot = next;
                }
            }
            self.index.evict(*key_slot);
        }
    }
}
