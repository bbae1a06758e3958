//! The updating join: both inputs are kept, and every change of one is paired with the other.

use std::collections::BTreeMap;

use arrow::{
    array::{Array, ArrayRef},
    compute::concat,
};
use engine::{
    ChangeBatch, Element, TIMESTAMP_MIN, Timestamp,
    codec::{ByteRows, RowCodec},
    key::KeyBatch,
    operator::{
        Operator, OperatorContext, OperatorError, OperatorState, Reassigned, StateSize, Step,
        TaskScope,
    },
    spill::Evicted,
    state::{
        Expiring, KeyIndex, Keyed, KeyedLogic, NO_SLOT, ScanJob, StateDelta, StateTtl, Wanted,
        evict,
    },
};
use proto::{
    plan::{self, Changelog, ColumnSet},
    types::{Epoch, Field, TableId},
};
use state_client::{KeyRequest, LoadedRow, ScanReply};

use super::{
    beaten::{Candidates, recall},
    best::BestShape,
    degree::recount,
    probe::{Event, Probe},
    shape::{JoinShape, KeyColumns, LEFT, RIGHT},
    state::JoinState,
    until::{Until, ages, lifetimes},
};
use crate::{
    EvalContext,
    rows::{Identity, RowTable, arrow_types, columns},
};

/// Builds the operator of a [`plan::Join`].
pub struct JoinOperator {
    pub(super) shape: JoinShape,
    pub(super) state: JoinState,
    append_only: [bool; 2],
    is_unique: [bool; 2],
    pub(super) tables: [TableId; 2],
    pub(super) probe: Option<Probe>,
    /// Rows of the batch that is being paired, where those that are beaten are not kept.
    pub(super) candidates: Option<Candidates>,
    pub(super) eval: EvalContext,
    /// By side: when rows go, where they go by times of their own.
    pub(super) until: [Option<Until>; 2],
    /// Key slots of hashes of which one side is loaded.
    pub(super) half_loaded: BTreeMap<u64, Vec<u32>>,
}

