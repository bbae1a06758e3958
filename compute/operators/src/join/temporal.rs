//! The temporal join of event time: each left row with the version of the right row that was valid
//! at its time. Left rows wait, in memory and in their table, until the watermark has passed them;
//! only then are the versions of their keys needed, which may have to be read. (Flink's temporal
//! join waits in the same way, with a timer per key.)

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray as _, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array},
    compute::take,
    datatypes::{DataType, Field as ArrowField, Schema, SchemaRef, UInt32Type},
};
use engine::{
    ChangeBatch, Element, TIMESTAMP_MIN, Timestamp,
    key::KeyBatch,
    late::LateRows,
    operator::{
        Operator, OperatorContext, OperatorError, OperatorState, Reassigned, StateSize, Step,
        TaskScope,
    },
    schema::arrow_schema,
    spill::Evicted,
    state::{Evict as _, KeyIndex, Keyed, KeyedLogic, NO_SLOT, ScanJob, StateDelta, Wanted, evict},
};
use proto::{
    plan::{self, JoinType},
    types::{Epoch, Field, TableId},
};
use state_client::{KeyRequest, LoadedRow, ScanReply};

use super::{
    condition::JoinCondition,
    shape::{JoinShape, KeyColumns, LEFT, RIGHT},
    versions::Versions,
};
use crate::{
    EvalContext,
    rows::{Identity, RowTable, arrow_types, column, milliseconds},
};

/// Left rows that the watermark has passed come in as an input of their own, with their slots.
const DUE: usize = 2;

/// Builds the operator of a [`plan::TemporalJoin`].
pub struct TemporalJoinOperator {
    shape: JoinShape,
    condition: Option<JoinCondition>,
    is_outer: bool,
    left_time: usize,
    right_time: usize,
    right_types: Vec<DataType>,
    lefts: RowTable,
    /// Left rows by their time.
    waiting: BTreeMap<Timestamp, Vec<u32>>,
    versions: Versions,
    watermark: Timestamp,
    left_schema: SchemaRef,
    /// Of rows that are due: left columns, then the slot.
    due_schema: SchemaRef,
    eval: EvalContext,
}

impl TemporalJoinOperator {
    /// A join of `inputs`, kept in `tables`: left rows, versions.
    ///
    /// # Errors
    /// When the plan cannot be run.
    pub fn build(
        spec: &plan::TemporalJoin,
        inputs: &[&[Field]],
        tables: &[TableId],
        scope: &TaskScope,
    ) -> Result<Box<dyn Operator>, OperatorError> {
        let ([left, right], [left_table, right_table]) = (inputs, tables) else {
            let message = "a temporal join has two inputs and two tables";
            return Err(OperatorError::Plan(message.to_owned()));
        };
        let is_outer = match spec.r#type() {
            JoinType::Inner => false,
            JoinType::Left => true,
            other => {
                let message = format!("a temporal join of type {}", other.as_str_name());
                return Err(OperatorError::Plan(message));
            }
        };
        let keys = KeyColumns {
            left: &spec.left_keys,
            right: &spec.right_keys,
            null_safe: &spec.null_safe,
        };
        let shape = JoinShape::new(spec.r#type(), &keys, None, [left, right], scope.batch_rows)?;
        let condition = match &spec.condition {
            Some(expr) => Some(JoinCondition::compile(expr, [left, right])?),
            None => None,
        };
        let right_time = column(spec.right_time, right)?;
        let versions = Versions::new(
            *right_table,
            right,
            shape.keys[RIGHT].columns(),
            right_time,
            scope,
        )?;
        let identity = Identity::Append { removable: true };
        Ok(Box::new(Keyed::new(TemporalJoinOperator {
            condition,
            is_outer,
            left_time: column(spec.left_time, left)?,
            right_time,
            right_types: arrow_types(right),
            lefts: RowTable::new(*left_table, 0, identity, scope),
            waiting: BTreeMap::new(),
            versions,
            watermark: TIMESTAMP_MIN,
            left_schema: arrow_schema(left),
            due_schema: with_slot(&arrow_schema(left)),
            eval: EvalContext::default(),
            shape,
        })))
    }

