//! The rows of both sides of a join and the chains that link rows of one key.

use engine::{
    key::KeyBatch,
    operator::{OperatorError, Reassigned, StateSize, TaskScope},
    spill::Evicted,
    state::{Evict, KeyIndex, NO_SLOT, StateDelta, Ttl},
};

use proto::types::Epoch;
use state_client::LoadedRow;

use super::{
    best::{BestPairs, Per},
    chain::{Chain, set},
    expire::Ages,
    shape::{JoinShape, LEFT, RIGHT},
    tables,
};
use crate::rows::{RowIds, RowTable};

/// Rows of both sides by key.
#[derive(Debug)]
pub(super) struct JoinState {
    pub(super) index: KeyIndex,
    /// Per key slot: first row of each side, or [`NO_SLOT`].
    pub(super) heads: Vec<[u32; 2]>,
    pub(super) sides: [Side; 2],
    /// When rows expire, if they do.
    pub(super) ages: Option<Ages>,
    /// What was put out, where only the best pairs are wanted.
    pub(super) best: Option<BestPairs>,
}

/// Rows of one side, in a chain per key.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) rows: RowTable,
    chain: Chain,
    /// Matching (distinct) rows of the other side, where the join asks for it.
    pub(super) degrees: Option<Vec<u32>>,
}

impl JoinState {
    /// Empty state; `append_only` per side.
    pub(super) fn new(
        shape: &JoinShape,
        tables: [RowTable; 2],
        append_only: [bool; 2],
        ttl: [Option<Ttl>; 2],
        scope: &TaskScope,
        partial: bool,
    ) -> Self {
        let [left, right] = tables;
        let side = |rows, side: usize| Side {
            rows,
            chain: Chain::new(!append_only[side] || ttl[side].is_some()),
            degrees: shape.tracks(side).then(Vec::new),
        };
        JoinState {
            index: KeyIndex::new(
                shape.keys[LEFT].width(),
                scope.key_groups,
                &scope.owned,
                partial,
            ),
            heads: Vec::new(),
            sides: [side(left, LEFT), side(right, RIGHT)],
            ages: Ages::new(ttl),
            best: shape.best.as_ref().map(|best| BestPairs::new(best.per)),
        }
    }

    /// The state without counts of matches, for who has other means.
    pub(super) fn without_degrees(mut self) -> JoinState {
        self.sides.iter_mut().for_each(|side| side.degrees = None);
        self
    }

    /// The state with rows that go by these ages.
    pub(super) fn aging(mut self, ages: Ages) -> JoinState {
        self.ages = Some(ages);
        self
    }

    /// The slot of a row's key, or [`NO_SLOT`].
    #[inline]
    pub(super) fn find(&mut self, keys: &KeyBatch, row: usize) -> u32 {
        let slot = self.index.find_row(&keys.keys, row, keys.hashes[row]);
        if slot != NO_SLOT {
            self.index.touch(slot);
        }
        slot
    }

