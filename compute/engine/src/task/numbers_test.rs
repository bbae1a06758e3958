//! What tests make tasks of: sources of numbers, an operator that counts them, a pool.

use std::{
    collections::HashSet,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use arrow::{
    array::{AsArray as _, Int64Array, RecordBatch},
    datatypes::{DataType, Field, Int64Type, Schema},
};
use futures::{
    Future as _,
    future::BoxFuture,
    task::{FutureObj, Spawn, SpawnError},
};
use proto::types::{Epoch, KeyGroup, KeyGroupCount, SinkId, TableId};
use state_client::{KeyRequest, LoadedRow, ScanReply, StagedOutput};

use crate::{
    ChangeBatch, Element,
    clock::Timer,
    key::{KeyBatch, KeyEncoder, KeyWidth},
    operator::{
        OperatorContext, OperatorError, OperatorState, Reassigned, SourceOperator, SourceStatus,
        StateSize, Step, TaskScope,
    },
    state::{
        FrozenRows, KeyIndex, KeyedLogic, MapTable, ScanJob, StateDelta, TableDelta, Values, Wanted,
    },
};

/// Nothing here waits for time.
pub(super) struct NoTimer;

impl Timer for NoTimer {
    fn sleep(&self, _ms: u64) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

pub(super) const GROUPS: KeyGroupCount = KeyGroupCount::DEFAULT;
pub(super) const KEYS: i64 = 7;
pub(super) const OFFSETS: TableId = TableId(1);
const COUNTS: TableId = TableId(2);

pub(super) fn batch(values: Vec<i64>) -> ChangeBatch {
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
    let column = Arc::new(Int64Array::from(values));
    ChangeBatch::inserts(RecordBatch::try_new(schema, vec![column]).expect("one column"))
}

/// Emits 0..end, `step` at a time.
pub(super) struct Numbers {
    pub(super) table: TableId,
    pub(super) next: i64,
    pub(super) end: i64,
    pub(super) step: i64,
    pub(super) frozen: Option<i64>,
}

impl SourceOperator for Numbers {
    fn poll_emit(
        &mut self,
        _cx: &mut Context<'_>,
        context: &mut OperatorContext<'_>,
    ) -> Poll<Result<SourceStatus, OperatorError>> {
        if self.next == self.end {
            return Poll::Ready(Ok(SourceStatus::Finished));
        }
        let to = (self.next + self.step).min(self.end);
        context.out.batch(batch((self.next..to).collect()));
        context.out.element(Element::Watermark(to));
        self.next = to;
        Poll::Ready(Ok(SourceStatus::Emitted))
    }

    fn state(&mut self) -> &mut dyn OperatorState {
        self
    }
}

impl OperatorState for Numbers {
    fn hydrate(&mut self, _scope: &TaskScope) -> Vec<ScanJob> {
        vec![ScanJob::new(self.table, KeyGroup(0))]
    }

    fn reassign(&mut self, _scope: &TaskScope, _change: &Reassigned) -> Vec<ScanJob> {
        Vec::new()
    }

    fn hydrated(&mut self, _job: &ScanJob, reply: &ScanReply) -> Result<(), OperatorError> {
        for row in &reply.rows {
            self.next = i64::from_be_bytes(row.value[..].try_into().expect("eight bytes"));
        }
        Ok(())
    }

    fn freeze(&mut self, _epoch: Epoch) {
        self.frozen = Some(self.next);
    }

    fn encode(&mut self, _rows_max: usize) -> bool {
        true
    }

    fn take_delta(&mut self) -> StateDelta {
        let mut rows = FrozenRows::default();
        let offset = self.frozen.take().expect("frozen before taken");
        let value = |out: &mut Vec<u8>| out.extend_from_slice(&offset.to_be_bytes());
        rows.push(0, |out| out.push(b's'), Some(value));
        let tables = vec![TableDelta {
            table: self.table,
            namespace: 0,
            rows,
        }];
        StateDelta {
            tables,
            ..StateDelta::default()
        }
    }

    fn size(&self) -> StateSize {
        StateSize::default()
    }
}

#[derive(Default)]
pub(super) struct Counts(Vec<i64>);

impl Values for Counts {
    fn reserve(&mut self, slots: usize) {
        self.0.resize(self.0.len().max(slots), 0);
    }

    fn reset(&mut self, slot: u32) {
        self.0[slot as usize] = 0;
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0[slot as usize].to_be_bytes());
    }

    fn decode(&mut self, slot: u32, bytes: &[u8]) -> Result<(), String> {
        let bytes = bytes.try_into().map_err(|_| "not eight bytes".to_owned())?;
        self.0[slot as usize] = i64::from_be_bytes(bytes);
        Ok(())
    }

    fn relocate(&mut self, from: u32, to: u32) {
        self.0[to as usize] = std::mem::take(&mut self.0[from as usize]);
    }

    fn truncate(&mut self, slots: usize) {
        self.0.truncate(slots);
    }

    fn memory(&self) -> usize {
        self.0.capacity() * 8
    }

    fn free_memory(&self, _free_slots: usize) -> usize {
        0
    }
}

/// Counts rows by `n % KEYS`; stages "key=count" lines.
pub(super) struct Counter {
    encoder: KeyEncoder,
    table: MapTable<Counts>,
    output: Vec<u8>,
    frozen: Vec<u8>,
}

impl Counter {
    pub(super) fn new(scope: &TaskScope) -> Self {
        let encoder = KeyEncoder::new(vec![0], vec![DataType::Int64]).expect("encoder");
        let partial = scope.restored > Epoch::ZERO;
        let table = MapTable::new(COUNTS, 0, KeyWidth::U128, scope, partial, Counts::default());
        Counter {
            encoder,
            table,
            output: Vec::new(),
            frozen: Vec::new(),
        }
    }
}

pub(super) fn keys_of(batch: &ChangeBatch) -> Vec<i64> {
    batch
        .rows
        .column(0)
        .as_primitive::<Int64Type>()
        .values()
        .iter()
        .map(|n| n % KEYS)
        .collect()
}

impl KeyedLogic for Counter {
    fn keys(&mut self, _input: usize, batch: &ChangeBatch) -> Result<KeyBatch, OperatorError> {
        let keys = Arc::new(Int64Array::from(keys_of(batch)));
        let rows = batch.num_rows();
        Ok(self.encoder.encode_arrays(&[keys], rows)?)
    }

    fn is_resident(&self) -> bool {
        self.table.index().is_resident()
    }

    fn wanted(
        &mut self,
        _input: usize,
        _batch: &ChangeBatch,
        keys: &KeyBatch,
    ) -> Result<Wanted, OperatorError> {
        let unknown = keys
            .hashes
            .iter()
            .enumerate()
            .filter(|(_, hash)| self.table.index().is_unknown(**hash));
        let request = |hash: &u64| KeyRequest {
            table: COUNTS,
            namespace: 0,
            hash: *hash,
            sub: None,
        };
        Ok(unknown
            .map(|(row, hash)| (row as u32, request(hash)))
            .collect())
    }

    fn whole_tables(&self) -> Vec<TableId> {
        vec![COUNTS]
    }

    fn index(&self) -> &KeyIndex {
        self.table.index()
    }

    fn index_mut(&mut self) -> &mut KeyIndex {
        self.table.index_mut()
    }

    fn evicted_as_of(&self, hash: u64) -> Epoch {
        self.table.index().evicted_as_of(hash)
    }

    fn install(&mut self, request: &KeyRequest, rows: &[LoadedRow]) -> Result<(), OperatorError> {
        rows.iter().try_for_each(|row| self.table.install(row))?;
        self.table.index_mut().mark_loaded(request.hash);
        Ok(())
    }

    fn process(
        &mut self,
        _input: usize,
        batch: ChangeBatch,
        keys: KeyBatch,
        _context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        let mut slots = Vec::new();
        self.table.upsert(&keys, &mut slots);
        for (slot, key) in slots.iter().zip(keys_of(&batch)) {
            let count = &mut self.table.values.0[*slot as usize];
            *count += 1;
            self.output
                .extend_from_slice(format!("{key}={count}\n").as_bytes());
        }
        Ok(Step::Done)
    }

    fn state(&mut self) -> &mut dyn OperatorState {
        self
    }

    fn roll_back(&mut self, restored: Epoch) {
        let mut dirty = HashSet::new();
        self.table.roll_back(restored, &mut dirty);
        self.table.forget_dirty(&dirty);
        self.output.clear();
    }
}

impl OperatorState for Counter {
    fn hydrate(&mut self, _scope: &TaskScope) -> Vec<ScanJob> {
        Vec::new()
    }

    fn hydrated(&mut self, _job: &ScanJob, _reply: &ScanReply) -> Result<(), OperatorError> {
        Ok(())
    }

    fn reassign(&mut self, _scope: &TaskScope, change: &Reassigned) -> Vec<ScanJob> {
        self.table.reassign(change);
        Vec::new()
    }

    fn freeze(&mut self, epoch: Epoch) {
        self.table.freeze(epoch);
        self.frozen = std::mem::take(&mut self.output);
    }

    fn encode(&mut self, _rows_max: usize) -> bool {
        self.table.encode(2)
    }

    fn take_delta(&mut self) -> StateDelta {
        let bytes = std::mem::take(&mut self.frozen).into();
        StateDelta {
            tables: self.table.take_delta().into_iter().collect(),
            low_water_marks: Vec::new(),
            staged: vec![StagedOutput {
                sink: SinkId(0),
                slot: 0,
                bytes,
            }],
        }
    }

    fn size(&self) -> StateSize {
        self.table.size()
    }
}

/// Work that was spawned, polled with the tasks.
#[derive(Default)]
pub(super) struct Pool(Mutex<Vec<FutureObj<'static, ()>>>);

impl Spawn for Pool {
    fn spawn_obj(&self, future: FutureObj<'static, ()>) -> Result<(), SpawnError> {
        self.0.lock().expect("not poisoned").push(future);
        Ok(())
    }
}

impl Pool {
    pub(super) fn poll(&self, cx: &mut Context<'_>) {
        let mut futures = std::mem::take(&mut *self.0.lock().expect("not poisoned"));
        futures.retain_mut(|future| Pin::new(future).poll(cx).is_pending());
        self.0.lock().expect("not poisoned").append(&mut futures);
    }
}