    /// Has left rows wait for the watermark. Those that match nothing need not.
    fn hold(
        &mut self,
        batch: &ChangeBatch,
        keys: &KeyBatch,
        context: &mut OperatorContext<'_>,
    ) -> Result<(), OperatorError> {
        if !batch.is_append() {
            let message = "the left input of a temporal join takes rows back";
            return Err(OperatorError::Plan(message.to_owned()));
        }
        let columns = batch.rows.columns();
        let times = milliseconds(&columns[self.left_time])?;
        let lonely = self.shape.unmatchable(LEFT, columns, self.left_time);
        let bytes = self.shape.codecs[LEFT].encode(columns, batch.num_rows())?;
        let mut alone = Vec::new();
        for (row, time) in times.iter().enumerate() {
            if lonely.as_ref().is_some_and(|lonely| lonely.value(row)) {
                alone.push(row as u32);
                continue;
            }
            // As in Flink a late row is joined all the same, with what is still known of its time.
            let slot = self.lefts.append(keys.hashes[row], bytes.row(row));
            self.waiting.entry(*time).or_default().push(slot);
        }
        if self.is_outer && !alone.is_empty() {
            let none = vec![NO_SLOT; alone.len()];
            self.put_out(columns, &alone, &none, context)?;
        }
        Ok(())
    }

    /// Joins left rows that are due.
    fn join(
        &mut self,
        batch: &ChangeBatch,
        keys: &KeyBatch,
        context: &mut OperatorContext<'_>,
    ) -> Result<(), OperatorError> {
        let Some((slots, columns)) = batch.rows.columns().split_last() else {
            return Ok(());
        };
        let times = milliseconds(&columns[self.left_time])?;
        let mut versions: Vec<u32> = (0..batch.num_rows())
            .map(|row| self.versions.at(keys, row, times[row]))
            .collect();
        self.drop_late(columns, &times, &versions, context)?;
        self.eval.now_ms = context.clock.wall_ms();
        self.judge(columns, &mut versions)?;
        let is_out = |row: &u32| self.is_outer || versions[*row as usize] != NO_SLOT;
        let rows: Vec<u32> = (0..batch.num_rows() as u32).filter(is_out).collect();
        let found: Vec<u32> = rows.iter().map(|row| versions[*row as usize]).collect();
        if !rows.is_empty() {
            self.put_out(columns, &rows, &found, context)?;
        }
        let slots = slots.as_primitive::<UInt32Type>().values();
        slots.iter().for_each(|slot| self.lefts.remove(*slot));
        Ok(())
    }

    /// Late rows of an inner join for whose time no version is known, any more or at all.
    fn drop_late(
        &self,
        columns: &[ArrayRef],
        times: &[Timestamp],
        versions: &[u32],
        context: &mut OperatorContext<'_>,
    ) -> Result<(), OperatorError> {
        if self.is_outer {
            return Ok(());
        }
        let mut late = LateRows::default();
        // The watermark that they wait for is not the operator's own yet.
        let is_late = |row: usize| times[row] <= self.watermark && versions[row] == NO_SLOT;
        for row in (0..times.len()).filter(|row| is_late(*row)) {
            late.push(row, self.watermark);
        }
        if late.is_empty() {
            return Ok(());
        }
        let schema = Arc::clone(&self.left_schema);
        let rows = RecordBatch::try_new(schema, columns.to_vec())?;
        context.drop_late(LEFT, &ChangeBatch::inserts(rows), &late)
    }

    /// Takes versions for none that do not meet the condition.
    fn judge(&self, columns: &[ArrayRef], versions: &mut [u32]) -> Result<(), OperatorError> {
        let Some(condition) = &self.condition else {
            return Ok(());
        };
        let found = |row: &u32| versions[*row as usize] != NO_SLOT;
        let rows: Vec<u32> = (0..versions.len() as u32).filter(found).collect();
        let version = |row: &u32| self.versions.rows.row(versions[*row as usize]);
        let bytes: Vec<&[u8]> = rows.iter().map(version).collect();
        let codec = self.versions.codec();
        let mask = condition.evaluate(LEFT, columns, &rows, codec, &bytes, &self.eval)?;
        for (row, meets) in rows.iter().zip(mask.values()) {
            if !meets {
                versions[*row as usize] = NO_SLOT;
            }
        }
        Ok(())
    }

