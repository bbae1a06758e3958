//! A task changes its place among others at a barrier: it gets other channels and other key groups,
//! and goes on with those that it keeps.
//!
//! Key groups that came are read as of the barrier's epoch, which takes until it is committed.
//! Operators that work on misses ask for them row by row. For others the task holds back rows of
//! what came, and time, until it is read; rows of all other key groups pass.

use std::{
    collections::VecDeque,
    task::{Context, Poll},
};

use arrow::array::UInt32Array;
use proto::types::{KeyGroupMap, KeyGroupSet};
use state_client::{Incarnation, StateStore};

use super::{
    graph::Graph,
    hydrate::Hydration,
    node::NodeError,
    parts::{TaskError, TaskEvent},
    run::{Phase, Task},
};
use crate::{
    Barrier, ChangeBatch,
    flow::{ChannelReceiver, ChannelSender, GateEvent},
    key::KeyEncoder,
    operator::{OperatorError, TaskScope},
    state::ScanJob,
};

/// Bytes of rows that are held back; beyond them the task takes no more input.
const HELD_BYTES_MAX: usize = 16 << 20;

/// What a task does at the barrier that changes the routing.
pub struct Reroute {
    /// The routing that it changes to.
    pub routing: u32,
    /// Its place in it; `None`: it has none and ends with the barrier.
    pub place: Option<NewPlace>,
}

/// A task's place in a routing.
pub struct NewPlace {
    /// Where it runs. What it restores from stays as it is.
    pub scope: TaskScope,
    /// Number of tasks of the job.
    pub tasks: u32,
    /// Inputs of the gate whose channels change.
    pub inputs: Vec<(usize, Vec<ChannelReceiver>)>,
    /// Ports whose channels change, and who gets what from now on.
    pub ports: Vec<(usize, Vec<ChannelSender>, Option<KeyGroupMap>)>,
    /// Whether splits may come and go: time begins anew.
    pub resets_time: bool,
}

/// Reads what came, and holds back what must not be before it.
pub(super) struct Moving {
    hydration: Hydration,
    came: KeyGroupSet,
    held: VecDeque<GateEvent>,
    held_bytes: usize,
    /// A barrier is held: what follows belongs to another epoch.
    is_closed: bool,
}

impl Moving {
    pub(super) fn new(
        who: Incarnation,
        jobs: VecDeque<(usize, ScanJob)>,
        came: KeyGroupSet,
    ) -> Moving {
        Moving {
            hydration: Hydration::new(who, jobs),
            came,
            held: VecDeque::new(),
            held_bytes: 0,
            is_closed: false,
        }
    }

    /// Whether events of the gate may still be taken in.
    pub(super) fn takes_more(&self) -> bool {
        !self.is_closed && self.held_bytes < HELD_BYTES_MAX
    }

    /// Holds an event back; the rows of it that need not wait. `keys` are those of its input; without
    /// keys all rows wait.
    pub(super) fn hold(
        &mut self,
        event: GateEvent,
        keys: Option<&mut KeyEncoder>,
        scope: &TaskScope,
    ) -> Result<Option<GateEvent>, OperatorError> {
        let (GateEvent::Batch(input, batch), Some(keys)) = (&event, keys) else {
            self.is_closed |= matches!(event, GateEvent::Barrier(_));
            self.push(event);
            return Ok(None);
        };
        let hashes = keys.encode(&batch.rows)?.hashes;
        let waits = |hash: &u64| self.came.contains(scope.key_groups.of_hash(*hash));
        let rows = (0..).zip(&hashes);
        let (waiting, ready): (Vec<(u32, &u64)>, Vec<_>) = rows.partition(|(_, hash)| waits(hash));
        if waiting.is_empty() {
            return Ok(Some(event));
        }
        let take = |rows: Vec<(u32, &u64)>| -> Result<ChangeBatch, OperatorError> {
            let rows: Vec<u32> = rows.into_iter().map(|(row, _)| row).collect();
            Ok(batch.take(&UInt32Array::from(rows))?)
        };
        let input = *input;
        let ready = if ready.is_empty() {
            None
        } else {
            Some(take(ready)?)
        };
        let waiting = take(waiting)?;
        self.push(GateEvent::Batch(input, waiting));
        Ok(ready.map(|ready| GateEvent::Batch(input, ready)))
    }

    fn push(&mut self, event: GateEvent) {
        if let GateEvent::Batch(_, batch) = &event {
            self.held_bytes += batch.bytes();
        }
        self.held.push_back(event);
    }

    /// Goes on reading; ready once all is there.
    pub(super) fn poll(
        &mut self,
        graph: &mut Graph,
        store: &dyn StateStore,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), TaskError>> {
        self.hydration.poll(graph, store, cx)
    }

    /// What was held back, in order.
    pub(super) fn into_held(self) -> VecDeque<GateEvent> {
        self.held
    }
}

impl Task {
    /// Goes on with what came; once it is there, what was held back follows.
    pub(super) fn poll_moving(&mut self, cx: &mut Context<'_>) -> Result<(), TaskError> {
        let Some(moving) = &mut self.moving else {
            return Ok(());
        };
        let (graph, store) = (&mut self.parts.graph, &*self.parts.store);
        if let Poll::Ready(moved) = moving.poll(graph, store, cx) {
            moved?;
            let held = self.moving.take().map(Moving::into_held);
            self.held.extend(held.unwrap_or_default());
            (self.parts.events)(TaskEvent::Settled);
        }
        Ok(())
    }

    /// Takes the place that the barrier's routing has for the task. Its delta is cut, and no element
    /// of the next epoch has been seen.
    pub(super) fn change_place(&mut self, barrier: Barrier) -> Result<(), TaskError> {
        let next = self.next_place.take();
        let next = next.filter(|next| next.routing == barrier.routing);
        let next = next.ok_or(TaskError::UnknownRouting(barrier.routing))?;
        self.routing = barrier.routing;
        let graph = &mut self.parts.graph;
        let Some(place) = next.place else {
            graph.end_ports();
            self.phase = Phase::Retired;
            return Ok(());
        };
        let NewPlace {
            scope,
            tasks,
            inputs,
            ports,
            resets_time,
        } = place;
        self.checkpointer.set_tasks(tasks);
        let came = scope.owned.minus(&self.parts.scope.owned);
        self.parts.scope = scope.clone();
        let jobs = graph.reassign(&scope, barrier.epoch);
        if resets_time {
            graph.reset_time();
        }
        for (port, senders, map) in ports {
            graph.reroute_port(port, senders, map);
        }
        for (input, receivers) in inputs {
            self.parts.gate.reroute(input, receivers);
        }
        // Told again even if it was told before: whoever counts begins anew.
        self.finished = false;
        if resets_time {
            self.inputs_ended = 0;
            self.parts.gate.repeat_time();
        }
        self.moving = Some(Moving::new(self.parts.who, jobs.into(), came));
        Ok(())
    }

    /// Takes an event of the gate in: for the operators, or to wait for what came.
    pub(super) fn hold(&mut self, event: GateEvent) -> Result<(), TaskError> {
        let Some(moving) = &mut self.moving else {
            self.held.push_back(event);
            return Ok(());
        };
        let keys = match &event {
            GateEvent::Batch(input, _) => self.parts.keys[*input].as_mut(),
            _ => None,
        };
        let ready = moving.hold(event, keys, &self.parts.scope);
        let error = |source| NodeError {
            node: "exchange".to_owned(),
            source,
        };
        self.held.extend(ready.map_err(error)?);
        Ok(())
    }
}
