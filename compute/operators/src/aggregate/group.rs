//! GROUP BY over an endless stream: one result row per group, updated as rows come.
//!
//! Output columns: keys, then one per call. A group that changed is told once per batch. State:
//! see [`super::store`].

use std::{collections::BTreeSet, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, RecordBatch, UInt32Array},
    compute::{interleave, take},
    datatypes::SchemaRef,
};
use engine::{
    ChangeBatch, Kinds,
    key::{KeyBatch, KeyEncoder},
    operator::{
        Operator, OperatorContext, OperatorError, OperatorState, Reassigned, StateSize, Step,
        TaskScope,
    },
    schema::{arrow_schema, arrow_type},
    spill::Evicted,
    state::{
        Expiring, KeyIndex, Keyed, KeyedLogic, NO_SLOT, ScanJob, StateDelta, StateTtl, Wanted,
        evict,
    },
};
use proto::{
    plan,
    types::{Epoch, Field, RowKind, TableId},
};
use state_client::{KeyRequest, LoadedRow, ScanReply};

use super::{
    plan::{AggregatePlan, Rowset},
    store::{AggregateStore, StateTables},
};

/// Aggregates rows by key.
pub struct GroupAggregateOperator {
    pub(super) encoder: KeyEncoder,
    pub(super) plan: Arc<AggregatePlan>,
    pub(super) tables: StateTables,
    pub(super) store: AggregateStore,
    schema: SchemaRef,
    emit_update_before: bool,
    /// Some groups may have values that are not in memory.
    has_read_groups: bool,
    /// (hash, sub) of distinct values that have been read.
    loaded_subs: BTreeSet<(u64, u64)>,
    /// Hashes of which all distinct values have been read.
    pub(super) loaded_whole: BTreeSet<u64>,
    /// Values whose group has not been read yet.
    early: Vec<(TableId, LoadedRow)>,
    pub(super) slots: Vec<u32>,
    /// Per slot, the batch that last changed it.
    marks: Vec<u32>,
    batch_mark: u32,
    /// Groups of the present batch, and the first row of each.
    changed: Vec<u32>,
    first_rows: Vec<u32>,
}

impl GroupAggregateOperator {
    /// The operator of a plan node over rows of `input`, with the node's state tables.
    ///
    /// # Errors
    /// When the plan does not fit, or asks for what is not supported.
    pub fn build(
        spec: &plan::GroupAggregate,
        input: &[Field],
        tables: &[TableId],
        input_append_only: bool,
        ttl: &StateTtl,
        scope: &TaskScope,
    ) -> Result<Box<dyn Operator>, OperatorError> {
        let keys: Vec<usize> = spec.keys.iter().map(|column| *column as usize).collect();
        let rowset = match (spec.from_partial, input_append_only) {
            (true, _) => Rowset::Partial { keys: keys.len() },
            (false, true) => Rowset::Appended,
            (false, false) => Rowset::Changed,
        };
        let plan = Arc::new(AggregatePlan::new(&spec.calls, input, rowset)?);
        let encoder = key_encoder(&keys, input)?;
        let tables = StateTables::new(tables, &plan)?;
        let partial = scope.restored > Epoch::ZERO;
        let ttl = ttl.of_input(0);
        let width = encoder.width();
        let mut store = AggregateStore::new(plan.clone(), tables, 0, width, scope, partial, ttl)?;
        store.keep_undo();
        let mut output: Vec<Field> = keys.iter().map(|column| input[*column].clone()).collect();
        output.extend(plan.fields.iter().cloned());
        Ok(Box::new(Keyed::new(GroupAggregateOperator {
            encoder,
            plan,
            tables,
            store,
            schema: arrow_schema(&output),
            emit_update_before: spec.emit_update_before,
            has_read_groups: false,
            loaded_subs: BTreeSet::new(),
            loaded_whole: BTreeSet::new(),
            early: Vec::new(),
            slots: Vec::new(),
            marks: Vec::new(),
            batch_mark: 0,
            changed: Vec::new(),
            first_rows: Vec::new(),
        })))
    }