impl JoinOperator {
    /// A join of `inputs` with changelogs `changelogs`, kept in `tables`: left rows, right rows.
    ///
    /// # Errors
    /// When the plan cannot be run.
    pub fn build(
        spec: &plan::Join,
        inputs: &[&[Field]],
        tables: &[TableId],
        changelogs: &[Changelog],
        ttl: &StateTtl,
        scope: &TaskScope,
    ) -> Result<Box<dyn Operator>, OperatorError> {
        let ([left, right], [left_table, right_table], [left_log, right_log]) =
            (inputs, tables, changelogs)
        else {
            let message = "a join has two inputs and two tables";
            return Err(OperatorError::Plan(message.to_owned()));
        };
        let inputs = [*left, *right];
        let keys = KeyColumns {
            left: &spec.left_keys,
            right: &spec.right_keys,
            null_safe: &spec.null_safe,
        };
        let condition = spec.condition.as_ref();
        let shape = JoinShape::new(spec.r#type(), &keys, condition, inputs, scope.batch_rows)?;
        let append_only = [left_log.is_append(), right_log.is_append()];
        let shape = shape.of_best(BestShape::compile(spec, inputs, append_only)?);
        let unique = [
            upsert_key(&spec.left_unique_key, left_log),
            upsert_key(&spec.right_unique_key, right_log),
        ];
        let tables = [*left_table, *right_table];
        let until = [
            Until::compile(&spec.left_until, inputs[LEFT])?,
            Until::compile(&spec.right_until, inputs[RIGHT])?,
        ];
        let ttl = lifetimes(&until, append_only, ttl)?;
        let table = |side: usize| {
            let identity = match unique[side] {
                _ if append_only[side] => Identity::Append {
                    removable: ttl[side].is_some(),
                },
                Some(key) => unique_identity(key, inputs[side])?,
                None => Identity::Content,
            };
            let table = RowTable::new(tables[side], 0, identity, scope);
            Ok::<_, OperatorError>(table.stamped(ttl[side].is_some()))
        };
        let row_tables = [table(LEFT)?, table(RIGHT)?];
        let partial = scope.restored != Epoch::ZERO;
        let mut state = JoinState::new(&shape, row_tables, append_only, ttl, scope, partial);
        if let Some(ages) = ages(&until) {
            state = state.aging(ages);
        }
        let is_unique = [LEFT, RIGHT].map(|side| !append_only[side] && unique[side].is_some());
        Ok(Box::new(Keyed::new(JoinOperator {
            shape,
            state,
            append_only,
            is_unique,
            tables,
            probe: None,
            candidates: None,
            eval: EvalContext::default(),
            until,
            half_loaded: BTreeMap::new(),
        })))
    }

    /// Keeps rows that are only ever added.
    fn append(
        &mut self,
        side: usize,
        batch: &ChangeBatch,
        keys: &KeyBatch,
    ) -> Result<Vec<Event>, OperatorError> {
        let rows = batch.num_rows();
        let bytes = self.shape.codecs[side].encode(batch.rows.columns(), rows)?;
        let null_keys = self.shape.null_keys(side, batch.rows.columns());
        let until = self.until_of(side, batch)?;
        let mut found = Vec::new();
        self.state.index.likely(keys, &mut found);
        let mut events = Vec::with_capacity(rows);
        for row in 0..rows {
            let (mut key_slot, mut own_slot) = (NO_SLOT, NO_SLOT);
            let until = until.as_ref().map(|until| until[row]);
            let is_void = until == Some(TIMESTAMP_MIN);
            if is_void || null_keys.as_ref().is_some_and(|nulls| nulls.value(row)) {
                // It matches nothing.
            } else if until.is_some_and(|until| self.is_over(side, until, (keys, row))) {
                key_slot = self.state.find(keys, row);
            } else {
                if let Some(until) = until {
                    self.state.sides[side].rows.set_now(until);
                }
                key_slot = self.state.likely_slot(found[row], keys, row);
                let hash = keys.hashes[row];
                own_slot = self.state.append(side, key_slot, hash, bytes.row(row));
            }
            events.push(Event {
                row: row as u32,
                key_slot,
                own_slot,
                is_add: true,
                is_distinct: true,
            });
        }
        Ok(events)
    }

    /// Keeps and takes back rows. The columns of the events: the batch's, followed by old rows
    /// whose content the batch does not have.
    fn change(
        &mut self,
        side: usize,
        batch: &ChangeBatch,
        keys: &KeyBatch,
    ) -> Result<(Vec<ArrayRef>, Vec<Event>), OperatorError> {
        let columns = batch.rows.columns();
        let bytes = self.shape.codecs[side].encode(columns, batch.num_rows())?;
        let ids = self.state.sides[side].rows.ids(&bytes, columns)?;
        let null_keys = self.shape.null_keys(side, columns);
        let mut change = Change {
            events: Vec::with_capacity(batch.num_rows()),
            old_rows: ByteRows::default(),
            batch_rows: batch.num_rows(),
            is_unique: self.is_unique[side],
            state: &mut self.state,
            side,
            keys,
        };
        for row in 0..batch.num_rows() {
            let is_add = batch.kind(row).is_add();
            if null_keys.as_ref().is_some_and(|nulls| nulls.value(row)) {
                change.push(row, NO_SLOT, NO_SLOT, is_add, false);
                continue;
            }
            let slot = {
                let table = &change.state.sides[side].rows;
                table.find(keys.hashes[row], &ids, row, bytes.row(row))
            };
            match (is_add, slot) {
                (true, NO_SLOT) => {
                    let key_slot = change.state.key_slot(keys, row);
                    let (hash, bytes) = (keys.hashes[row], bytes.row(row));
                    let state = &mut *change.state;
                    let slot = state.insert(side, key_slot, hash, &ids, row, bytes);
                    change.push(row, key_slot, slot, true, true);
                }
                (true, slot) => change.add_again(row, slot, bytes.row(row)),
                (false, NO_SLOT) => {}
                (false, slot) => change.take_back(row, slot, bytes.row(row)),
            }
        }
        let Change {
            events, old_rows, ..
        } = change;
        Ok((
            with_old_rows(&self.shape.codecs[side], columns, &old_rows)?,
            events,
        ))
    }

    fn run(&mut self, context: &mut OperatorContext<'_>) -> Result<Step, OperatorError> {
        let Some(probe) = &mut self.probe else {
            return Ok(Step::Done);
        };
        self.eval.now_ms = context.clock.wall_ms();
        if !probe.run(&self.shape, &mut self.state, &self.eval, context.out)? {
            return Ok(Step::More);
        }
        let orders = self.probe.take().and_then(Probe::into_orders);
        self.keep_unbeaten(orders)?;
        Ok(Step::Done)
    }
}

/// Changes of one side by one batch.
struct Change<'a> {
    events: Vec<Event>,
    old_rows: ByteRows,
    batch_rows: usize,
    is_unique: bool,
    state: &'a mut JoinState,
    side: usize,
    keys: &'a KeyBatch,
}