    /// Puts out left rows, each with a version or alone.
    fn put_out(
        &self,
        columns: &[ArrayRef],
        rows: &[u32],
        versions: &[u32],
        context: &mut OperatorContext<'_>,
    ) -> Result<(), OperatorError> {
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.shape.schema.fields().len());
        let indices = UInt32Array::from(rows.to_vec());
        for column in columns {
            arrays.push(take(column, &indices, None)?);
        }
        arrays.extend(self.version_columns(versions)?);
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let schema = Arc::clone(&self.shape.schema);
        let batch = RecordBatch::try_new_with_options(schema, arrays, &options)?;
        context.out.batch(ChangeBatch::inserts(batch));
        Ok(())
    }

    fn version_columns(&self, versions: &[u32]) -> Result<Vec<ArrayRef>, OperatorError> {
        let found = |slot: &&u32| **slot != NO_SLOT;
        let bytes: Vec<&[u8]> = versions
            .iter()
            .filter(found)
            .map(|slot| self.versions.rows.row(*slot))
            .collect();
        if bytes.is_empty() {
            let nulls = |data_type| new_null_array(data_type, versions.len());
            return Ok(self.right_types.iter().map(nulls).collect());
        }
        let columns = self.versions.decode(&bytes)?;
        if bytes.len() == versions.len() {
            return Ok(columns);
        }
        let mut next = 0;
        let place = |slot: &u32| {
            let at = next;
            next += u32::from(*slot != NO_SLOT);
            (*slot != NO_SLOT).then_some(at)
        };
        let places: UInt32Array = versions.iter().map(place).collect();
        let spread = |column: &ArrayRef| take(column, &places, None);
        Ok(columns.iter().map(spread).collect::<Result<_, _>>()?)
    }
}

impl KeyedLogic for TemporalJoinOperator {
    fn keys(&mut self, input: usize, batch: &ChangeBatch) -> Result<KeyBatch, OperatorError> {
        let side = if input == RIGHT { RIGHT } else { LEFT };
        Ok(self.shape.keys[side].encode(&batch.rows)?)
    }

    fn is_resident(&self) -> bool {
        self.versions.index.is_resident()
    }

    fn wanted(
        &mut self,
        input: usize,
        batch: &ChangeBatch,
        keys: &KeyBatch,
    ) -> Result<Wanted, OperatorError> {
        let columns = batch.rows.columns();
        let void = match input {
            LEFT => return Ok(Wanted::new()),
            RIGHT => self.shape.unmatchable(RIGHT, columns, self.right_time),
            // Rows without a key have not waited.
            _ => None,
        };
        let mut wanted = Wanted::new();
        for (row, hash) in keys.hashes.iter().enumerate() {
            let is_void = void.as_ref().is_some_and(|void| void.value(row));
            if is_void || !self.versions.index.is_unknown(*hash) {
                continue;
            }
            let request = KeyRequest {
                table: self.versions.rows.id(),
                namespace: 0,
                hash: *hash,
                sub: None,
            };
            wanted.push((row as u32, request));
        }
        Ok(wanted)
    }

    fn whole_tables(&self) -> Vec<TableId> {
        vec![self.versions.rows.id()]
    }

    fn index(&self) -> &KeyIndex {
        &self.versions.index
    }

    fn index_mut(&mut self) -> &mut KeyIndex {
        &mut self.versions.index
    }

    fn evicted_as_of(&self, hash: u64) -> Epoch {
        self.versions.index.evicted_as_of(hash)
    }

    fn install(&mut self, request: &KeyRequest, rows: &[LoadedRow]) -> Result<(), OperatorError> {
        self.versions.install(rows)?;
        self.versions.index.mark_loaded(request.hash);
        Ok(())
    }

    fn process(
        &mut self,
        input: usize,
        batch: ChangeBatch,
        keys: KeyBatch,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        match input {
            LEFT => self.hold(&batch, &keys, context)?,
            RIGHT => {
                let void = self
                    .shape
                    .unmatchable(RIGHT, batch.rows.columns(), self.right_time);
                let late = self.versions.take_in(&batch, &keys, void.as_ref())?;
                context.drop_late(RIGHT, &batch, &late)?;
            }
            _ => self.join(&batch, &keys, context)?,
        }
        Ok(Step::Done)
    }

    /// Left rows up to `watermark`, as long as there are any.
    fn due(&mut self, watermark: Timestamp) -> Result<Option<(usize, ChangeBatch)>, OperatorError> {
        let mut slots: Vec<u32> = Vec::new();
        while slots.len() < self.shape.batch_rows
            && let Some(mut first) = self.waiting.first_entry()
            && *first.key() <= watermark
        {
            let room = self.shape.batch_rows - slots.len();
            if first.get().len() <= room {
                slots.append(&mut first.remove());
            } else {
                slots.extend(first.get_mut().drain(..room));
            }
        }
        if slots.is_empty() {
            return Ok(None);
        }
        let bytes: Vec<&[u8]> = slots.iter().map(|slot| self.lefts.row(*slot)).collect();
        let mut columns = self.shape.codecs[LEFT].decode(&bytes)?;
        columns.push(Arc::new(UInt32Array::from(slots)));
        let batch = RecordBatch::try_new(Arc::clone(&self.due_schema), columns)?;
        Ok(Some((DUE, ChangeBatch::inserts(batch))))
    }