    /// The slot of a row's key, made if there is none.
    #[inline]
    pub(super) fn key_slot(&mut self, keys: &KeyBatch, row: usize) -> u32 {
        let (heads, ages) = (&mut self.heads, &mut self.ages);
        let mut best = self.best.as_mut().filter(|best| best.per == Per::Key);
        let mut created = |slot: u32| {
            if let Some(best) = &mut best {
                best.begin(slot);
            }
            if let Some(ages) = ages {
                ages.slots.reserve(slot as usize + 1);
                ages.slots.clear(slot);
            }
            if slot as usize == heads.len() {
                heads.push([NO_SLOT; 2]);
            } else {
                heads[slot as usize] = [NO_SLOT; 2];
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

    /// The bytes of a row.
    #[inline]
    pub(super) fn row(&self, side: usize, slot: u32) -> &[u8] {
        self.sides[side].rows.row(slot)
    }

    /// The first row of a key's chain.
    #[inline]
    pub(super) fn head(&self, key_slot: u32, side: usize) -> u32 {
        self.heads[key_slot as usize][side]
    }

    /// Appends a row that is never taken back.
    #[inline]
    pub(super) fn append(&mut self, side: usize, key_slot: u32, hash: u64, bytes: &[u8]) -> u32 {
        let slot = self.sides[side].rows.append(hash, bytes);
        self.link(side, key_slot, slot);
        slot
    }

    /// Appends a row that matches nothing.
    pub(super) fn append_lonely(&mut self, side: usize, hash: u64, bytes: &[u8]) -> u32 {
        let slot = self.sides[side].rows.append(hash, bytes);
        self.chain(side, slot, NO_SLOT);
        slot
    }

    /// Adds a row that is not there.
    pub(super) fn insert(
        &mut self,
        side: usize,
        key_slot: u32,
        hash: u64,
        ids: &RowIds,
        row: usize,
        bytes: &[u8],
    ) -> u32 {
        let slot = self.sides[side].rows.insert(hash, ids, row, bytes);
        self.link(side, key_slot, slot);
        slot
    }

    /// Links a row that its table already has.
    #[inline]
    pub(super) fn link(&mut self, side: usize, key_slot: u32, slot: u32) {
        let head = &mut self.heads[key_slot as usize][side];
        let next = std::mem::replace(head, slot);
        self.chain(side, slot, next);
        if let Some(ages) = &mut self.ages
            && let Some(ttl) = ages.ttl[side]
        {
            let stamp = self.sides[side].rows.stamp(slot);
            ages.slots.lower(key_slot, ttl.due(stamp));
        }
    }

    /// Puts a row before another in a chain.
    #[inline]
    fn chain(&mut self, side: usize, slot: u32, next: u32) {
        self.sides[side].link(slot, next);
        if let Some(best) = &mut self.best
            && best.per == Per::Row(side)
        {
            best.begin(slot);
        }
    }

    /// Takes a row away, and its key with the last one.
    pub(super) fn remove(&mut self, side: usize, key_slot: u32, slot: u32) {
        self.index.touch(key_slot);
        let heads = &mut self.heads[key_slot as usize];
        self.sides[side].unlink(slot, &mut heads[side]);
        let is_empty = *heads == [NO_SLOT; 2];
        self.sides[side].rows.remove(slot);
        if is_empty {
            self.forget_best(key_slot);
            self.index.remove(key_slot);
        }
    }

    /// A key goes: what was put out for it takes no memory any more.
    pub(super) fn forget_best(&mut self, key_slot: u32) {
        if let Some(best) = &mut self.best
            && best.per == Per::Key
        {
            best.begin(key_slot);
        }
    }

    /// Forgets the rows of key groups that are another task's from now on, and says which they were;
    /// those that came are to be read.
    pub(super) fn reassign(&mut self, change: &Reassigned) -> [Vec<u32>; 2] {
        let index = &self.index;
        let sides = self.sides.each_mut();
        let forgotten = sides.map(|side| tables::forget_left(index, &mut side.rows, change));
        for key_slot in self.index.slots_of(&change.left) {
            self.forget_best(key_slot);
        }
        tables::reassign(&mut self.index, change);
        forgotten
    }

    fn tables(&mut self) -> (&mut KeyIndex, impl Iterator<Item = &mut RowTable>) {
        let tables = self.sides.iter_mut().map(|side| &mut side.rows);
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

    /// Forgets all rows of keys of which some were changed after `restored`: they are to be read again.
    pub(super) fn roll_back(&mut self, restored: Epoch) {
        let (index, tables) = self.tables();
        tables::roll_back(index, tables, restored);
        // What was put out after that does not count, though its row may be clean.
        self.best.iter_mut().for_each(BestPairs::forget_all);
    }

    /// Puts loaded rows of one side into memory; of each the slot of its key, [`NO_SLOT`] where a NULL
    /// in it matches nothing, and its own.
    pub(super) fn install(
        &mut self,
        shape: &JoinShape,
        side: usize,
        loaded: &[LoadedRow],
    ) -> Result<Vec<(u32, u32)>, OperatorError> {
        let mut bytes: Vec<&[u8]> = Vec::with_capacity(loaded.len());
        for row in loaded {
            let (row, _) = self.sides[side].rows.stored_row(&row.value)?;
            if row.len() < shape.codecs[side].fixed_bytes() {
                return Err(self.sides[side].rows.damaged("a row is cut short"));
            }
            bytes.push(row);
        }
        let mut columns = Vec::new();
        for column in shape.keys[side].columns() {
            columns.push(shape.codecs[side].decode_column(*column, &bytes)?);
        }
        let keys = shape.keys[side].encode_arrays(&columns, loaded.len())?;
        let null_keys = shape.null_key_columns(&columns);
        let mut slots = Vec::with_capacity(loaded.len());
        for (row, loaded) in loaded.iter().enumerate() {
            let slot = self.sides[side].rows.install(loaded)?;
            if null_keys.as_ref().is_some_and(|nulls| nulls.value(row)) {
                self.chain(side, slot, NO_SLOT);
                slots.push((NO_SLOT, slot));
                continue;
            }
            let key_slot = self.key_slot(&keys, row);
            self.link(side, key_slot, slot);
            slots.push((key_slot, slot));
        }
        Ok(slots)
    }

    /// Live rows and bytes.
    pub(super) fn size(&self) -> StateSize {
        let mut size = StateSize {
            bytes: (self.index.memory() + self.heads.len() * 8) as u64,
            free_bytes: self.index.free_memory() as u64,
            ..StateSize::default()
        };
        if let Some(ages) = &self.ages {
            size.bytes += ages.slots.memory() as u64;
        }
        if let Some(best) = &self.best {
            size.bytes += best.memory() as u64;
            size.free_bytes += best.free_memory() as u64;
        }
        for side in &self.sides {
            let rows = side.rows.size();
            size.rows += rows.rows;
            size.bytes += rows.bytes + side.memory() as u64;
            size.free_bytes += rows.free_bytes;
            size.changed_bytes += rows.changed_bytes;
        }
        size
    }
}

impl Evict for JoinState {
    fn size(&self) -> StateSize {
        JoinState::size(self)
    }

    fn find_old(&mut self, most: usize) -> Vec<u32> {
        self.index.find_old(most)
    }

    fn index(&self) -> &KeyIndex {
        &self.index
    }

    fn evict(&mut self, slots: &[u32], evicted: &mut Evicted) {
        // Both sides of a key are asked for, though one may have no rows.
        for side in &self.sides {
            let _ = evicted.rows(side.rows.id());
        }
        for key_slot in slots {
            let heads = self.heads[*key_slot as usize];
            for (side, head) in self.sides.iter_mut().zip(heads) {
                let mut slot = head;
                while slot != NO_SLOT {
                    let next = side.next(slot);
                    side.rows.evict(slot, evicted);
                    slot = next;
                }
            }
            self.forget_best(*key_slot);
            self.index.evict(*key_slot);
        }
    }
}

impl Side {
    /// The row after another in its chain.
    #[inline]
    pub(super) fn next(&self, slot: u32) -> u32 {
        self.chain.next(slot)
    }

    #[inline]
    fn link(&mut self, slot: u32, next: u32) {
        self.chain.link(slot, next);
        if let Some(degrees) = &mut self.degrees {
            set(degrees, slot, 0);
        }
    }

    pub(super) fn unlink(&mut self, slot: u32, head: &mut u32) {
        self.chain.unlink(slot, head);
    }

    fn memory(&self) -> usize {
        self.chain.memory() + self.degrees.as_ref().map_or(0, |degrees| degrees.len() * 4)
    }
}