impl Change<'_> {
    fn push(&mut self, row: usize, key_slot: u32, own_slot: u32, is_add: bool, is_distinct: bool) {
        self.events.push(Event {
            row: row as u32,
            key_slot,
            own_slot,
            is_add,
            is_distinct,
        });
    }

    /// A row whose identity is there: another copy, or the new content of a unique key.
    fn add_again(&mut self, row: usize, slot: u32, bytes: &[u8]) {
        let key_slot = self.state.key_slot(self.keys, row);
        if !self.is_unique {
            self.state.sides[self.side].rows.add_copy(slot);
            self.push(row, key_slot, slot, true, false);
            return;
        }
        if self.state.sides[self.side].rows.row(slot) == bytes {
            // It lives on, though nothing is put out.
            if self.state.ages.is_some() {
                self.state.sides[self.side].rows.touch(slot);
            }
            return;
        }
        let old = self.keep_old(slot);
        self.push(old, key_slot, NO_SLOT, false, true);
        self.state.sides[self.side].rows.replace(slot, bytes);
        self.push(row, key_slot, slot, true, true);
    }

    fn take_back(&mut self, row: usize, slot: u32, bytes: &[u8]) {
        let hash = self.keys.hashes[row];
        let key_slot = self.state.index.find_row(&self.keys.keys, row, hash);
        self.state.index.touch(key_slot);
        let table = &mut self.state.sides[self.side].rows;
        if !self.is_unique && table.remove_copy(slot) {
            self.push(row, key_slot, NO_SLOT, false, false);
            return;
        }
        // A delete may carry the key alone: what was put out was the row that is kept.
        let is_same = table.row(slot) == bytes;
        let row = if is_same { row } else { self.keep_old(slot) };
        self.state.remove(self.side, key_slot, slot);
        self.push(row, key_slot, NO_SLOT, false, true);
    }

    fn keep_old(&mut self, slot: u32) -> usize {
        self.old_rows
            .push(self.state.sides[self.side].rows.row(slot));
        self.batch_rows + self.old_rows.len() - 1
    }
}

impl KeyedLogic for JoinOperator {
    fn keys(&mut self, input: usize, batch: &ChangeBatch) -> Result<KeyBatch, OperatorError> {
        Ok(self.shape.keys[input].encode(&batch.rows)?)
    }

    fn is_resident(&self) -> bool {
        self.state.index.is_resident()
    }

    fn wanted(
        &mut self,
        input: usize,
        batch: &ChangeBatch,
        keys: &KeyBatch,
    ) -> Result<Wanted, OperatorError> {
        let null_keys = self.shape.null_keys(input, batch.rows.columns());
        let mut wanted = Wanted::new();
        for (row, hash) in keys.hashes.iter().enumerate() {
            let is_null = null_keys.as_ref().is_some_and(|nulls| nulls.value(row));
            if is_null || !self.state.index.is_unknown(*hash) {
                continue;
            }
            for table in self.tables {
                let request = KeyRequest {
                    table,
                    namespace: 0,
                    hash: *hash,
                    sub: None,
                };
                wanted.push((row as u32, request));
            }
        }
        Ok(wanted)
    }

    fn whole_tables(&self) -> Vec<TableId> {
        self.tables.to_vec()
    }

    fn index(&self) -> &KeyIndex {
        &self.state.index
    }

    fn index_mut(&mut self) -> &mut KeyIndex {
        &mut self.state.index
    }

    fn evicted_as_of(&self, hash: u64) -> Epoch {
        self.state.index.evicted_as_of(hash)
    }

    fn install(&mut self, request: &KeyRequest, rows: &[LoadedRow]) -> Result<(), OperatorError> {
        let side = usize::from(request.table != self.tables[LEFT]);
        let installed = self.state.install(&self.shape, side, rows)?;
        let mut slots: Vec<u32> = installed.iter().map(|(key_slot, _)| *key_slot).collect();
        // Both sides of a key are asked for together; it is there when both are.
        let Some(mut other_slots) = self.half_loaded.remove(&request.hash) else {
            self.half_loaded.insert(request.hash, slots);
            return Ok(());
        };
        slots.append(&mut other_slots);
        slots.sort_unstable();
        slots.dedup();
        for key_slot in slots {
            recount(&self.shape, &mut self.state, key_slot, &self.eval)?;
            recall(&self.shape, &mut self.state, key_slot, &self.eval)?;
            if self.goes_by_time() && key_slot != NO_SLOT {
                self.queue_loaded(key_slot);
            }
        }
        self.state.index.mark_loaded(request.hash);
        Ok(())
    }