    fn watermark(
        &mut self,
        watermark: Timestamp,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        self.watermark = self.watermark.max(watermark);
        self.eval.watermark = Some(watermark);
        self.versions.advance(watermark);
        context.out.element(Element::Watermark(watermark));
        Ok(Step::Done)
    }

    fn state(&mut self) -> &mut dyn OperatorState {
        self
    }

    /// Left rows that went out since then would have to come back.
    fn can_roll_back(&self) -> bool {
        false
    }

    fn roll_back(&mut self, _restored: Epoch) {}
}

impl OperatorState for TemporalJoinOperator {
    /// All left rows, for they are due by time and not when something of their key comes.
    fn hydrate(&mut self, scope: &TaskScope) -> Vec<ScanJob> {
        let table = self.lefts.id();
        let groups = scope.owned.iter();
        groups.map(|group| ScanJob::new(table, group)).collect()
    }

    fn hydrated(&mut self, _job: &ScanJob, reply: &ScanReply) -> Result<(), OperatorError> {
        let codec = &self.shape.codecs[LEFT];
        let mut bytes: Vec<&[u8]> = Vec::with_capacity(reply.rows.len());
        for loaded in &reply.rows {
            if loaded.value.len() < codec.fixed_bytes() {
                return Err(self.lefts.damaged("a row is cut short"));
            }
            bytes.push(&loaded.value);
        }
        let times = milliseconds(&codec.decode_column(self.left_time, &bytes)?)?;
        for (loaded, time) in reply.rows.iter().zip(times.iter()) {
            let slot = self.lefts.install(loaded)?;
            self.waiting.entry(*time).or_default().push(slot);
        }
        Ok(())
    }

    fn freeze(&mut self, epoch: Epoch) {
        self.versions.index.freeze(epoch);
        self.versions.rows.freeze(epoch);
        self.lefts.freeze(epoch);
    }

    fn encode(&mut self, rows_max: usize) -> bool {
        self.lefts.encode(rows_max) && self.versions.rows.encode(rows_max)
    }

    fn take_delta(&mut self) -> StateDelta {
        let tables = [self.lefts.take_delta(), self.versions.rows.take_delta()];
        StateDelta {
            tables: tables.into_iter().flatten().collect(),
            ..StateDelta::default()
        }
    }

    fn committed(&mut self, epoch: Epoch) {
        self.versions.index.committed(epoch);
        self.versions.rows.committed(epoch);
        self.lefts.committed(epoch);
    }

    fn reassign(&mut self, scope: &TaskScope, change: &Reassigned) -> Vec<ScanJob> {
        if !change.left.is_empty() {
            let left = |hash: u64| change.left.contains(scope.key_groups.of_hash(hash));
            let lefts = &self.lefts;
            self.waiting.retain(|_, slots| {
                slots.retain(|slot| !left(lefts.hash(*slot)));
                !slots.is_empty()
            });
            self.lefts.forget_left(&left);
        }
        self.versions.reassign(change);
        self.hydrate(&TaskScope {
            owned: change.came.clone(),
            ..scope.clone()
        })
    }

    fn size(&self) -> StateSize {
        let (lefts, versions) = (self.lefts.size(), self.versions.size());
        StateSize {
            rows: lefts.rows + versions.rows,
            bytes: lefts.bytes + versions.bytes,
            free_bytes: lefts.free_bytes + versions.free_bytes,
            changed_bytes: lefts.changed_bytes + versions.changed_bytes,
        }
    }

    /// Only versions go: left rows are all needed soon.
    fn evict(&mut self, bytes: u64, evicted: &mut Evicted) -> u64 {
        evict(&mut self.versions, bytes, evicted)
    }
}

/// The columns, then a slot.
fn with_slot(schema: &SchemaRef) -> SchemaRef {
    let slot = ArrowField::new("$slot", DataType::UInt32, false);
    let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
    fields.push(Arc::new(slot));
    Arc::new(Schema::new(fields))
}
