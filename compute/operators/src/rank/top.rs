//! The updating Top-N: says once per batch and partition what changed at its top.

use std::{cmp::Ordering, sync::Arc};

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array},
    compute::take,
    datatypes::SchemaRef,
};
use engine::{
    ChangeBatch, Kinds,
    key::KeyBatch,
    operator::{
        Operator, OperatorContext, OperatorError, OperatorState, Reassigned, StateSize, Step,
        TaskScope,
    },
    schema::arrow_schema,
    spill::Evicted,
    state::{
        Expiring, KeyIndex, Keyed, KeyedLogic, NO_SLOT, ScanJob, StateDelta, StateTtl, Wanted,
        evict,
    },
};
use proto::{
    plan::{self, Changelog},
    types::{Epoch, Field, LogicalType, RowKind, TableId},
};
use state_client::{KeyRequest, LoadedRow, ScanReply};

use super::{
    ranking::{Prepared, RankShape, Ranking},
    window::WindowRankOperator,
};
use crate::rows::{Identity, RowTable};

/// The operator of a [`plan::Rank`].
pub struct RankOperator {
    shape: RankShape,
    pub(super) ranking: Ranking,
    append_only: bool,
    /// A place at the top, rather than a row, is what changes.
    by_place: bool,
    output_rank: bool,
    emit_update_before: bool,
    schema: SchemaRef,
    /// Per key slot: its place among the touched partitions, or [`UNTOUCHED`].
    places: Vec<u32>,
}

const UNTOUCHED: u32 = u32::MAX;

/// A partition that a batch changes: its top before, as a range of the slots of all.
struct Touched {
    key_slot: u32,
    before: std::ops::Range<usize>,
}

/// What one batch does.
#[derive(Default)]
struct Turn {
    touched: Vec<Touched>,
    /// Tops before.
    before: Vec<u32>,
    /// Rows that have gone, whose slots are given back in the end.
    fallen: Vec<u32>,
}

/// Changes on their way out.
#[derive(Default)]
struct Changes {
    slots: Vec<u32>,
    kinds: Vec<u8>,
    ranks: Vec<i64>,
}

impl Changes {
    fn push(&mut self, kind: RowKind, slot: u32, rank: u64) {
        self.slots.push(slot);
        self.kinds.push(kind as u8);
        self.ranks.push(rank as i64);
    }
}

impl RankOperator {
    /// A ranking of `input`, whose rows are kept in the one table.
    ///
    /// # Errors
    /// When the plan cannot be run.
    pub fn build(
        spec: &plan::Rank,
        input: &[Field],
        tables: &[TableId],
        changelog: &Changelog,
        ttl: &StateTtl,
        scope: &TaskScope,
    ) -> Result<Box<dyn Operator>, OperatorError> {
        if spec.window.is_some() {
            return WindowRankOperator::build(spec, false, input, tables, scope);
        }
        let [table] = tables else {
            return Err(OperatorError::Plan("a ranking has one table".to_owned()));
        };
        let shape = RankShape::new(spec, false, input)?;
        let append_only = changelog.is_append();
        let identity = match append_only {
            true => Identity::Append { removable: true },
            false => Identity::Content,
        };
        let rows = RowTable::new(*table, 0, identity, scope);
        let partial = scope.restored != Epoch::ZERO;
        Ok(Box::new(Keyed::new(RankOperator {
            ranking: Ranking::new(&shape, rows, ttl.of_input(0), scope, partial),
            append_only,
            by_place: spec.output_rank || spec.limit == 1,
            output_rank: spec.output_rank,
            emit_update_before: spec.emit_update_before,
            schema: arrow_schema(&output(spec, input)),
            shape,
            places: Vec::new(),
        })))
    }

