//! One row per key and what a batch does to it: whatever happens to a key within a batch comes
//! out as one change.

use std::{collections::HashSet, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array},
    compute::{interleave, take},
    datatypes::SchemaRef,
};
use engine::{
    ChangeBatch, Kinds, Timestamp,
    codec::{ByteRows, RowCodec},
    key::{KeyBatch, KeyEncoder},
    operator::{OperatorError, Reassigned, StateSize, TaskScope},
    schema::arrow_schema,
    spill::Evicted,
    state::{Expiring, KeyIndex, MapTable, STAMP_BYTES, Stamped, StateDelta, Ttl, Wanted, evict},
};
use proto::types::{Epoch, Field, RowKind, TableId};
use state_client::{KeyRequest, LoadedRow};

use crate::rows::{RowCells, arrow_types, columns, row_codec};

/// What a row does to its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Decision {
    /// Nothing.
    Ignore,
    /// Becomes the key's row.
    Set,
    /// Takes the key's row away.
    Remove,
}

/// The rows of a stateful operator that keeps one per key.
///
/// A stored value is a prefix of fixed length that the operator compares by, then the row. A key expires
/// with its row, once that is old enough.
pub(super) struct LatestRows {
    table_id: TableId,
    table: MapTable<Stamped<RowCells>>,
    keys: KeyEncoder,
    codec: RowCodec,
    schema: SchemaRef,
    prefix: usize,
    emit_update_before: bool,
    slots: Vec<u32>,
    /// Per key slot: its place among the touched ones, or [`UNTOUCHED`].
    places: Vec<u32>,
}

const UNTOUCHED: u32 = u32::MAX;

/// What a batch did to a key.
struct Touched {
    slot: u32,
    /// Its row before the batch, among the old rows.
    old: Option<u32>,
    /// Its row after the batch, a row of it.
    new: Option<u32>,
}

impl LatestRows {
    /// An empty table of rows of `input` by the columns `keys`.
    pub(super) fn new(
        keys: &[u32],
        input: &[Field],
        tables: &[TableId],
        prefix: usize,
        emit_update_before: bool,
        (ttl, scope): (Option<Ttl>, &TaskScope),
    ) -> Result<Self, OperatorError> {
        let [table] = tables else {
            let message = "an operator that keeps one row per key has one table";
            return Err(OperatorError::Plan(message.to_owned()));
        };
        let keys = columns(keys, input)?;
        let types = arrow_types(input);
        let key_types = keys.iter().map(|key| types[*key].clone()).collect();
        let keys = KeyEncoder::new(keys, key_types)?;
        let partial = scope.restored != Epoch::ZERO;
        let values = Stamped::new(RowCells::default(), ttl);
        let mut rows = MapTable::new(*table, 0, keys.width(), scope, partial, values);
        rows.keep_undo();
        Ok(LatestRows {
            table_id: *table,
            table: rows,
            keys,
            codec: row_codec(input)?,
            schema: arrow_schema(input),
            prefix,
            emit_update_before,
            slots: Vec::new(),
            places: Vec::new(),
        })
    }

    pub(super) fn keys(&self, batch: &ChangeBatch) -> Result<KeyBatch, OperatorError> {
        Ok(self.keys.encode(&batch.rows)?)
    }

    pub(super) fn is_resident(&self) -> bool {
        self.table.index().is_resident()
    }

    pub(super) fn wanted(&self, keys: &KeyBatch) -> Wanted {
        let index = self.table.index();
        let rows = keys.hashes.iter().enumerate();
        let unknown = rows.filter(|(_, hash)| index.is_unknown(**hash));
        let request = |(row, hash): (usize, &u64)| {
            let request = KeyRequest {
                table: self.table_id,
                namespace: 0,
                hash: *hash,
                sub: None,
            };
            (row as u32, request)
        };
        unknown.map(request).collect()
    }

    pub(super) fn table_id(&self) -> TableId {
        self.table_id
    }

    pub(super) fn index_mut(&mut self) -> &mut KeyIndex {
        self.table.index_mut()
    }

    pub(super) fn index(&self) -> &KeyIndex {
        self.table.index()
    }

    pub(super) fn evicted_as_of(&self, hash: u64) -> Epoch {
        self.table.index().evicted_as_of(hash)
    }

    pub(super) fn install(&mut self, hash: u64, rows: &[LoadedRow]) -> Result<(), OperatorError> {
        let stamp = self.table.values.ttl().map_or(0, |_| STAMP_BYTES);
        for row in rows {
            if row.value.len() < self.prefix + stamp {
                return Err(OperatorError::Decode {
                    table: self.table_id.to_string(),
                    cause: "a row is cut short".to_owned(),
                });
            }
            self.table.install(row)?;
        }
        self.table.index_mut().mark_loaded(hash);
        Ok(())
    }

