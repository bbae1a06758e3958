//! State is read ahead while rows wait for theirs, and while a barrier does.

use std::{
    collections::BTreeSet,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Waker},
};

use futures::{Future as _, FutureExt as _, channel::mpsc, future::BoxFuture, task::Spawn};
use proto::{
    log::LogObject,
    types::{Epoch, Generation, JobId, KeyGroup, KeyGroupSet, TaskId},
};
use state_client::{
    CommittedOutput, Cut, EpochDelta, Incarnation, OutputRequest, ReadReply, ReadRequest,
    ScanReply, ScanRequest, StateError, StateStore,
};

use super::{
    Consumer, GraphBuilder, Task, TaskCommand, TaskMetrics, TaskParts,
    numbers_test::{Counter, GROUPS, NoTimer, Numbers, OFFSETS, Pool},
};
use crate::{
    Barrier,
    clock::ManualClock,
    flow::{Gate, OutputBudget},
    memory::{MemoryPool, MemoryShare},
    operator::TaskScope,
    state::Keyed,
};

/// Nothing is in it. Keys are never answered; which key groups were scanned.
#[derive(Default)]
struct Slow(Mutex<BTreeSet<KeyGroup>>);

impl StateStore for Slow {
    fn read(
        &self,
        _: Incarnation,
        _: ReadRequest,
    ) -> BoxFuture<'static, Result<ReadReply, StateError>> {
        futures::future::pending().boxed()
    }

    fn scan(
        &self,
        _: Incarnation,
        request: ScanRequest,
    ) -> BoxFuture<'static, Result<ScanReply, StateError>> {
        if request.table != OFFSETS {
            let mut scanned = self.0.lock().expect("not poisoned");
            scanned.insert(request.key_group);
        }
        futures::future::ready(Ok(ScanReply::default())).boxed()
    }

    fn stage(
        &self,
        _: Incarnation,
        _: EpochDelta,
    ) -> BoxFuture<'static, Result<Vec<LogObject>, StateError>> {
        futures::future::pending().boxed()
    }

    fn committed_output(
        &self,
        _: Incarnation,
        _: OutputRequest,
    ) -> BoxFuture<'static, Result<Vec<CommittedOutput>, StateError>> {
        futures::future::pending().boxed()
    }
}

/// A task that goes on after epoch 1 and counts what its source gives, with how to command it.
fn task(store: &Arc<Slow>) -> (Task, mpsc::Sender<TaskCommand>) {
    let restored = Epoch(1);
    let scope = || TaskScope {
        index: 0,
        parallelism: 1,
        owned: KeyGroupSet::all(GROUPS),
        key_groups: GROUPS,
        batch_rows: 10,
        restored,
        came: None,
    };
    let mut graph = GraphBuilder::default();
    let numbers = Numbers {
        table: OFFSETS,
        next: 0,
        end: 1_000,
        step: 10,
        frozen: None,
    };
    let source = graph.source("source", Box::new(numbers), scope());
    let counter = Box::new(Keyed::new(Counter::new(&scope())));
    let counter = graph.operator("count", counter, 1, scope());
    let consumer = Consumer::Node {
        node: counter,
        input: 0,
    };
    graph.connect(source, consumer);
    let (commands, command_receiver) = mpsc::channel(8);
    let task = Task::new(TaskParts {
        who: Incarnation {
            job: JobId(1),
            generation: Generation(1),
        },
        task: TaskId(0),
        restored,
        has_overtaken: false,
        scope: scope(),
        routing: 0,
        keys: Vec::new(),
        cut: Cut {
            key_groups: GROUPS,
            shards: 4,
            tasks: 1,
        },
        graph: graph.build(),
        gate: Gate::new(Vec::new()),
        entries: Vec::new(),
        output: OutputBudget::new(u64::MAX),
        memory: MemoryShare::of(&MemoryPool::unbounded()),
        timer: Arc::new(NoTimer),
        store: Arc::clone(store) as Arc<dyn StateStore>,
        spawn: Arc::new(Pool::default()) as Arc<dyn Spawn + Send + Sync>,
        clock: Arc::new(ManualClock::default()),
        commands: command_receiver,
        events: Box::new(|_| ()),
        metrics: Arc::new(TaskMetrics::default()),
    });
    (task, commands)
}

#[test]
fn state_is_read_ahead_while_rows_and_barriers_wait() {
    for with_barrier in [false, true] {
        let store = Arc::new(Slow::default());
        let (mut task, mut commands) = task(&store);
        let scanned = || store.0.lock().expect("not poisoned").len();
        let mut cx = Context::from_waker(Waker::noop());
        // The first rows wait, and the watermark behind them lets nothing more in.
        for step in 0..600 {
            if with_barrier && step == 1 {
                let barrier = Barrier {
                    epoch: Epoch(2),
                    routing: 0,
                };
                let barrier = TaskCommand::Barrier {
                    barrier,
                    overtakes_after_ms: None,
                };
                commands.try_send(barrier).expect("room");
            }
            let polled = Pin::new(&mut task).poll(&mut cx);
            assert!(polled.is_pending(), "{:?}", polled.map(|done| done.err()));
        }
        // Some groups of the seven keys that are asked for are left out, or come in vain; all are looked at.
        assert_eq!(scanned(), GROUPS.count() as usize, "{with_barrier}");
    }
}
