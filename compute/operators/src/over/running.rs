//! OVER from the first row of a partition on, over rows that come in their order: what is kept is
//! accumulators only, and every result is final.
//!
//! State: the tables of an aggregation by the partition's columns.

use std::{collections::BTreeSet, sync::Arc};

use arrow::{
    array::{ArrayRef, BooleanArray, RecordBatch, UInt32Array},
    compute::take,
    datatypes::{DataType, Field as ArrowField, Schema},
};
use engine::{
    ChangeBatch, Timestamp,
    key::KeyBatch,
    operator::{
        Operator, OperatorContext, OperatorError, OperatorState, Reassigned, StateSize, Step,
        TaskScope,
    },
    spill::Evicted,
    state::{
        Expiring, KeyIndex, Keyed, KeyedLogic, NO_SLOT, ScanJob, StateDelta, StateTtl, Ttl, Wanted,
        evict,
    },
};
use proto::{
    plan::{self, AggregateCall, AggregateFunction, OverNumber},
    types::{Epoch, Field, LogicalType, TableId},
};
use state_client::{KeyRequest, LoadedRow, ScanReply};

use super::{
    peers::{Peers, peers},
    shape::{Output, OverShape, fail},
};
use crate::aggregate::{AggregatePlan, AggregateStore, Rowset, StateTables};

/// Results that run on from row to row.
pub(super) struct RunningOver {
    shape: OverShape,
    tables: StateTables,
    plan: Arc<AggregatePlan>,
    store: AggregateStore,
    /// Which of the planned calls counts rows, and which rows with which an order begins.
    counts: [Option<usize>; 2],
    slots: Vec<u32>,
    /// Per slot, nothing; see [`peers`].
    seen: Vec<u32>,
}

/// Counts rows.
const ROWS: usize = 0;
/// Counts rows that the order tells apart from the one before.
const PEERS: usize = 1;

impl RunningOver {
    pub(super) fn build(
        shape: OverShape,
        input: &[Field],
        tables: &[TableId],
        ttl: &StateTtl,
        scope: &TaskScope,
    ) -> Result<Box<dyn Operator>, OperatorError> {
        if !shape.lags.is_empty() {
            return fail("LAG needs rows, of which accumulators have none");
        }
        let (calls, counts) = planned(&shape, input);
        let plan = Arc::new(AggregatePlan::new(&calls, input, Rowset::Appended)?);
        let tables = StateTables::new(tables, &plan)?;
        let partial = scope.restored > Epoch::ZERO;
        let (width, ttl) = (shape.keys.width(), ttl.of_input(0));
        let store = AggregateStore::new(plan.clone(), tables, 0, width, scope, partial, ttl)?;
        Ok(Box::new(Keyed::new(RunningOver {
            shape,
            tables,
            plan,
            store,
            counts,
            slots: Vec::new(),
            seen: Vec::new(),
        })))
    }

    fn results(
        &mut self,
        batch: &RecordBatch,
        peers: Option<&Peers>,
    ) -> Result<Vec<ArrayRef>, OperatorError> {
        let with_peers = match self.counts[PEERS] {
            Some(_) => Some(with_first(batch, peers)?),
            None => None,
        };
        let rows = with_peers.as_ref().unwrap_or(batch);
        let told = self.store.run(rows, &self.slots)?;
        let at = |result: &ArrayRef, rows: Option<&UInt32Array>| match rows {
            Some(rows) => Ok(take(result, rows, None)?),
            None => Ok(result.clone()),
        };
        let last = peers.filter(|_| self.shape.frame.has_peers());
        let result = |output: &Output| match output {
            Output::Aggregate(call) => at(&told[*call], last.map(|peers| &peers.last)),
            Output::Number(number) => {
                let counts = match number {
                    OverNumber::DenseRank => self.counts[PEERS],
                    _ => self.counts[ROWS],
                };
                let Some(counts) = counts else {
                    return fail("an OVER call has an unknown number");
                };
                let first = peers.filter(|_| *number == OverNumber::Rank);
                at(&told[counts], first.map(|peers| &peers.first))
            }
            Output::Lag(_) => fail("LAG needs rows"),
        };
        self.shape.outputs.iter().map(result).collect()
    }

    /// Removes the partitions of a batch that have expired: its rows begin new ones.
    fn remove_expired(&mut self, keys: &KeyBatch) {
        if self.store.main.values.ttl().is_none() {
            return;
        }
        self.store.main.index().find(keys, &mut self.slots);
        let slots = self.slots.iter().copied().filter(|slot| *slot != NO_SLOT);
        let values = &mut self.store.main.values;
        let expired: BTreeSet<u32> = slots.filter(|slot| values.has_expired(*slot)).collect();
        expired.into_iter().for_each(|slot| self.store.remove(slot));
    }

    fn read(&self, hash: u64) -> impl Iterator<Item = KeyRequest> {
        let read = move |table: TableId| KeyRequest {
            table,
            namespace: 0,
            hash,
            sub: None,
        };
        self.tables.used(&self.plan).into_iter().map(read)
    }
}

/// The calls that are accumulated for a node.
pub(crate) fn running_calls(
    spec: &plan::OverAggregate,
    input: &[Field],
) -> Result<Vec<AggregateCall>, OperatorError> {
    let shape = OverShape::new(spec, input)?;
    Ok(planned(&shape, input).0)
}