    fn apply(
        &mut self,
        batch: &ChangeBatch,
        keys: &KeyBatch,
    ) -> Result<Option<ChangeBatch>, OperatorError> {
        if self.append_only {
            return self.append(batch, keys);
        }
        let columns = batch.rows.columns();
        let prepared = Prepared::new(&self.shape, columns, batch.num_rows())?;
        let ids = self.ranking.rows.ids(&prepared.bytes, columns)?;
        let mut turn = Turn::default();
        for row in 0..batch.num_rows() {
            let (hash, bytes) = (keys.hashes[row], prepared.bytes.row(row));
            let order = prepared.orders.row(row);
            if batch.kind(row).is_add() {
                let key_slot = self.ranking.key_slot(keys, row);
                self.touch(key_slot, &mut turn);
                self.ranking.add(key_slot, hash, &ids, row, bytes, order);
            } else {
                let slot = self.ranking.rows.find(hash, &ids, row, bytes);
                if slot != NO_SLOT {
                    let key_slot = self.ranking.index.find_row(&keys.keys, row, hash);
                    self.touch(key_slot, &mut turn);
                    turn.fallen.extend(self.ranking.take_back(key_slot, slot));
                }
            }
        }
        self.finish(turn)
    }

    /// Rows of an input that only appends. Most are beyond the places that count once there are enough
    /// rows, so that of a row its order is looked at first.
    fn append(
        &mut self,
        batch: &ChangeBatch,
        keys: &KeyBatch,
    ) -> Result<Option<ChangeBatch>, OperatorError> {
        let (columns, rows) = (batch.rows.columns(), batch.num_rows());
        let orders = self.shape.order.keys(columns)?;
        let rows_max = self.shape.rows_max();
        let (mut wanted, mut found) = (Vec::<(u32, u32)>::new(), Vec::new());
        self.ranking.index.likely(keys, &mut found);
        for (row, found) in found.into_iter().enumerate() {
            let key_slot = self.ranking.likely_slot(found, keys, row);
            if !self.ranking.is_beyond(key_slot, orders.row(row), rows_max) {
                wanted.push((row as u32, key_slot));
            }
        }
        let is_few = wanted.len() < rows / 2;
        let bytes = match is_few {
            true => self
                .shape
                .codec
                .encode(&take_rows(columns, &wanted)?, wanted.len())?,
            false => self.shape.codec.encode(columns, rows)?,
        };
        let mut turn = Turn::default();
        for (place, (row, key_slot)) in wanted.into_iter().enumerate() {
            let order = orders.row(row as usize);
            // Rows of the same batch may have taken the places.
            if self.ranking.is_beyond(key_slot, order, rows_max) {
                continue;
            }
            self.touch(key_slot, &mut turn);
            let bytes = bytes.row(if is_few { place } else { row as usize });
            let hash = keys.hashes[row as usize];
            let fallen = self.ranking.append(key_slot, hash, bytes, order, rows_max);
            turn.fallen.extend(fallen);
        }
        self.finish(turn)
    }

    /// What a batch has changed at the top.
    fn finish(&mut self, turn: Turn) -> Result<Option<ChangeBatch>, OperatorError> {
        let Turn {
            touched,
            before,
            fallen,
        } = turn;
        let changes = self.changes(&touched, &before);
        let batch = self.gather(changes)?;
        for touched in touched {
            self.places[touched.key_slot as usize] = UNTOUCHED;
            self.ranking.drop_if_empty(touched.key_slot);
        }
        fallen.into_iter().for_each(|slot| self.ranking.free(slot));
        Ok(batch)
    }

    /// Remembers the top of a partition before its first change.
    fn touch(&mut self, key_slot: u32, turn: &mut Turn) {
        let Turn {
            touched, before, ..
        } = turn;
        if self.places.len() <= key_slot as usize {
            self.places.resize(key_slot as usize + 1, UNTOUCHED);
        }
        if self.places[key_slot as usize] == UNTOUCHED {
            self.places[key_slot as usize] = touched.len() as u32;
            let start = before.len();
            self.ranking.top(key_slot, &self.shape, before);
            touched.push(Touched {
                key_slot,
                before: start..before.len(),
            });
        }
    }

