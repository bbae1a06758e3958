//! Two sources, two tasks between, one that counts: whatever order they run in, wherever barriers
//! overtake and wherever it crashes, every number counts once, and none comes after its time.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use futures::{Future as _, channel::mpsc, executor::block_on, task::Spawn};
use proptest::prelude::*;
use proto::types::{Epoch, Generation, JobId, KeyGroupSet, SinkId, TableId, TaskId};
use state_client::{
    Cut, Incarnation, MemoryStore, OutputRequest, StateControl as _, StateStore as _,
};

use super::{
    Consumer, Graph, GraphBuilder, Task, TaskCommand, TaskEvent, TaskMetrics, TaskParts,
    numbers_test::{Counter, GROUPS, NoTimer, Numbers, Pool, batch},
};
use crate::{
    Barrier, ChangeBatch, Element, TIMESTAMP_MIN, Timestamp,
    clock::ManualClock,
    flow::{ChannelReceiver, Gate, GateEvent, OutputBudget, OutputPort, Partitioner, channel},
    memory::{MemoryPool, MemoryShare},
    operator::{Operator, OperatorContext, OperatorError, Step, TaskScope},
    state::Keyed,
};

const TASKS: usize = 5;
const END: i64 = 150;

/// Passes all on, and knows rows that come after their time.
struct InTime {
    watermark: Timestamp,
}

impl Operator for InTime {
    fn batch(
        &mut self,
        _input: usize,
        batch: ChangeBatch,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        use arrow::array::AsArray as _;
        let numbers = batch.rows.column(0);
        let numbers = numbers
            .as_primitive::<arrow::datatypes::Int64Type>()
            .values();
        let late = numbers.iter().find(|number| **number < self.watermark);
        assert_eq!(late, None, "after watermark {}", self.watermark);
        context.out.batch(batch);
        Ok(Step::Done)
    }

    fn watermark(
        &mut self,
        watermark: Timestamp,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        self.watermark = watermark;
        context.out.element(Element::Watermark(watermark));
        Ok(Step::Done)
    }
}

fn scope(restored: Epoch) -> TaskScope {
    TaskScope {
        index: 0,
        parallelism: 1,
        owned: KeyGroupSet::all(GROUPS),
        key_groups: GROUPS,
        batch_rows: 10,
        restored,
        came: None,
    }
}

fn in_time(graph: &mut GraphBuilder, restored: Epoch) -> usize {
    let operator = InTime {
        watermark: TIMESTAMP_MIN,
    };
    graph.operator("in time", Box::new(operator), 1, scope(restored))
}

/// Graphs and gates of the five tasks.
fn topology(restored: Epoch) -> Vec<(Graph, Gate)> {
    let mut to_middle: Vec<Vec<ChannelReceiver>> = vec![Vec::new(), Vec::new()];
    let mut tasks = Vec::new();
    for index in 0..2 {
        let mut graph = GraphBuilder::default();
        let source = Numbers {
            table: TableId(10 + index),
            next: 0,
            end: END,
            step: 10,
            frozen: None,
        };
        let source = graph.source("source", Box::new(source), scope(restored));
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..2).map(|_| channel(200)).unzip();
        for (to, receiver) in to_middle.iter_mut().zip(receivers) {
            to.push(receiver);
        }
        let spread = Partitioner::Rebalance(index as usize);
        let port = graph.port(OutputPort::new(spread, senders, 4));
        graph.connect(source, Consumer::Port(port));
        tasks.push((graph.build(), Gate::new(Vec::new())));
    }
    let mut to_last = Vec::new();
    for receivers in to_middle {
        let mut graph = GraphBuilder::default();
        let node = in_time(&mut graph, restored);
        let (sender, receiver) = channel(200);
        to_last.push(receiver);
        let port = graph.port(OutputPort::new(Partitioner::Single, vec![sender], 4));
        graph.connect(node, Consumer::Port(port));
        tasks.push((graph.build(), Gate::new(vec![receivers])));
    }
    let mut graph = GraphBuilder::default();
    let node = in_time(&mut graph, restored);
    let counter: Box<dyn Operator> = Box::new(Keyed::new(Counter::new(&scope(restored))));
    let counter = graph.operator("count", counter, 1, scope(restored));
    graph.connect(
        node,
        Consumer::Node {
            node: counter,
            input: 0,
        },
    );
    tasks.push((graph.build(), Gate::new(vec![to_last])));
    tasks
}

/// Tasks that are stepped by hand.
struct Running {
    tasks: Vec<Task>,
    commands: Vec<mpsc::Sender<TaskCommand>>,
    events: Arc<Mutex<Vec<(usize, TaskEvent)>>>,
    pool: Arc<Pool>,
}

