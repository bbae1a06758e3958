//! The versions of a versioned table, by key and time. Of those that the watermark has passed a key
//! keeps the newest one, and none at all if that says that the row was deleted.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, BooleanArray},
    buffer::BooleanBuffer,
    datatypes::DataType,
};
use engine::{
    ChangeBatch, TIMESTAMP_MIN, Timestamp,
    codec::RowCodec,
    key::{KeyBatch, KeyEncoder},
    late::LateRows,
    operator::{OperatorError, Reassigned, StateSize, TaskScope},
    spill::Evicted,
    state::{Evict, KeyIndex, NO_SLOT},
};
use proto::types::{Epoch, Field, RowKind, TableId};
use state_client::LoadedRow;

use crate::rows::{Identity, RowTable, arrow_types, milliseconds};

/// Versions of rows by key.
pub(super) struct Versions {
    keys: KeyEncoder,
    time_column: usize,
    /// Of a row, and whether it is deleted.
    codec: RowCodec,
    columns: usize,
    pub(super) index: KeyIndex,
    pub(super) rows: RowTable,
    /// Per key slot: its newest version.
    newest: Vec<u32>,
    /// Per row: the next older version of its key, its time, and whether it says that there is none.
    older: Vec<u32>,
    times: Vec<Timestamp>,
    deleted: Vec<bool>,
    /// When keys have versions to give up, and which: those before a newer one, and marks of deletion.
    passing: BTreeMap<Timestamp, Vec<u32>>,
    watermark: Timestamp,
}

impl Versions {
    /// No versions of rows of `fields` yet, by the columns `keys` and the time in a column.
    pub(super) fn new(
        table: TableId,
        fields: &[Field],
        keys: &[usize],
        time_column: usize,
        scope: &TaskScope,
    ) -> Result<Versions, OperatorError> {
        let mut types = arrow_types(fields);
        let types_of = |columns: &[usize]| -> Vec<DataType> {
            columns
                .iter()
                .map(|column| types[*column].clone())
                .collect()
        };
        let mut unique = keys.to_vec();
        unique.push(time_column);
        let keys = KeyEncoder::new(keys.to_vec(), types_of(keys))?;
        let unique_types = types_of(&unique);
        let identity = Identity::Unique(unique, RowCodec::new(&unique_types)?);
        types.push(DataType::Boolean);
        let partial = scope.restored != Epoch::ZERO;
        Ok(Versions {
            index: KeyIndex::new(keys.width(), scope.key_groups, &scope.owned, partial),
            keys,
            time_column,
            codec: RowCodec::new(&types)?,
            columns: fields.len(),
            rows: RowTable::new(table, 0, identity, scope),
            newest: Vec::new(),
            older: Vec::new(),
            times: Vec::new(),
            deleted: Vec::new(),
            passing: BTreeMap::new(),
            watermark: TIMESTAMP_MIN,
        })
    }

    /// The codec of stored rows: the columns, then whether the row is deleted.
    pub(super) fn codec(&self) -> &RowCodec {
        &self.codec
    }

    /// The columns of stored rows.
    pub(super) fn decode(&self, rows: &[&[u8]]) -> Result<Vec<ArrayRef>, OperatorError> {
        let mut columns = self.codec.decode(rows)?;
        columns.truncate(self.columns);
        Ok(columns)
    }

    /// The version of a row of `keys` that was valid at `time`, or [`NO_SLOT`].
    pub(super) fn at(&mut self, keys: &KeyBatch, row: usize, time: Timestamp) -> u32 {
        let key_slot = self.index.find_row(&keys.keys, row, keys.hashes[row]);
        if key_slot == NO_SLOT {
            return NO_SLOT;
        }
        self.index.touch(key_slot);
        match self.newest_at(key_slot, time) {
            slot if slot != NO_SLOT && !self.deleted[slot as usize] => slot,
            _ => NO_SLOT,
        }
    }