    fn changes(&self, touched: &[Touched], before: &[u32]) -> Changes {
        let mut changes = Changes::default();
        let mut after = Vec::new();
        for touched in touched {
            after.clear();
            self.ranking.top(touched.key_slot, &self.shape, &mut after);
            let before = &before[touched.before.clone()];
            if self.by_place {
                self.changes_by_place(before, &after, &mut changes);
            } else {
                self.changes_by_row(before, &after, &mut changes);
            }
        }
        changes
    }

    fn changes_by_place(&self, before: &[u32], after: &[u32], changes: &mut Changes) {
        let row = |slot: u32| self.ranking.rows.row(slot);
        for place in 0..before.len().max(after.len()) {
            let rank = self.shape.offset + place as u64 + 1;
            match (before.get(place), after.get(place)) {
                (Some(old), Some(new)) if old == new || row(*old) == row(*new) => {}
                (Some(old), Some(new)) => {
                    if self.emit_update_before {
                        changes.push(RowKind::UpdateBefore, *old, rank);
                    }
                    changes.push(RowKind::UpdateAfter, *new, rank);
                }
                (Some(old), None) => changes.push(RowKind::Delete, *old, rank),
                (None, Some(new)) => changes.push(RowKind::Insert, *new, rank),
                (None, None) => {}
            }
        }
    }

    /// Both lists are in order: a merge tells what left and what came.
    fn changes_by_row(&self, before: &[u32], after: &[u32], changes: &mut Changes) {
        let (mut old, mut new) = (0, 0);
        let mut came = Vec::new();
        while old < before.len() || new < after.len() {
            let order = match (before.get(old), after.get(new)) {
                (Some(a), Some(b)) => self.ranking.compare(*a, *b),
                (Some(_), None) => Ordering::Less,
                _ => Ordering::Greater,
            };
            match order {
                Ordering::Less => {
                    changes.push(RowKind::Delete, before[old], 0);
                    old += 1;
                }
                Ordering::Equal => (old, new) = (old + 1, new + 1),
                Ordering::Greater => {
                    came.push(after[new]);
                    new += 1;
                }
            }
        }
        came.into_iter()
            .for_each(|slot| changes.push(RowKind::Insert, slot, 0));
    }

    fn gather(&self, changes: Changes) -> Result<Option<ChangeBatch>, OperatorError> {
        if changes.slots.is_empty() {
            return Ok(None);
        }
        let count = changes.slots.len();
        let rows = self.ranking.bytes(changes.slots.into_iter());
        let mut columns = self.shape.codec.decode(&rows)?;
        if self.output_rank {
            columns.push(Arc::new(Int64Array::from(changes.ranks)));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let schema = Arc::clone(&self.schema);
        let rows = RecordBatch::try_new_with_options(schema, columns, &options)?;
        let is_insert = |kind: &u8| *kind == RowKind::Insert as u8;
        let kinds = changes.kinds;
        let kinds = (!kinds.iter().all(is_insert)).then(|| Kinds::from_bytes(kinds));
        Ok(Some(ChangeBatch::changes(rows, kinds)))
    }
}

/// The rows of columns that are wanted, each with its partition.
fn take_rows(columns: &[ArrayRef], wanted: &[(u32, u32)]) -> Result<Vec<ArrayRef>, OperatorError> {
    let rows: UInt32Array = wanted
        .iter()
        .map(|(row, _)| *row)
        .collect::<Vec<_>>()
        .into();
    let taken = columns.iter().map(|column| take(column, &rows, None));
    Ok(taken.collect::<Result<_, _>>()?)
}

/// Columns of the output.
pub(super) fn output(spec: &plan::Rank, input: &[Field]) -> Vec<Field> {
    let mut output = input.to_vec();
    if spec.output_rank {
        output.push(Field::new("rank", LogicalType::BigInt.not_null()));
    }
    output
}

impl KeyedLogic for RankOperator {
    fn keys(&mut self, _input: usize, batch: &ChangeBatch) -> Result<KeyBatch, OperatorError> {
        Ok(self.shape.keys.encode(&batch.rows)?)
    }

