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

use super::{graph::Graph, hydrate::Hydration, parts::TaskError};
use crate::{
    ChangeBatch,
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