    /// Applies a batch. `decide(row, current)` says what a row does to its key, whose value now
    /// is `current`; `prefix(row, out)` writes the prefix of a row's value. With `keeps_rows`
    /// unset only the prefix is kept.
    pub(super) fn apply(
        &mut self,
        batch: &ChangeBatch,
        keys: &KeyBatch,
        keeps_rows: bool,
        mut decide: impl FnMut(usize, Option<&[u8]>) -> Decision,
        prefix: impl Fn(usize, &mut Vec<u8>),
    ) -> Result<Option<ChangeBatch>, OperatorError> {
        let rows = match keeps_rows {
            true => self.codec.encode(batch.rows.columns(), batch.num_rows())?,
            false => ByteRows::default(),
        };
        let mut slots = std::mem::take(&mut self.slots);
        self.table.find_or_insert(keys, &mut slots);
        self.places.resize(self.table.index().slots(), UNTOUCHED);
        let mut touched: Vec<Touched> = Vec::new();
        let mut old_rows = ByteRows::default();
        let mut value = Vec::new();
        for (row, slot) in slots.iter().enumerate() {
            let has_expired = self.table.values.has_expired(*slot);
            let current = self.table.values.get(*slot).filter(|_| !has_expired);
            let decision = decide(row, current);
            if self.places[*slot as usize] == UNTOUCHED {
                let is_new = current.is_none();
                if decision == Decision::Ignore && !is_new {
                    continue;
                }
                // A slot that is made in vain is given back in the end.
                let old = current.map(|current| {
                    old_rows.push(&current[self.prefix..]);
                    old_rows.len() as u32 - 1
                });
                self.places[*slot as usize] = touched.len() as u32;
                touched.push(Touched {
                    slot: *slot,
                    old,
                    new: None,
                });
            }
            let place = self.places[*slot as usize] as usize;
            match decision {
                Decision::Ignore => {}
                Decision::Set => {
                    value.clear();
                    prefix(row, &mut value);
                    if keeps_rows {
                        value.extend_from_slice(rows.row(row));
                    }
                    self.table.touch(*slot);
                    self.table.values.set(*slot, &value);
                    self.table.values.stamp(*slot);
                    touched[place].new = Some(row as u32);
                }
                Decision::Remove => {
                    self.table.touch(*slot);
                    self.table.values.clear(*slot);
                    touched[place].new = None;
                }
            }
        }
        self.slots = slots;
        for touched in &touched {
            self.places[touched.slot as usize] = UNTOUCHED;
            if self.table.values.get(touched.slot).is_none() {
                self.table.remove(touched.slot);
            }
        }
        self.changes(batch, &rows, &touched, &old_rows)
    }

    /// The changes of touched keys, in the order in which they were touched.
    fn changes(
        &self,
        batch: &ChangeBatch,
        rows: &ByteRows,
        touched: &[Touched],
        old_rows: &ByteRows,
    ) -> Result<Option<ChangeBatch>, OperatorError> {
        // (from the batch, row)
        let mut picks: Vec<(bool, u32)> = Vec::with_capacity(touched.len());
        let mut kinds: Vec<u8> = Vec::with_capacity(touched.len());
        let mut put = |is_new: bool, row: u32, kind: RowKind| {
            picks.push((is_new, row));
            kinds.push(kind as u8);
        };
        for key in touched {
            match (key.old, key.new) {
                (None, None) => {}
                (None, Some(new)) => put(true, new, RowKind::Insert),
                (Some(old), None) => put(false, old, RowKind::Delete),
                (Some(old), Some(new)) => {
                    if old_rows.row(old as usize) == rows.row(new as usize) {
                        continue;
                    }
                    if self.emit_update_before {
                        put(false, old, RowKind::UpdateBefore);
                    }
                    put(true, new, RowKind::UpdateAfter);
                }
            }
        }
        if picks.is_empty() {
            return Ok(None);
        }
        let columns = self.pick(batch, old_rows, &picks)?;
        let options = RecordBatchOptions::new().with_row_count(Some(picks.len()));
        let schema = Arc::clone(&self.schema);
        let rows = RecordBatch::try_new_with_options(schema, columns, &options)?;
        let is_insert = |kind: &u8| *kind == RowKind::Insert as u8;
        let kinds = (!kinds.iter().all(is_insert)).then(|| Kinds::from_bytes(kinds));
        Ok(Some(ChangeBatch::changes(rows, kinds)))
    }

    fn pick(
        &self,
        batch: &ChangeBatch,
        old_rows: &ByteRows,
        picks: &[(bool, u32)],
    ) -> Result<Vec<ArrayRef>, OperatorError> {
        let new_columns = batch.rows.columns();
        if picks.iter().all(|(is_new, _)| *is_new) {
            let indices: UInt32Array = picks.iter().map(|(_, row)| *row).collect::<Vec<_>>().into();
            let taken = new_columns
                .iter()
                .map(|column| take(column, &indices, None));
            return Ok(taken.collect::<Result<_, _>>()?);
        }
        // Only old rows that are put out are decoded.
        let mut old = Vec::new();
        let mut indices = Vec::with_capacity(picks.len());
        for (is_new, row) in picks {
            if *is_new {
                indices.push((1, *row as usize));
            } else {
                indices.push((0, old.len()));
                old.push(old_rows.row(*row as usize));
            }
        }
        let old_columns = self.codec.decode(&old)?;
        let pairs = old_columns.iter().zip(new_columns);
        let mixed = pairs.map(|(old, new)| interleave(&[old, new], &indices));
        Ok(mixed.collect::<Result<_, _>>()?)
    }