    fn is_resident(&self) -> bool {
        self.ranking.index.is_resident()
    }

    fn wanted(
        &mut self,
        _input: usize,
        _batch: &ChangeBatch,
        keys: &KeyBatch,
    ) -> Result<Wanted, OperatorError> {
        let rows = keys.hashes.iter().enumerate();
        let unknown = rows.filter(|(_, hash)| self.ranking.index.is_unknown(**hash));
        let request = |(row, hash): (usize, &u64)| {
            let request = KeyRequest {
                table: self.ranking.rows.id(),
                namespace: 0,
                hash: *hash,
                sub: None,
            };
            (row as u32, request)
        };
        Ok(unknown.map(request).collect())
    }

    fn whole_tables(&self) -> Vec<TableId> {
        vec![self.ranking.rows.id()]
    }

    fn index(&self) -> &KeyIndex {
        &self.ranking.index
    }

    fn index_mut(&mut self) -> &mut KeyIndex {
        &mut self.ranking.index
    }

    fn evicted_as_of(&self, hash: u64) -> Epoch {
        self.ranking.index.evicted_as_of(hash)
    }

    fn install(&mut self, request: &KeyRequest, rows: &[LoadedRow]) -> Result<(), OperatorError> {
        self.ranking.install(&self.shape, rows)?;
        self.ranking.index.mark_loaded(request.hash);
        Ok(())
    }

    fn process(
        &mut self,
        _input: usize,
        batch: ChangeBatch,
        keys: KeyBatch,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        self.ranking.remove_expired(&keys);
        let changes = self.apply(&batch, &keys)?;
        changes
            .into_iter()
            .for_each(|changes| context.out.batch(changes));
        Ok(Step::Done)
    }

    fn state(&mut self) -> &mut dyn OperatorState {
        self
    }

    fn expiring(&mut self) -> Option<&mut dyn Expiring> {
        let expires = self.ranking.ages.is_some();
        expires.then_some(&mut self.ranking as &mut dyn Expiring)
    }

    fn roll_back(&mut self, restored: Epoch) {
        let mut dirty = std::collections::HashSet::new();
        self.ranking.rows.roll_back(restored, &mut dirty);
        self.ranking.forget_left(&|hash| dirty.contains(&hash));
        self.ranking.index.roll_back(restored);
        self.ranking.index.mark_unknown(&dirty);
    }
}

impl OperatorState for RankOperator {
    fn committed(&mut self, epoch: Epoch) {
        self.ranking.rows.committed(epoch);
        self.ranking.index.committed(epoch);
    }

    fn reassign(&mut self, scope: &TaskScope, change: &Reassigned) -> Vec<ScanJob> {
        let left = |hash: u64| change.left.contains(scope.key_groups.of_hash(hash));
        if !change.left.is_empty() {
            self.ranking.forget_left(&left);
        }
        self.ranking.index.reassign(&change.left, &change.came);
        Vec::new()
    }

    fn hydrate(&mut self, _scope: &TaskScope) -> Vec<ScanJob> {
        Vec::new()
    }

    fn hydrated(&mut self, _job: &ScanJob, _reply: &ScanReply) -> Result<(), OperatorError> {
        Ok(())
    }

    fn freeze(&mut self, epoch: Epoch) {
        self.ranking.rows.freeze(epoch);
        self.ranking.index.freeze(epoch);
    }

    fn encode(&mut self, rows_max: usize) -> bool {
        self.ranking.rows.encode(rows_max)
    }

    fn take_delta(&mut self) -> StateDelta {
        StateDelta {
            tables: self.ranking.rows.take_delta().into_iter().collect(),
            ..StateDelta::default()
        }
    }

    fn size(&self) -> StateSize {
        self.ranking.size()
    }

    fn evict(&mut self, bytes: u64, evicted: &mut Evicted) -> u64 {
        evict(&mut self.ranking, bytes, evicted)
    }
}