    fn process(
        &mut self,
        input: usize,
        batch: ChangeBatch,
        keys: KeyBatch,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        self.remove_expired(&keys)?;
        let (columns, events) = if self.append_only[input] {
            if !batch.is_append() {
                let message = "an append-only input of a join takes rows back";
                return Err(OperatorError::Plan(message.to_owned()));
            }
            if self.drops_beaten(input) {
                self.offer(input, &batch, keys)?;
                return self.run(context);
            }
            let events = self.append(input, &batch, &keys)?;
            (batch.rows.columns().to_vec(), events)
        } else {
            self.change(input, &batch, &keys)?
        };
        if !events.is_empty() {
            self.probe = Some(Probe::new(input, columns, events, true));
        }
        self.run(context)
    }

    fn resume(&mut self, context: &mut OperatorContext<'_>) -> Result<Step, OperatorError> {
        self.run(context)
    }

    fn watermark(
        &mut self,
        watermark: Timestamp,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        self.eval.watermark = Some(watermark);
        while self.goes_by_time() && self.let_go(usize::MAX) {}
        context.out.element(Element::Watermark(watermark));
        Ok(Step::Done)
    }

    fn state(&mut self) -> &mut dyn OperatorState {
        self
    }

    fn expiring(&mut self) -> Option<&mut dyn Expiring> {
        self.state.ages.is_some().then_some(self)
    }

    fn roll_back(&mut self, restored: Epoch) {
        self.state.roll_back(restored);
        if self.goes_by_time() {
            self.state.set_now(TIMESTAMP_MIN);
        }
        self.half_loaded.clear();
        self.probe = None;
        self.candidates = None;
    }
}

impl OperatorState for JoinOperator {
    fn hydrate(&mut self, _scope: &TaskScope) -> Vec<ScanJob> {
        Vec::new()
    }

    fn hydrated(&mut self, _job: &ScanJob, _reply: &ScanReply) -> Result<(), OperatorError> {
        Ok(())
    }

    fn freeze(&mut self, epoch: Epoch) {
        self.state.freeze(epoch);
    }

    fn encode(&mut self, rows_max: usize) -> bool {
        self.state.encode(rows_max)
    }

    fn take_delta(&mut self) -> StateDelta {
        self.state.take_delta()
    }

    fn committed(&mut self, epoch: Epoch) {
        self.state.committed(epoch);
    }

    fn reassign(&mut self, _scope: &TaskScope, change: &Reassigned) -> Vec<ScanJob> {
        self.state.reassign(change);
        Vec::new()
    }

    fn size(&self) -> StateSize {
        self.state.size()
    }

    fn evict(&mut self, bytes: u64, evicted: &mut Evicted) -> u64 {
        evict(&mut self.state, bytes, evicted)
    }
}

/// The unique key to find rows by, where they are updated and deleted by it. Where an input sends
/// old rows whole, rows are found by their content although a key is known: a row's new content
/// may come, from another task, before the old one is taken back.
fn upsert_key<'a>(key: &'a Option<ColumnSet>, changelog: &Changelog) -> Option<&'a [u32]> {
    let is_upsert = changelog.update_after && !changelog.update_before;
    let key = key.as_ref().filter(|_| is_upsert)?;
    Some(&key.columns)
}

/// The identity of rows with a unique key.
fn unique_identity(key: &[u32], fields: &[Field]) -> Result<Identity, OperatorError> {
    let key = columns(key, fields)?;
    let types = arrow_types(fields);
    let types: Vec<_> = key.iter().map(|column| types[*column].clone()).collect();
    Ok(Identity::Unique(key, RowCodec::new(&types)?))
}

/// Columns followed by rows of bytes.
fn with_old_rows(
    codec: &RowCodec,
    columns: &[ArrayRef],
    old_rows: &ByteRows,
) -> Result<Vec<ArrayRef>, OperatorError> {
    if old_rows.is_empty() {
        return Ok(columns.to_vec());
    }
    let rows: Vec<&[u8]> = (0..old_rows.len()).map(|row| old_rows.row(row)).collect();
    let old = codec.decode(&rows)?;
    let pairs = columns.iter().zip(&old);
    let joined = pairs.map(|(new, old)| concat(&[new as &dyn Array, old as &dyn Array]));
    Ok(joined.collect::<Result<_, _>>()?)
}