impl Running {
    fn start(
        store: &MemoryStore,
        who: Incarnation,
        (restored, has_overtaken): (Epoch, bool),
        topology: Vec<(Graph, Gate)>,
    ) -> Running {
        let mut running = Running {
            tasks: Vec::new(),
            commands: Vec::new(),
            events: Arc::default(),
            pool: Arc::default(),
        };
        let count = topology.len() as u32;
        for (index, (graph, gate)) in topology.into_iter().enumerate() {
            let (commands, command_receiver) = mpsc::channel(8);
            running.commands.push(commands);
            let events = Arc::clone(&running.events);
            let inputs = usize::from(!gate.is_empty());
            running.tasks.push(Task::new(TaskParts {
                who,
                task: TaskId(index as u32),
                restored,
                has_overtaken,
                scope: scope(restored),
                routing: 0,
                keys: (0..inputs).map(|_| None).collect(),
                cut: Cut {
                    key_groups: GROUPS,
                    shards: 4,
                    tasks: count,
                },
                graph,
                gate,
                entries: vec![vec![(0, 0)]; inputs],
                output: OutputBudget::new(u64::MAX),
                memory: MemoryShare::of(&MemoryPool::unbounded()),
                timer: Arc::new(NoTimer),
                store: Arc::new(store.clone()),
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

    fn poll(&mut self, task: usize) {
        let mut cx = Context::from_waker(Waker::noop());
        let polled = Pin::new(&mut self.tasks[task]).poll(&mut cx);
        assert!(polled.is_pending(), "{:?}", polled.map(|done| done.err()));
    }

    fn barrier(&mut self, epoch: Epoch, overtakes: bool) {
        for commands in &mut self.commands {
            let barrier = TaskCommand::Barrier {
                barrier: Barrier { epoch, routing: 0 },
                overtakes_after_ms: overtakes.then_some(0),
            };
            commands.try_send(barrier).expect("room");
        }
    }

    fn take_events(&self) -> Vec<(usize, TaskEvent)> {
        std::mem::take(&mut *self.events.lock().expect("not poisoned"))
    }
}

/// What happens to a job.
#[derive(Clone, Debug)]
struct Script {
    /// Which task is polled next, again and again.
    schedule: Vec<u8>,
    /// After how many steps each generation but the last crashes.
    crashes: Vec<usize>,
    /// Which barriers overtake, again and again.
    overtakes: Vec<bool>,
}

/// What became of it.
#[derive(Default, Debug)]
struct Outcome {
    /// The last count of each key that was published.
    counts: BTreeMap<String, i64>,
    /// Generations that began with what a barrier had overtaken.
    replays: usize,
}

/// Runs to the end.
fn run(script: &Script) -> Outcome {
    let store = MemoryStore::new(GROUPS);
    let mut who = Incarnation {
        job: JobId(1),
        generation: Generation(0),
    };
    let mut outcome = Outcome::default();
    let mut overtaken: BTreeMap<Epoch, u64> = BTreeMap::new();
    let mut epoch = Epoch::ZERO;
    let mut overtakes = script.overtakes.iter().cycle();
    let crashes = script.crashes.iter().map(|steps| Some(*steps));
    for crash in crashes.chain([None]) {
        who.generation = who.generation.next();
        let restored = block_on(store.begin(who)).expect("begin").restored;
        epoch = Epoch(epoch.0.max(restored.0) + 16);
        let bytes = overtaken.get(&restored).copied().unwrap_or_default();
        outcome.replays += usize::from(bytes > 0);
        let begun = (restored, bytes > 0);
        let mut running = Running::start(&store, who, begun, topology(restored));
        let (mut staged, mut finished) = (0, 0);
        let (mut open, mut last) = (false, false);
        for step in 0.. {
            assert!(step < 20_000, "the job hangs");
            if crash == Some(step) {
                break;
            }
            let chosen = script.schedule.get(step % 3000);
            let chosen = chosen.map_or(step, |byte| usize::from(*byte));
            running.poll(chosen % TASKS);
            if step % 3 == 0 {
                let mut cx = Context::from_waker(Waker::noop());
                running.pool.poll(&mut cx);
            }
            for (_, event) in running.take_events() {
                match event {
                    TaskEvent::Staged {
                        overtaken_bytes, ..
                    } => {
                        staged += 1;
                        *overtaken.entry(epoch).or_default() += overtaken_bytes;
                    }
                    TaskEvent::Finished { .. } => finished += 1,
                    _ => {}
                }
            }
            if open && staged == TASKS {
                block_on(store.commit(who, epoch, Vec::new(), 0)).expect("commit");
                (open, staged) = (false, 0);
                if last {
                    assert_eq!(overtaken[&epoch], 0, "the last one waits for all");
                    break;
                }
            }
            if !open && step % 5 == 4 {
                last = finished == TASKS;
                epoch = epoch.next();
                open = true;
                let overtakes = overtakes.next().is_some_and(|overtakes| *overtakes);
                running.barrier(epoch, overtakes && !last);
            }
        }
    }
    outcome.counts = published(&store, who, epoch);
    outcome
}

/// The last count of each key; each was published once.
fn published(store: &MemoryStore, who: Incarnation, up_to: Epoch) -> BTreeMap<String, i64> {
    let request = OutputRequest {
        sink: SinkId(0),
        after: Epoch::ZERO,
        up_to,
        bytes_max: usize::MAX,
    };
    let mut counts = BTreeMap::new();
    for piece in block_on(store.committed_output(who, request)).expect("output") {
        let text = String::from_utf8(piece.bytes.to_vec()).expect("text");
        for line in text.lines() {
            let (key, count) = line.split_once('=').expect("key=count");
            let count = count.parse::<i64>().expect("a number");
            let before = counts.insert(key.to_owned(), count).unwrap_or_default();
            assert_eq!(before + 1, count, "once, in order");
        }
    }
    counts
}

fn expected() -> BTreeMap<String, i64> {
    let mut counts = BTreeMap::new();
    for number in (0..END).chain(0..END) {
        *counts.entry((number % 7).to_string()).or_default() += 1;
    }
    counts
}

#[test]
fn what_was_overtaken_is_in_flight_again_after_a_crash() {
    let mut replays = 0;
    for crash in 20..70 {
        let script = Script {
            // The last task is slow, and one of those between even slower.
            schedule: vec![0, 2, 1, 0, 2, 1, 4, 0, 2, 1, 3],
            crashes: vec![crash, crash / 2, 40],
            overtakes: vec![true],
        };
        let outcome = run(&script);
        assert_eq!(outcome.counts, expected(), "a crash after {crash} steps");
        replays += outcome.replays;
    }
    assert!(replays > 20, "{replays}");
}

proptest! {
    #[test]
    fn a_run_gives_the_same_wherever_barriers_overtake_and_it_crashes(
        schedule in prop::collection::vec(any::<u8>(), 1..300),
        crashes in prop::collection::vec(1..150_usize, 0..4),
        overtakes in prop::collection::vec(any::<bool>(), 1..5),
    ) {
        let script = Script { schedule, crashes, overtakes };
        prop_assert_eq!(run(&script).counts, expected());
    }
}

#[test]
fn a_task_that_is_blocked_saves_its_state_and_takes_nothing_more_in() {
    let store = MemoryStore::new(GROUPS);
    let who = Incarnation {
        job: JobId(1),
        generation: Generation(1),
    };
    block_on(store.begin(who)).expect("begin");
    let (input, receiver) = channel(1_000_000);
    // Full after one batch.
    let (sender, output) = channel(1);
    let mut graph = GraphBuilder::default();
    let node = in_time(&mut graph, Epoch::ZERO);
    let port = graph.port(OutputPort::new(Partitioner::Single, vec![sender], 1));
    graph.connect(node, Consumer::Port(port));
    let topology = vec![(graph.build(), Gate::new(vec![vec![receiver]]))];
    let mut running = Running::start(&store, who, (Epoch::ZERO, false), topology);
    for number in 0..6 {
        input.send(Element::Batch(batch(vec![number])));
    }
    running.poll(0);
    running.barrier(Epoch(17), true);
    running.poll(0);
    let staged = |running: &Running| {
        let mut cx = Context::from_waker(Waker::noop());
        running.pool.poll(&mut cx);
        let events = running.take_events().into_iter();
        let bytes = events.filter_map(|(_, event)| match event {
            TaskEvent::Staged {
                overtaken_bytes, ..
            } => Some(overtaken_bytes),
            _ => None,
        });
        bytes.collect::<Vec<_>>()
    };
    // What its sender will send before the barrier is still to come.
    input.send(Element::Batch(batch(vec![6])));
    running.poll(0);
    assert!(staged(&running).is_empty());
    input.send(Element::barrier(Epoch(17)));
    running.poll(0);
    staged(&running);
    running.poll(0);
    let bytes = staged(&running);
    assert!(matches!(bytes[..], [bytes] if bytes > 0), "{bytes:?}");

    // Two batches had been taken in: one was in the channel, the other waited for room.
    let mut out = Gate::new(vec![vec![output]]);
    let mut next = || {
        let mut cx = Context::from_waker(Waker::noop());
        match out.poll_next(&mut cx) {
            Poll::Ready(GateEvent::Batch(_, batch)) => batch.num_rows().to_string(),
            Poll::Ready(GateEvent::Barrier(barrier)) => barrier.epoch.to_string(),
            other => format!("{other:?}"),
        }
    };
    let first: Vec<String> = (0..4).map(|_| next()).collect();
    assert_eq!(first, ["1", "1", "17", "Pending"]);
    // With room it goes on where it was, and the barrier that comes at last says nothing.
    let mut rest = Vec::new();
    for _ in 0..12 {
        running.poll(0);
        rest.push(next());
    }
    rest.retain(|event| event != "Pending");
    assert_eq!(rest, ["1"; 5]);
}