    /// Takes in changes of the table; `is_void` are rows without a key or a time. Those that came
    /// when a newer version had been passed by the watermark.
    pub(super) fn take_in(
        &mut self,
        batch: &ChangeBatch,
        keys: &KeyBatch,
        is_void: Option<&BooleanBuffer>,
    ) -> Result<LateRows, OperatorError> {
        let columns = batch.rows.columns();
        let times = milliseconds(&columns[self.time_column])?;
        let mut stored = columns.to_vec();
        let deleted = (0..batch.num_rows()).map(|row| Some(batch.kind(row) == RowKind::Delete));
        stored.push(Arc::new(deleted.collect::<BooleanArray>()));
        let bytes = self.codec.encode(&stored, batch.num_rows())?;
        let ids = self.rows.ids(&bytes, &stored)?;
        let mut late = LateRows::default();
        for row in 0..batch.num_rows() {
            let kind = batch.kind(row);
            if kind == RowKind::UpdateBefore || is_void.is_some_and(|void| void.value(row)) {
                continue;
            }
            let (hash, time) = (keys.hashes[row], times[row]);
            let key_slot = self.key_slot(keys, row);
            if time < self.passed_by(key_slot) {
                late.push(row, self.watermark);
                continue;
            }
            let known = self.rows.find(hash, &ids, row, bytes.row(row));
            let slot = if known == NO_SLOT {
                let slot = self.rows.insert(hash, &ids, row, bytes.row(row));
                self.link(key_slot, slot, time);
                slot
            } else {
                self.rows.replace(known, bytes.row(row));
                known
            };
            self.deleted[slot as usize] = kind == RowKind::Delete;
            self.await_passing(key_slot, slot);
        }
        Ok(late)
    }

    /// The watermark moves: what it has passed goes, but for the newest version of each key.
    pub(super) fn advance(&mut self, watermark: Timestamp) {
        self.watermark = self.watermark.max(watermark);
        while let Some(entry) = self.passing.first_entry()
            && *entry.key() <= self.watermark
        {
            for key_slot in entry.remove() {
                // The slot may be another key's by now, which is no harm.
                if self.index.holds(key_slot) {
                    self.prune(key_slot);
                }
            }
        }
    }

    /// Puts versions that were read into memory.
    pub(super) fn install(&mut self, loaded: &[LoadedRow]) -> Result<(), OperatorError> {
        let mut bytes: Vec<&[u8]> = Vec::with_capacity(loaded.len());
        for row in loaded {
            if row.value.len() < self.codec.fixed_bytes() {
                return Err(self.rows.damaged("a version is cut short"));
            }
            bytes.push(&row.value);
        }
        let mut columns = Vec::with_capacity(self.keys.columns().len());
        for column in self.keys.columns() {
            columns.push(self.codec.decode_column(*column, &bytes)?);
        }
        let keys = self.keys.encode_arrays(&columns, loaded.len())?;
        let times = milliseconds(&self.codec.decode_column(self.time_column, &bytes)?)?;
        let deleted = self.codec.decode_column(self.columns, &bytes)?;
        let deleted = deleted.as_boolean();
        for (row, loaded) in loaded.iter().enumerate() {
            let slot = self.rows.install(loaded)?;
            let key_slot = self.key_slot(&keys, row);
            self.link(key_slot, slot, times[row]);
            self.deleted[slot as usize] = deleted.is_valid(row) && deleted.value(row);
            self.await_passing(key_slot, slot);
        }
        Ok(())
    }

    /// Forgets what is another task's from now on.
    pub(super) fn reassign(&mut self, change: &Reassigned) {
        if !change.left.is_empty() {
            let index = &self.index;
            let left = |hash: u64| change.left.contains(index.key_group(hash));
            self.rows.forget_left(&left);
        }
        for key_slot in self.index.slots_of(&change.left) {
            self.index.forget(key_slot);
        }
        self.index.reassign(&change.left, &change.came);
    }

    fn key_slot(&mut self, keys: &KeyBatch, row: usize) -> u32 {
        let newest = &mut self.newest;
        let mut created = |slot: u32| match newest.get_mut(slot as usize) {
            Some(newest) => *newest = NO_SLOT,
            None => newest.push(NO_SLOT),
        };
        let hash = keys.hashes[row];
        self.index
            .find_or_insert_row(&keys.keys, row, hash, &mut created)
    }

    /// The newest version of a key that is not after `time`.
    fn newest_at(&self, key_slot: u32, time: Timestamp) -> u32 {
        let mut slot = self.newest[key_slot as usize];
        while slot != NO_SLOT && self.times[slot as usize] > time {
            slot = self.older[slot as usize];
        }
        slot
    }

