//! Two tasks over a channel: numbers are counted by key and staged, through crashes at any step.

use std::{
    collections::{BTreeMap, HashSet},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use arrow::{
    array::{AsArray as _, Int64Array, RecordBatch},
    datatypes::{DataType, Field, Int64Type, Schema},
};
use futures::{
    Future as _,
    channel::mpsc,
    future::BoxFuture,
    task::{FutureObj, Spawn, SpawnError},
};
use proto::types::{
    Epoch, Generation, JobId, KeyGroup, KeyGroupCount, KeyGroupSet, SinkId, TableId, TaskId,
};
use state_client::{
    Cut, Incarnation, KeyRequest, LoadedRow, MemoryStore, OutputRequest, ScanReply, StagedOutput,
    StateControl as _, StateStore as _,
};

use super::{Consumer, GraphBuilder, Task, TaskCommand, TaskEvent, TaskMetrics, TaskParts};
use crate::{
    Barrier, ChangeBatch, Element,
    clock::{ManualClock, Timer},
    flow::{Gate, OutputBudget, OutputPort, Partitioner, channel},
    key::{KeyBatch, KeyEncoder, KeyWidth},
    memory::{MemoryPool, MemoryShare},
    operator::{
        Operator, OperatorContext, OperatorError, OperatorState, Reassigned, SourceOperator,
        SourceStatus, StateSize, Step, TaskScope,
    },
    state::{
        FrozenRows, KeyIndex, Keyed, KeyedLogic, MapTable, ScanJob, StateDelta, TableDelta, Values,
        Wanted,
    },
};

/// Nothing here waits for time.
struct NoTimer;

impl Timer for NoTimer {
    fn sleep(&self, _ms: u64) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

const GROUPS: KeyGroupCount = KeyGroupCount::DEFAULT;
const KEYS: i64 = 7;
const OFFSETS: TableId = TableId(1);
const COUNTS: TableId = TableId(2);

fn batch(values: Vec<i64>) -> ChangeBatch {
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
    let column = Arc::new(Int64Array::from(values));
    ChangeBatch::inserts(RecordBatch::try_new(schema, vec![column]).expect("one column"))
}

/// Emits 0..end, `step` at a time.
struct Numbers {
    next: i64,
    end: i64,
    step: i64,
    frozen: Option<i64>,
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
        vec![ScanJob::new(OFFSETS, KeyGroup(0))]
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
            table: OFFSETS,
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
struct Counts(Vec<i64>);

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

    fn memory(&self) -> usize {
        self.0.capacity() * 8
    }

    fn free_memory(&self, _free_slots: usize) -> usize {
        0
    }
}

/// Counts rows by `n % KEYS`; stages "key=count" lines.
struct Counter {
    encoder: KeyEncoder,
    table: MapTable<Counts>,
    output: Vec<u8>,
    frozen: Vec<u8>,
}

impl Counter {
    fn new(scope: &TaskScope) -> Self {
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

fn keys_of(batch: &ChangeBatch) -> Vec<i64> {
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
struct Pool(Mutex<Vec<FutureObj<'static, ()>>>);

impl Spawn for Pool {
    fn spawn_obj(&self, future: FutureObj<'static, ()>) -> Result<(), SpawnError> {
        self.0.lock().expect("not poisoned").push(future);
        Ok(())
    }
}

impl Pool {
    fn poll(&self, cx: &mut Context<'_>) {
        let mut futures = std::mem::take(&mut *self.0.lock().expect("not poisoned"));
        futures.retain_mut(|future| Pin::new(future).poll(cx).is_pending());
        self.0.lock().expect("not poisoned").append(&mut futures);
    }
}

/// One generation of the job, stepped by hand.
struct Generations {
    store: MemoryStore,
    who: Incarnation,
    epoch: Epoch,
}

struct Running {
    tasks: Vec<Task>,
    commands: Vec<mpsc::Sender<TaskCommand>>,
    events: Arc<Mutex<Vec<(usize, TaskEvent)>>>,
    pool: Arc<Pool>,
}

fn block<T>(future: BoxFuture<'_, T>) -> T {
    futures::executor::block_on(future)
}

impl Generations {
    #[allow(clippy::too_many_lines)] // Two tasks, all by hand.
    fn start(&mut self, end: i64) -> Running {
        self.who.generation = self.who.generation.next();
        let restored = block(self.store.begin(self.who)).expect("begin").restored;
        self.epoch = Epoch(self.epoch.0.max(restored.0) + 16);
        let (sender, receiver) = channel(200);
        let scope = |batch_rows| TaskScope {
            index: 0,
            parallelism: 1,
            owned: KeyGroupSet::all(GROUPS),
            key_groups: GROUPS,
            batch_rows,
            restored,
            came: None,
        };
        let mut first = GraphBuilder::default();
        let source = Numbers {
            next: 0,
            end,
            step: 10,
            frozen: None,
        };
        let source = first.source("source", Box::new(source), scope(10));
        let port = first.port(OutputPort::new(Partitioner::Single, vec![sender], 4));
        first.connect(source, Consumer::Port(port));
        let mut second = GraphBuilder::default();
        let counter: Box<dyn Operator> = Box::new(Keyed::new(Counter::new(&scope(10))));
        second.operator("count", counter, 1, scope(10));
        let events: Arc<Mutex<Vec<(usize, TaskEvent)>>> = Arc::default();
        let pool = Arc::new(Pool::default());
        let mut running = Running {
            tasks: Vec::new(),
            commands: Vec::new(),
            events,
            pool,
        };
        let gates = [Gate::new(Vec::new()), Gate::new(vec![vec![receiver]])];
        let graphs = [first.build(), second.build()];
        for (index, (graph, gate)) in graphs.into_iter().zip(gates).enumerate() {
            let (commands, command_receiver) = mpsc::channel(8);
            let events = Arc::clone(&running.events);
            running.commands.push(commands);
            running.tasks.push(Task::new(TaskParts {
                who: self.who,
                task: TaskId(index as u32),
                restored,
                scope: scope(10),
                routing: 0,
                keys: (0..index).map(|_| None).collect(),
                cut: Cut {
                    key_groups: GROUPS,
                    shards: 4,
                    tasks: 2,
                },
                graph,
                gate,
                entries: if index == 0 {
                    Vec::new()
                } else {
                    vec![vec![(0, 0)]]
                },
                output: OutputBudget::new(u64::MAX),
                memory: MemoryShare::of(&MemoryPool::unbounded()),
                timer: Arc::new(NoTimer),
                store: Arc::new(self.store.clone()),
                spawn: Arc::clone(&running.pool) as Arc<dyn Spawn + Send + Sync>,
                clock: Arc::new(ManualClock::default()),
                commands: command_receiver,
                events: Box::new(move |event| {
                    events.lock().expect("not poisoned").push((index, event));
                }),
                metrics: Arc::new(TaskMetrics::default()),
            }));
        }
        running
    }
}

/// Runs to the end, crashing after `crash_after` steps of each generation but the last; the last
/// count of each key that was published.
#[allow(clippy::too_many_lines)] // One history, step by step.
fn run(crash_after: &[usize], end: i64) -> BTreeMap<String, String> {
    let store = MemoryStore::new(GROUPS);
    let who = Incarnation {
        job: JobId(1),
        generation: Generation(0),
    };
    let mut generations = Generations {
        store,
        who,
        epoch: Epoch::ZERO,
    };
    for steps in crash_after.iter().map(|steps| Some(*steps)).chain([None]) {
        let mut running = generations.start(end);
        let mut cx = Context::from_waker(Waker::noop());
        let mut staged = [Epoch::ZERO; 2];
        let mut finished = 0;
        let mut open: Option<Epoch> = None;
        let mut last = false;
        for step in 0.. {
            assert!(step < 10_000, "the job hangs");
            if steps == Some(step) {
                break;
            }
            // A step is one poll of one task, so that a crash may come between any two.
            let index = step % 2;
            let polled = Pin::new(&mut running.tasks[index]).poll(&mut cx);
            assert!(polled.is_pending(), "{:?}", polled.map(|done| done.err()));
            if step % 3 == 0 {
                running.pool.poll(&mut cx);
            }
            for (task, event) in running.events.lock().expect("not poisoned").drain(..) {
                match event {
                    TaskEvent::Staged { epoch, .. } => staged[task] = epoch,
                    TaskEvent::Finished { .. } => finished += 1,
                    _ => {}
                }
            }
            if let Some(epoch) = open
                && staged == [epoch; 2]
            {
                block(generations.store.commit(generations.who, epoch, Vec::new()))
                    .expect("commit");
                open = None;
                if last {
                    break;
                }
            }
            if open.is_none() && step % 5 == 4 {
                last = finished == 2;
                generations.epoch = generations.epoch.next();
                open = Some(generations.epoch);
                for commands in &mut running.commands {
                    commands
                        .try_send(TaskCommand::Barrier(Barrier {
                            epoch: generations.epoch,
                            routing: 0,
                        }))
                        .expect("room");
                }
            }
        }
    }
    let request = OutputRequest {
        sink: SinkId(0),
        after: Epoch::ZERO,
        up_to: generations.epoch,
        bytes_max: usize::MAX,
    };
    let output = generations.store.committed_output(generations.who, request);
    let mut counts = BTreeMap::new();
    for piece in block(output).expect("output") {
        let text = String::from_utf8(piece.bytes.to_vec()).expect("text");
        for line in text.lines() {
            let (key, count) = line.split_once('=').expect("key=count");
            let old = counts.insert(key.to_owned(), count.to_owned());
            let before = old.map_or(0, |old: String| old.parse::<i64>().expect("a number"));
            assert_eq!(
                before + 1,
                count.parse::<i64>().expect("a number"),
                "once, in order"
            );
        }
    }
    counts
}

#[test]
fn every_number_counts_once_whatever_crashes() {
    let expected = run(&[], 200);
    assert_eq!(expected.len(), 7);
    assert_eq!(expected["0"], "29");
    for first in (1..60).step_by(3) {
        assert_eq!(run(&[first], 200), expected, "crash after {first}");
        assert_eq!(
            run(&[first, 17, first / 2 + 1], 200),
            expected,
            "crashes after {first}, …"
        );
    }
}