    pub(super) fn freeze(&mut self, epoch: Epoch) {
        self.table.freeze(epoch);
    }

    pub(super) fn committed(&mut self, epoch: Epoch) {
        self.table.committed(epoch);
    }

    pub(super) fn roll_back(&mut self, restored: Epoch) {
        let mut dirty = HashSet::new();
        self.table.roll_back(restored, &mut dirty);
        self.table.forget_dirty(&dirty);
    }

    pub(super) fn encode(&mut self, rows_max: usize) -> bool {
        self.table.encode(rows_max)
    }

    pub(super) fn take_delta(&mut self) -> StateDelta {
        let tables = self.table.take_delta().into_iter().collect();
        self.table.shrink();
        StateDelta {
            tables,
            ..StateDelta::default()
        }
    }

    pub(super) fn reassign(&mut self, change: &Reassigned) {
        self.table.reassign(change);
    }

    pub(super) fn size(&self) -> StateSize {
        self.table.size()
    }

    pub(super) fn evict(&mut self, bytes: u64, evicted: &mut Evicted) -> u64 {
        let evicted = evict(&mut self.table, bytes, evicted);
        self.table.shrink();
        evicted
    }

    /// Itself, if its rows expire.
    pub(super) fn expiring(&mut self) -> Option<&mut dyn Expiring> {
        self.table.values.ttl().is_some().then_some(self)
    }
}

impl Expiring for LatestRows {
    fn ttl(&self) -> Ttl {
        let ttl = self.table.values.ttl();
        ttl.expect("only what has a lifetime is asked for it")
    }

    fn set_now(&mut self, now: Timestamp) {
        self.table.values.set_now(now);
    }

    fn expire(
        &mut self,
        keys_max: usize,
        _wanted: &mut Vec<KeyRequest>,
    ) -> Result<bool, OperatorError> {
        let mut due = Vec::new();
        let more = self.table.values.take_due(keys_max, &mut due);
        for slot in due {
            if self.table.index().holds(slot) {
                self.table.remove(slot);
                self.table.values.clear(slot);
                self.table.values.clear_age(slot);
            }
        }
        Ok(more)
    }

    fn partial_tables(&self) -> Vec<TableId> {
        Vec::from_iter((!self.is_resident()).then_some(self.table_id))
    }

    fn overdue(&self, table: TableId, rows: &[LoadedRow]) -> Vec<KeyRequest> {
        let index = self.table.index();
        let values = &self.table.values;
        let overdue = rows
            .iter()
            .filter(|row| values.is_overdue(&row.value) && index.is_unknown(row.hash));
        let read = |row: &LoadedRow| KeyRequest {
            table,
            namespace: 0,
            hash: row.hash,
            sub: None,
        };
        overdue.map(read).collect()
    }
}

/// Hands the state side of an operator to its `latest` rows, and the keyed side but `process`.
macro_rules! keeps_latest_rows {
    ($operator:ty) => {
        impl engine::operator::OperatorState for $operator {
            fn hydrate(
                &mut self,
                _scope: &engine::operator::TaskScope,
            ) -> Vec<engine::state::ScanJob> {
                Vec::new()
            }

            fn hydrated(
                &mut self,
                _job: &engine::state::ScanJob,
                _reply: &state_client::ScanReply,
            ) -> Result<(), engine::operator::OperatorError> {
                Ok(())
            }

            fn freeze(&mut self, epoch: proto::types::Epoch) {
                self.latest.freeze(epoch);
            }

            fn committed(&mut self, epoch: proto::types::Epoch) {
                self.latest.committed(epoch);
            }

            fn encode(&mut self, rows_max: usize) -> bool {
                self.latest.encode(rows_max)
            }

            fn take_delta(&mut self) -> engine::state::StateDelta {
                self.latest.take_delta()
            }

            fn reassign(
                &mut self,
                _scope: &engine::operator::TaskScope,
                change: &engine::operator::Reassigned,
            ) -> Vec<engine::state::ScanJob> {
                self.latest.reassign(change);
                Vec::new()
            }

            fn size(&self) -> engine::operator::StateSize {
                self.latest.size()
            }

            fn evict(&mut self, bytes: u64, evicted: &mut engine::spill::Evicted) -> u64 {
                self.latest.evict(bytes, evicted)
            }
        }
    };
}
pub(super) use keeps_latest_rows;