    /// The time of the newest version that the watermark has passed.
    fn passed_by(&self, key_slot: u32) -> Timestamp {
        match self.newest_at(key_slot, self.watermark) {
            NO_SLOT => TIMESTAMP_MIN,
            slot => self.times[slot as usize],
        }
    }

    /// Puts a row that its table has among the versions of its key.
    fn link(&mut self, key_slot: u32, slot: u32, time: Timestamp) {
        let at = slot as usize;
        if at >= self.older.len() {
            self.older.resize(at + 1, NO_SLOT);
            self.times.resize(at + 1, TIMESTAMP_MIN);
            self.deleted.resize(at + 1, false);
        }
        self.times[at] = time;
        let newest = self.newest[key_slot as usize];
        if newest == NO_SLOT || self.times[newest as usize] < time {
            self.older[at] = newest;
            self.newest[key_slot as usize] = slot;
            return;
        }
        let mut newer = newest as usize;
        while let next = self.older[newer]
            && next != NO_SLOT
            && self.times[next as usize] > time
        {
            newer = next as usize;
        }
        self.older[at] = self.older[newer];
        self.older[newer] = slot;
    }

    /// Whether a key has one version, which says what the row is.
    fn is_settled(&self, key_slot: u32) -> bool {
        match self.newest[key_slot as usize] {
            NO_SLOT => true,
            slot => self.older[slot as usize] == NO_SLOT && !self.deleted[slot as usize],
        }
    }

    /// Has a key looked at when the watermark passes a version of it, if something can go then.
    fn await_passing(&mut self, key_slot: u32, slot: u32) {
        if self.is_settled(key_slot) {
            return;
        }
        // An older one that comes late goes with the next newer one.
        let time = self.times[slot as usize];
        self.passing.entry(time).or_default().push(key_slot);
        let newest = self.newest[key_slot as usize];
        if newest != slot {
            let time = self.times[newest as usize];
            self.passing.entry(time).or_default().push(key_slot);
        }
    }

    /// Gives up the versions of a key that the watermark has passed, but for the newest one.
    fn prune(&mut self, key_slot: u32) {
        let kept = self.newest_at(key_slot, self.watermark);
        if kept == NO_SLOT {
            return;
        }
        let mut slot = std::mem::replace(&mut self.older[kept as usize], NO_SLOT);
        let is_over = self.deleted[kept as usize];
        if slot != NO_SLOT || is_over {
            self.index.touch(key_slot);
        }
        while slot != NO_SLOT {
            let next = self.older[slot as usize];
            self.rows.remove(slot);
            slot = next;
        }
        if !is_over {
            return;
        }
        let newest = self.newest[key_slot as usize];
        if newest == kept {
            self.rows.remove(kept);
            self.index.remove(key_slot);
            return;
        }
        let mut newer = newest as usize;
        while self.older[newer] != kept {
            newer = self.older[newer] as usize;
        }
        self.older[newer] = NO_SLOT;
        self.rows.remove(kept);
    }
}

impl Evict for Versions {
    fn size(&self) -> StateSize {
        let rows = self.rows.size();
        let columns = self.newest.len() * 4 + self.older.len() * 13;
        StateSize {
            rows: rows.rows,
            bytes: rows.bytes + (self.index.memory() + columns) as u64,
            free_bytes: rows.free_bytes + self.index.free_memory() as u64,
            changed_bytes: rows.changed_bytes,
        }
    }

    /// Keys that have something to give up soon stay until then, or nobody would look at them.
    fn find_old(&mut self, most: usize) -> Vec<u32> {
        let old = self.index.find_old(most);
        let of_one_hash = |a: &u32, b: &u32| self.index.hash(*a) == self.index.hash(*b);
        let is_settled = |keys: &&[u32]| keys.iter().all(|key| self.is_settled(*key));
        let settled = old.chunk_by(of_one_hash).filter(is_settled);
        settled.flatten().copied().collect()
    }

    fn index(&self) -> &KeyIndex {
        &self.index
    }

    fn evict(&mut self, slots: &[u32], evicted: &mut Evicted) {
        // Asked for although a key may have no rows.
        let _ = evicted.rows(self.rows.id());
        for key_slot in slots {
            let mut slot = self.newest[*key_slot as usize];
            while slot != NO_SLOT {
                let next = self.older[slot as usize];
                self.rows.evict(slot, evicted);
                slot = next;
            }
            self.index.evict(*key_slot);
        }
    }
}