    /// Finds the batch's groups: fills `slots`, `changed` and `first_rows`, touches all.
    fn group(&mut self, keys: &KeyBatch) {
        self.store.main.find_or_insert(keys, &mut self.slots);
        self.marks.resize(self.store.main.index().slots(), 0);
        self.batch_mark = match self.batch_mark.checked_add(1) {
            Some(mark) => mark,
            None => {
                self.marks.fill(0);
                1
            }
        };
        self.changed.clear();
        self.first_rows.clear();
        for (row, slot) in self.slots.iter().enumerate() {
            let mark = &mut self.marks[*slot as usize];
            if *mark != self.batch_mark {
                *mark = self.batch_mark;
                self.changed.push(*slot);
                self.first_rows.push(row as u32);
            }
        }
        for slot in &self.changed {
            self.store.main.touch(*slot);
            self.store.main.values.stamp(*slot);
        }
    }

    /// What the groups of the batch become: (kind, index in `changed`, old or new result).
    fn outcomes(&self, old: Option<&[ArrayRef]>, new: &[ArrayRef]) -> Outcomes {
        let values = &self.store.main.values;
        // Who follows lives as long as the group does only if it hears of what changes nothing, as in Flink:
        // else it would have forgotten what a later change takes back. A group without results never
        // changes.
        let tells_all = values.ttl().is_some() && !self.plan.outputs.is_empty();
        let same = old
            .filter(|_| !self.plan.always_changes() && !tells_all)
            .map(|old| unchanged(old, new, self.changed.len()));
        let mut outcomes = Outcomes::default();
        for (index, slot) in self.changed.iter().enumerate() {
            match (values.is_new(*slot), values.has_rows(*slot)) {
                (true, true) => outcomes.push(RowKind::Insert, index, NEW),
                (true, false) => {}
                (false, false) => outcomes.push(RowKind::Delete, index, OLD),
                (false, true) => {
                    if same.as_ref().is_some_and(|same| same[index]) {
                        continue;
                    }
                    if self.emit_update_before {
                        outcomes.push(RowKind::UpdateBefore, index, OLD);
                    }
                    outcomes.push(RowKind::UpdateAfter, index, NEW);
                }
            }
        }
        outcomes
    }

    fn emit(
        &self,
        batch: &ChangeBatch,
        old: Option<Vec<ArrayRef>>,
        new: Vec<ArrayRef>,
        outcomes: Outcomes,
        context: &mut OperatorContext<'_>,
    ) -> Result<(), OperatorError> {
        if outcomes.kinds.is_empty() {
            return Ok(());
        }
        let rows: UInt32Array = outcomes
            .places
            .iter()
            .map(|(_, index)| self.first_rows[*index])
            .collect();
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        for column in self.encoder.columns() {
            columns.push(take(batch.rows.column(*column), &rows, None)?);
        }
        let all_new = outcomes.places.iter().all(|(side, _)| *side == NEW);
        let everything = all_new && outcomes.places.len() == self.changed.len();
        let indices: Option<UInt32Array> = (all_new && !everything).then(|| {
            outcomes
                .places
                .iter()
                .map(|(_, index)| *index as u32)
                .collect()
        });
        for (call, new) in new.into_iter().enumerate() {
            columns.push(match (&indices, &old) {
                _ if everything => new,
                (Some(indices), _) => take(&new, indices, None)?,
                (None, Some(old)) => {
                    interleave(&[old[call].as_ref(), new.as_ref()], &outcomes.places)?
                }
                (None, None) => new,
            });
        }
        let rows = RecordBatch::try_new(self.schema.clone(), columns)?;
        let inserts = outcomes.kinds.iter().all(|kind| *kind == RowKind::Insert);
        let kinds = (!inserts).then(|| Kinds::from_iter_kinds(outcomes.kinds));
        context.out.batch(ChangeBatch::changes(rows, kinds));
        Ok(())
    }
}

/// Side of an outcome: the result before the batch.
const OLD: usize = 0;
/// The result after it.
const NEW: usize = 1;

#[derive(Default)]
struct Outcomes {
    kinds: Vec<RowKind>,
    /// (side, index of the group).
    places: Vec<(usize, usize)>,
}

impl Outcomes {
    fn push(&mut self, kind: RowKind, index: usize, side: usize) {
        self.kinds.push(kind);
        self.places.push((side, index));
    }
}

/// Makes keys of these columns.
pub(crate) fn key_encoder(keys: &[usize], input: &[Field]) -> Result<KeyEncoder, OperatorError> {
    let types = keys
        .iter()
        .map(|column| {
            input
                .get(*column)
                .map(|field| arrow_type(&field.data_type.logical))
                .ok_or_else(|| OperatorError::Plan(format!("key column {column} does not exist")))
        })
        .collect::<Result<_, _>>()?;
    Ok(KeyEncoder::new(keys.to_vec(), types)?)
}