/// The calls that are accumulated, and which of them count rows, and rows that the order tells apart.
fn planned(shape: &OverShape, input: &[Field]) -> (Vec<AggregateCall>, [Option<usize>; 2]) {
    let mut calls = shape.aggregates.clone();
    let mut counts = [None; 2];
    if shape.has_number(OverNumber::RowNumber) || shape.has_number(OverNumber::Rank) {
        counts[ROWS] = Some(calls.len());
        calls.push(count("rows", None));
    }
    if shape.has_number(OverNumber::DenseRank) {
        counts[PEERS] = Some(calls.len());
        // Of a column that is added to the input.
        calls.push(count("ranks", Some(input.len())));
    }
    (calls, counts)
}

/// COUNT(*), of rows where a column is TRUE.
fn count(name: &str, filter: Option<usize>) -> AggregateCall {
    AggregateCall {
        function: AggregateFunction::Count.to_string(),
        filter: filter.map(|column| column as u32),
        r#type: LogicalType::BigInt.not_null().to_string(),
        name: name.to_owned(),
        ..AggregateCall::default()
    }
}

/// The rows with a column that says which are the first of those that the order does not tell apart.
fn with_first(batch: &RecordBatch, peers: Option<&Peers>) -> Result<RecordBatch, OperatorError> {
    let rows = 0..batch.num_rows();
    let is_first = rows.map(|row| peers.is_none_or(|peers| peers.first.value(row) as usize == row));
    let is_first: BooleanArray = is_first.map(Some).collect();
    let mut fields: Vec<Arc<ArrowField>> = batch.schema().fields().iter().cloned().collect();
    let first = ArrowField::new("$first", DataType::Boolean, true);
    fields.push(Arc::new(first));
    let mut columns = batch.columns().to_vec();
    columns.push(Arc::new(is_first));
    Ok(RecordBatch::try_new(
        Arc::new(Schema::new(fields)),
        columns,
    )?)
}

impl KeyedLogic for RunningOver {
    fn keys(&mut self, _input: usize, batch: &ChangeBatch) -> Result<KeyBatch, OperatorError> {
        Ok(self.shape.keys.encode(&batch.rows)?)
    }

    fn is_resident(&self) -> bool {
        self.store.main.index().is_resident()
    }

    fn wanted(
        &mut self,
        _input: usize,
        _batch: &ChangeBatch,
        keys: &KeyBatch,
    ) -> Result<Wanted, OperatorError> {
        let index = self.store.main.index();
        let rows = (0..).zip(&keys.hashes);
        let unknown = rows.filter(|(_, hash)| index.is_unknown(**hash));
        let reads = unknown.flat_map(|(row, hash)| self.read(*hash).map(move |read| (row, read)));
        Ok(reads.collect())
    }

    fn whole_tables(&self) -> Vec<TableId> {
        self.tables.used(&self.plan)
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

    /// Accumulators come before the distinct values, which are of no use without.
    fn install(&mut self, request: &KeyRequest, rows: &[LoadedRow]) -> Result<(), OperatorError> {
        for row in rows {
            self.store.install(request.table, row)?;
        }
        if request.table == self.tables.main {
            self.store.main.index_mut().mark_loaded(request.hash);
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
        self.store.main.find_or_insert(&keys, &mut self.slots);
        for slot in &self.slots {
            self.store.main.touch(*slot);
            self.store.main.values.stamp(*slot);
        }
        self.seen.resize(self.store.main.index().slots(), NO_SLOT);
        let peers = match self.shape.peer_keys(&batch.rows)? {
            Some(keys) => Some(peers(&keys, &self.slots, &mut self.seen)),
            None => None,
        };
        let results = self.results(&batch.rows, peers.as_ref())?;
        let rows = self.shape.output(batch.rows.columns(), results)?;
        context.out.batch(ChangeBatch::inserts(rows));
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
    }
}

impl Expiring for RunningOver {
    fn ttl(&self) -> Ttl {
        let ttl = self.store.main.values.ttl();
        ttl.expect("only what has a lifetime is asked for it")
    }

    fn set_now(&mut self, now: Timestamp) {
        self.store.main.values.set_now(now);
    }

    fn expire(
        &mut self,
        keys_max: usize,
        _wanted: &mut Vec<KeyRequest>,
    ) -> Result<bool, OperatorError> {
        let mut due = Vec::new();
        let more = self.store.main.values.take_due(keys_max, &mut due);
        for slot in due {
            if self.store.main.index().holds(slot) {
                self.store.remove(slot);
            }
        }
        Ok(more)
    }

    fn partial_tables(&self) -> Vec<TableId> {
        let is_partial = !self.store.main.index().is_resident();
        Vec::from_iter(is_partial.then_some(self.tables.main))
    }

    fn overdue(&self, _table: TableId, rows: &[LoadedRow]) -> Vec<KeyRequest> {
        let (index, values) = (self.store.main.index(), &self.store.main.values);
        let overdue = rows
            .iter()
            .filter(|row| values.is_overdue(&row.value) && index.is_unknown(row.hash));
        let hashes: BTreeSet<u64> = overdue.map(|row| row.hash).collect();
        hashes
            .into_iter()
            .flat_map(|hash| self.read(hash))
            .collect()
    }
}

impl OperatorState for RunningOver {
    /// Nothing: partitions are read as rows need them.
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
        delta
    }

    fn reassign(&mut self, _scope: &TaskScope, change: &Reassigned) -> Vec<ScanJob> {
        self.store.reassign(change);
        Vec::new()
    }

    fn size(&self) -> StateSize {
        self.store.size()
    }

    fn evict(&mut self, bytes: u64, evicted: &mut Evicted) -> u64 {
        evict(&mut self.store, bytes, evicted)
    }
}
