//! A task's part in a checkpoint: freeze at the barrier, encode between batches, stage off the
//! task, acknowledge.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{
    Future as _, FutureExt as _,
    future::RemoteHandle,
    task::{Spawn, SpawnExt as _},
};
use proto::{
    log::LogObject,
    types::{Epoch, TaskId},
};
use state_client::{Cut, EpochDelta, Incarnation, StateError, StateStore};
use std::sync::Arc;

use super::graph::Graph;
use crate::state::StateDelta;

/// Rows that are encoded between two batches.
const ENCODE_ROWS_MAX: usize = 8192;

/// A delta on its way; what it is stored in.
type Staging = RemoteHandle<Result<Vec<LogObject>, StateError>>;

/// Deltas on their way to the state store.
pub(super) struct Checkpointer {
    who: Incarnation,
    task: TaskId,
    cut: Cut,
    store: Arc<dyn StateStore>,
    spawn: Arc<dyn Spawn + Send + Sync>,
    encoding: Option<Epoch>,
    staging: VecDeque<(Epoch, Staging)>,
}

impl Checkpointer {
    pub(super) fn new(
        who: Incarnation,
        task: TaskId,
        cut: Cut,
        store: Arc<dyn StateStore>,
        spawn: Arc<dyn Spawn + Send + Sync>,
    ) -> Self {
        let staging = VecDeque::new();
        Checkpointer {
            who,
            task,
            cut,
            store,
            spawn,
            encoding: None,
            staging,
        }
    }

    /// The job has so many tasks from now on.
    pub(super) fn set_tasks(&mut self, tasks: u32) {
        self.cut.tasks = tasks;
    }

    /// Whether the delta of the last barrier is still being encoded: the next barrier waits.
    pub(super) fn is_encoding(&self) -> bool {
        self.encoding.is_some()
    }

    /// Cuts every operator's delta.
    pub(super) fn freeze(&mut self, graph: &mut Graph, epoch: Epoch) {
        graph.states().for_each(|(_, _, state)| state.freeze(epoch));
        self.encoding = Some(epoch);
    }

    /// Encodes some rows; once all are, hands the delta over to be sorted and staged.
    pub(super) fn encode(&mut self, graph: &mut Graph) {
        let Some(epoch) = self.encoding else { return };
        let mut done = true;
        for (_, _, state) in graph.states() {
            done &= state.encode(ENCODE_ROWS_MAX);
        }
        if !done {
            return;
        }
        let delta = graph.take_delta();
        self.encoding = None;
        let stage = stage(
            Arc::clone(&self.store),
            self.who,
            self.task,
            epoch,
            self.cut,
            delta,
        );
        let handle = self.spawn.spawn_with_handle(stage).unwrap_or_else(|_| {
            let error = StateError::Unavailable("the runtime is shutting down".to_owned());
            let (future, handle) = futures::future::ready(Err(error)).remote_handle();
            drop(future);
            handle
        });
        self.staging.push_back((epoch, handle));
    }

    /// The oldest epoch whose delta has been staged since the last call, and the objects that hold
    /// it.
    pub(super) fn poll_staged(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(Epoch, Vec<LogObject>), StateError>> {
        let Some((epoch, handle)) = self.staging.front_mut() else {
            return Poll::Pending;
        };
        let epoch = *epoch;
        let staged = std::task::ready!(Pin::new(handle).poll(cx));
        self.staging.pop_front();
        Poll::Ready(staged.map(|objects| (epoch, objects)))
    }
}

async fn stage(
    store: Arc<dyn StateStore>,
    who: Incarnation,
    task: TaskId,
    epoch: Epoch,
    cut: Cut,
    delta: StateDelta,
) -> Result<Vec<LogObject>, StateError> {
    let changes = delta.into_changes(epoch, cut.key_groups);
    let delta = EpochDelta::new(who, epoch, task, cut, changes);
    store.stage(who, delta).await
}