/// Which rows adds; `None`: all.
pub(crate) fn adds(batch: &ChangeBatch) -> Option<Vec<bool>> {
    let kinds = batch.kinds.as_ref()?;
    let is_add = |byte: &u8| RowKind::from_byte(*byte).is_none_or(RowKind::is_add);
    Some(kinds.bytes().iter().map(is_add).collect())
}

/// By row, whether all columns are the same.
pub(crate) fn unchanged(old: &[ArrayRef], new: &[ArrayRef], rows: usize) -> Vec<bool> {
    let mut same = vec![true; rows];
    for (old, new) in old.iter().zip(new) {
        match arrow::compute::kernels::cmp::not_distinct(old, new) {
            Ok(equal) => {
                same.iter_mut()
                    .zip(equal.values())
                    .for_each(|(same, equal)| *same &= equal);
            }
            // Nested values have no such kernel.
            Err(_) => {
                for (row, same) in same.iter_mut().enumerate() {
                    *same = *same && old.slice(row, 1).as_ref() == new.slice(row, 1).as_ref();
                }
            }
        }
    }
    same
}

impl KeyedLogic for GroupAggregateOperator {
    fn keys(&mut self, _input: usize, batch: &ChangeBatch) -> Result<KeyBatch, OperatorError> {
        Ok(self.encoder.encode(&batch.rows)?)
    }

    fn is_resident(&self) -> bool {
        self.store.main.index().is_resident() && !self.has_read_groups
    }

    fn wanted(
        &mut self,
        _input: usize,
        batch: &ChangeBatch,
        keys: &KeyBatch,
    ) -> Result<Wanted, OperatorError> {
        self.store.main.index().find(keys, &mut self.slots);
        let expired = self.expired_slots();
        let index = self.store.main.index();
        let distinct_keys = self.store.distinct_keys(&batch.rows)?;
        let mut wanted = Vec::new();
        for (row, slot) in self.slots.iter().enumerate() {
            let hash = keys.hashes[row];
            let request = |table: TableId, sub: Option<u64>| KeyRequest {
                table,
                namespace: 0,
                hash,
                sub,
            };
            let is_unknown = *slot == NO_SLOT && index.is_unknown(hash);
            if is_unknown {
                wanted.push((row as u32, request(self.tables.main, None)));
                if !self.plan.ordereds.is_empty() {
                    wanted.push((row as u32, request(self.tables.values, None)));
                }
            }
            let is_incomplete = *slot != NO_SLOT && self.store.main.values.is_incomplete(*slot);
            if expired.contains(slot) {
                // All its values go with it.
                if self.lacks_values(*slot) {
                    wanted.push((row as u32, request(self.tables.distinct, None)));
                }
            } else if is_unknown || is_incomplete {
                let unread = self
                    .store
                    .subs(&distinct_keys, row)
                    .filter(|sub| !self.loaded_subs.contains(&(hash, *sub)));
                let requests =
                    unread.map(|sub| (row as u32, request(self.tables.distinct, Some(sub))));
                wanted.extend(requests);
            }
        }
        // While its values are on their way a group does not go, or they would be as of before that.
        for (row, _) in &wanted {
            let slot = self.slots[*row as usize];
            if slot != NO_SLOT {
                self.store.main.index_mut().touch(slot);
            }
        }
        Ok(wanted)
    }

    /// Values of DISTINCT are read as rows name them.
    fn whole_tables(&self) -> Vec<TableId> {
        let mut tables = vec![self.tables.main];
        if !self.plan.ordereds.is_empty() {
            tables.push(self.tables.values);
        }
        tables
    }

    fn index(&self) -> &KeyIndex {
        self.store.main.index()
    }

    fn index_mut(&mut self) -> &mut KeyIndex {
        self.store.main.index_mut()
    }

    fn evicted_as_of(&self, hash: u64) -> Epoch {
        self.store.main.index().evicted_as_of(hash)
    }

