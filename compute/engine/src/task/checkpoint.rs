//! A task's part in a checkpoint: freeze at the barrier, encode between batches, stage off the
//! task, acknowledge. If the barrier has overtaken anything, the delta waits for all of that.

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

use super::{graph::Graph, node::NodeError, overtaken, parts::TaskError};
use crate::{clock::Clock, flow::OvertakenChannel, state::StateDelta};

/// Rows that are encoded between two looks at the clock.
const ENCODE_ROWS_MAX: usize = 8192;
/// Time that is spent encoding between two batches: most of what a task has while there is anything to
/// encode, since epochs wait for it, but never so much that rows wait noticeably.
const ENCODE_NS_MAX: u64 = 4_000_000;

/// What a task's delta is stored in.
pub(super) struct Staged {
    pub(super) epoch: Epoch,
    pub(super) objects: Vec<LogObject>,
    /// Bytes of rows in it that the barrier has overtaken.
    pub(super) overtaken_bytes: u64,
}

/// A delta on its way.
type Staging = RemoteHandle<Result<Staged, TaskError>>;

/// What the barrier has overtaken whose delta is not on its way yet.
enum Overtaken {
    Nothing,
    /// It is still coming.
    Awaited,
    There(Vec<OvertakenChannel>),
}

/// Deltas on their way to the state store.
pub(super) struct Checkpointer {
    who: Incarnation,
    task: TaskId,
    cut: Cut,
    store: Arc<dyn StateStore>,
    spawn: Arc<dyn Spawn + Send + Sync>,
    encoding: Option<Epoch>,
    overtaken: Overtaken,
    /// An encoded delta that waits for what its barrier has overtaken.
    encoded: Option<(Epoch, StateDelta)>,
    /// Whether the last delta has rows that its barrier had overtaken: the next one closes them.
    has_overtaken: bool,
    /// With the bytes of each.
    staging: VecDeque<(u64, Staging)>,
}

impl Checkpointer {
    pub(super) fn new(
        who: Incarnation,
        task: TaskId,
        cut: Cut,
        store: Arc<dyn StateStore>,
        spawn: Arc<dyn Spawn + Send + Sync>,
        has_overtaken: bool,
    ) -> Self {
        let staging = VecDeque::new();
        Checkpointer {
            who,
            task,
            cut,
            store,
            spawn,
            encoding: None,
            overtaken: Overtaken::Nothing,
            encoded: None,
            has_overtaken,
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

    /// Whether there is a delta that is not on its way yet: another one cannot be cut.
    pub(super) fn has_delta(&self) -> bool {
        self.is_encoding() || self.encoded.is_some()
    }

    /// Whether the last barrier has overtaken what is still coming.
    pub(super) fn awaits_overtaken(&self) -> bool {
        matches!(self.overtaken, Overtaken::Awaited)
    }

    /// Whether the delta of the last barrier is not on its way yet: the next barrier waits.
    pub(super) fn is_busy(&self) -> bool {
        self.has_delta() || self.awaits_overtaken()
    }

    /// A barrier overtakes: its delta is whole only with what that is.
    pub(super) fn await_overtaken(&mut self) {
        self.overtaken = Overtaken::Awaited;
    }

    /// All that the barrier has overtaken.
    pub(super) fn overtaken(&mut self, channels: Vec<OvertakenChannel>) {
        self.overtaken = Overtaken::There(channels);
        self.stage_if_whole();
    }

    /// Cuts every operator's delta.
    pub(super) fn freeze(&mut self, graph: &mut Graph, epoch: Epoch) {
        graph.states().for_each(|(_, _, state)| state.freeze(epoch));
        self.encoding = Some(epoch);
    }

    /// Encodes some rows; once all are, hands the delta over to be sorted and staged.
    pub(super) fn encode(&mut self, graph: &mut Graph, clock: &dyn Clock) {
        let Some(epoch) = self.encoding else { return };
        let until_ns = clock.monotonic_ns().saturating_add(ENCODE_NS_MAX);
        loop {
            let mut done = true;
            for (_, _, state) in graph.states() {
                done &= state.encode(ENCODE_ROWS_MAX);
            }
            if done {
                break;
            }
            if clock.monotonic_ns() >= until_ns {
                return;
            }
        }
        self.encoded = Some((epoch, graph.take_delta()));
        self.encoding = None;
        self.stage_if_whole();
    }

    fn stage_if_whole(&mut self) {
        if self.awaits_overtaken() {
            return;
        }
        let Some((epoch, mut delta)) = self.encoded.take() else {
            return;
        };
        let overtaken = std::mem::replace(&mut self.overtaken, Overtaken::Nothing);
        let overtaken = match overtaken {
            Overtaken::There(channels) => channels,
            Overtaken::Nothing | Overtaken::Awaited => Vec::new(),
        };
        if std::mem::replace(&mut self.has_overtaken, !overtaken.is_empty()) {
            let group = overtaken::key_group(self.task, self.cut.key_groups);
            let open = overtaken::namespace(epoch);
            delta.low_water_marks.push((overtaken::TABLE, group, open));
        }
        let tables = delta.tables.iter();
        let bytes: usize = tables.map(|table| table.rows.memory()).sum();
        let stage = Stage {
            store: Arc::clone(&self.store),
            who: self.who,
            task: self.task,
            epoch,
            cut: self.cut,
            delta,
            overtaken,
        };
        let handle = self
            .spawn
            .spawn_with_handle(stage.run())
            .unwrap_or_else(|_| {
                let error = StateError::Unavailable("the runtime is shutting down".to_owned());
                let (future, handle) =
                    futures::future::ready(Err(TaskError::from(error))).remote_handle();
                drop(future);
                handle
            });
        self.staging.push_back((bytes as u64, handle));
    }

    /// Bytes of rows on their way to the store.
    pub(super) fn sent_bytes(&self) -> u64 {
        self.staging.iter().map(|(bytes, _)| *bytes).sum()
    }

    /// The oldest delta that has been staged since the last call.
    pub(super) fn poll_staged(&mut self, cx: &mut Context<'_>) -> Poll<Result<Staged, TaskError>> {
        let Some((_, handle)) = self.staging.front_mut() else {
            return Poll::Pending;
        };
        let staged = std::task::ready!(Pin::new(handle).poll(cx));
        self.staging.pop_front();
        Poll::Ready(staged)
    }
}

/// A delta that is to be sorted and staged.
struct Stage {
    store: Arc<dyn StateStore>,
    who: Incarnation,
    task: TaskId,
    epoch: Epoch,
    cut: Cut,
    delta: StateDelta,
    overtaken: Vec<OvertakenChannel>,
}

impl Stage {
    async fn run(mut self) -> Result<Staged, TaskError> {
        let (task, epoch) = (self.task, self.epoch);
        let mut overtaken_bytes = 0;
        if !self.overtaken.is_empty() {
            let encoded = overtaken::encode(task, epoch, &self.overtaken);
            let (rows, bytes) = encoded.map_err(|error| NodeError {
                node: "exchange".to_owned(),
                source: error.into(),
            })?;
            self.delta.tables.push(rows);
            overtaken_bytes = bytes;
        }
        // What it holds is in its queue too; that is to be free once it has been read.
        self.overtaken = Vec::new();
        let changes = self.delta.into_changes(epoch, self.cut.key_groups);
        let delta = EpochDelta::new(self.who, epoch, task, self.cut, changes);
        let objects = self.store.stage(self.who, delta).await?;
        Ok(Staged {
            epoch,
            objects,
            overtaken_bytes,
        })
    }
}
