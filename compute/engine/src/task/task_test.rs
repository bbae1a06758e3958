//! Two tasks over a channel: numbers are counted by key and staged, through crashes at any step.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Waker},
};

use futures::{Future as _, channel::mpsc, future::BoxFuture, task::Spawn};
use proto::types::{Epoch, Generation, JobId, KeyGroupSet, SinkId, TaskId};
use state_client::{
    Cut, Incarnation, MemoryStore, OutputRequest, StateControl as _, StateStore as _,
};

use super::{
    Consumer, GraphBuilder, Task, TaskCommand, TaskEvent, TaskMetrics, TaskParts,
    numbers_test::{Counter, GROUPS, NoTimer, Numbers, OFFSETS, Pool},
};
use crate::{
    Barrier,
    clock::ManualClock,
    flow::{Gate, OutputBudget, OutputPort, Partitioner, channel},
    memory::{MemoryPool, MemoryShare},
    operator::{Operator, TaskScope},
    state::Keyed,
};

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
            table: OFFSETS,
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
                has_overtaken: false,
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
                block(
                    generations
                        .store
                        .commit(generations.who, epoch, Vec::new(), 0),
                )
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
                        .try_send(TaskCommand::Barrier {
                            barrier: Barrier {
                                epoch: generations.epoch,
                                routing: 0,
                            },
                            overtakes_after_ms: None,
                        })
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