    fn install(&mut self, request: &KeyRequest, rows: &[LoadedRow]) -> Result<(), OperatorError> {
        if let Some(sub) = request.sub {
            self.loaded_subs.insert((request.hash, sub));
        } else if request.table == self.tables.distinct && !self.plan.distincts.is_empty() {
            self.loaded_whole.insert(request.hash);
        }
        let is_group = request.table == self.tables.main && request.sub.is_none();
        let groups_known = !self.store.main.index().is_unknown(request.hash);
        for row in rows {
            // A value without a group whose group has been looked for is of a group that is gone.
            if !self.store.install(request.table, row)? && !groups_known {
                self.early.push((request.table, row.clone()));
            }
        }
        if is_group {
            self.store.main.index_mut().mark_loaded(request.hash);
            // Values of groups that were read are read as rows name them.
            self.has_read_groups |= !self.plan.distincts.is_empty();
            let early = std::mem::take(&mut self.early);
            for (table, row) in early {
                if row.hash != request.hash {
                    self.early.push((table, row));
                } else {
                    self.store.install(table, &row)?;
                }
            }
        }
        Ok(())
    }

    fn process(
        &mut self,
        _input: usize,
        batch: ChangeBatch,
        keys: KeyBatch,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        self.remove_expired(&keys);
        self.group(&keys);
        let known = self.without_unknown(&batch)?;
        let rows = known.as_ref().unwrap_or(&batch);
        let needs_old =
            self.emit_update_before || self.plan.retracts() || !self.plan.always_changes();
        let old = match needs_old {
            true => Some(self.store.results(&self.changed)?),
            false => None,
        };
        let adds = adds(rows);
        self.store
            .update(&rows.rows, adds.as_deref(), &self.slots)?;
        let new = self.store.results(&self.changed)?;
        let outcomes = self.outcomes(old.as_deref(), &new);
        self.emit(&batch, old, new, outcomes, context)?;
        for slot in &self.changed {
            if self.store.main.values.has_rows(*slot) {
                self.store.main.values.mark_old(*slot);
            } else {
                self.store.remove(*slot);
            }
        }
        Ok(Step::Done)
    }

    fn state(&mut self) -> &mut dyn OperatorState {
        self
    }

    fn expiring(&mut self) -> Option<&mut dyn Expiring> {
        self.store.main.values.ttl().is_some().then_some(self)
    }

    fn roll_back(&mut self, restored: Epoch) {
        self.store.roll_back(restored);
        // Also not those that came before their group: it was on its way.
        let index = self.store.main.index();
        self.loaded_subs
            .retain(|(hash, _)| !index.is_unknown(*hash));
        self.loaded_whole.retain(|hash| !index.is_unknown(*hash));
        self.early.clear();
    }
}

impl OperatorState for GroupAggregateOperator {
    /// Nothing: groups are read as rows need them.
    fn hydrate(&mut self, _scope: &TaskScope) -> Vec<ScanJob> {
        Vec::new()
    }

    fn hydrated(&mut self, _job: &ScanJob, _reply: &ScanReply) -> Result<(), OperatorError> {
        Ok(())
    }

    fn freeze(&mut self, epoch: Epoch) {
        self.store.freeze(epoch);
    }

    fn committed(&mut self, epoch: Epoch) {
        self.store.committed(epoch);
    }

    fn encode(&mut self, rows_max: usize) -> bool {
        self.store.encode(rows_max)
    }

    fn take_delta(&mut self) -> StateDelta {
        let mut delta = StateDelta::default();
        self.store.take_delta(&mut delta.tables);
        self.store.shrink();
        delta
    }

    fn reassign(&mut self, scope: &TaskScope, change: &Reassigned) -> Vec<ScanJob> {
        self.store.reassign(change);
        let groups = scope.key_groups;
        self.loaded_subs
            .retain(|(hash, _)| !change.left.contains(groups.of_hash(*hash)));
        self.loaded_whole
            .retain(|hash| !change.left.contains(groups.of_hash(*hash)));
        Vec::new()
    }

    fn size(&self) -> StateSize {
        let mut size = self.store.size();
        // A node of a B-tree is two thirds full.
        size.bytes += 24 * self.loaded_subs.len() as u64 + 12 * self.loaded_whole.len() as u64;
        size
    }

    fn evict(&mut self, bytes: u64, evicted: &mut Evicted) -> u64 {
        let evicted = evict(&mut self.store, bytes, evicted);
        self.store.shrink();
        if evicted > 0 && !(self.loaded_subs.is_empty() && self.loaded_whole.is_empty()) {
            let index = self.store.main.index();
            self.loaded_whole.retain(|hash| !index.is_unknown(*hash));
            self.loaded_subs
                .retain(|(hash, _)| !index.is_unknown(*hash));
        }
        evicted
    }
}
