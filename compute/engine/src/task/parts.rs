//! What a task is made of, what it is told and what it tells.

use std::sync::Arc;

use futures::{channel::mpsc, task::Spawn};
use proto::{
    control::Retry,
    log::LogObject,
    types::{Epoch, TaskId},
};
use state_client::{Cut, Incarnation, StateError, StateStore};

use super::{graph::Graph, metrics::TaskMetrics, node::NodeError, reroute::Reroute};
use crate::{
    Barrier,
    clock::{Clock, Timer},
    flow::{Gate, OutputBudget},
    key::KeyEncoder,
    memory::MemoryShare,
    operator::TaskScope,
    source::DeadLetter,
};

/// What a task is told.
pub enum TaskCommand {
    /// An epoch ends. Where barriers come with the inputs they are waited for, but not for ever.
    Barrier {
        /// Its barrier.
        barrier: Barrier,
        /// After so long it overtakes what is queued before it; `None`: never.
        overtakes_after_ms: Option<u64>,
    },
    /// The task's place in the next routing. Replaces one that was told before.
    Reroute(Box<Reroute>),
    /// The next routing is given up: no barrier will carry it.
    KeepRouting,
    /// Epochs up to this one are committed.
    Committed(Epoch),
    /// Stop at once and hand over the operators, with what they hold.
    Yield,
    /// Sources read no more. With `drain` they have ended: time ends with them, and whatever waits
    /// for it is let go. Else they may go on after a restart.
    StopSources {
        /// Whether they have ended.
        drain: bool,
    },
}

/// What a task tells.
#[derive(Clone, Debug)]
pub enum TaskEvent {
    /// State is restored, the first element may come.
    Running,
    /// The epoch's barrier has passed; its delta is cut, and encoded from now on.
    Frozen(Epoch),
    /// All that came with the last change of the routing is there.
    Settled,
    /// The delta of the epoch is staged.
    Staged {
        /// Epoch.
        epoch: Epoch,
        /// Objects of the epoch log that hold it; none: nothing had changed.
        objects: Vec<LogObject>,
        /// Bytes in it of what the barrier has overtaken.
        overtaken_bytes: u64,
    },
    /// All inputs have ended and all output is sent; barriers are still answered. Another routing than
    /// this one may bring the task more to do.
    Finished {
        /// Number of the routing.
        routing: u32,
    },
    /// Records that could not be read.
    DeadLetters(Vec<DeadLetter>),
    /// Sources wait until output is published or memory is free, which a barrier would help.
    SourcesWait,
}

/// Why a task cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// In one of its operators.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// While saving or reading state.
    #[error(transparent)]
    State(#[from] StateError),
    /// A barrier carries a routing that the task was not told of.
    #[error("the task was not told of routing {0}")]
    UnknownRouting(u32),
    /// Whoever gave it commands is gone.
    #[error("the task's owner is gone")]
    Orphaned,
}

impl TaskError {
    /// Whether running again from the last checkpoint may help.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            TaskError::Orphaned => Retry::Never,
            TaskError::UnknownRouting(_) => Retry::Platform,
            TaskError::State(error) => retry_of(error),
            TaskError::Node(node) => node.source.retry(),
        }
    }
}

/// Whether running again from the last checkpoint may help after the state store failed.
#[must_use]
pub fn retry_of(error: &StateError) -> Retry {
    if error.is_damage() {
        Retry::Never
    } else if error.is_retryable() {
        Retry::Platform
    } else {
        Retry::Always
    }
}

/// What a task is made of.
pub struct TaskParts {
    /// Who runs.
    pub who: Incarnation,
    /// Number of the task.
    pub task: TaskId,
    /// Last committed epoch; [`Epoch::ZERO`]: nothing to restore.
    pub restored: Epoch,
    /// Whether the barrier of that epoch has overtaken anything: tasks are the same then that they
    /// were, and get it first.
    pub has_overtaken: bool,
    /// Where it runs.
    pub scope: TaskScope,
    /// Key groups, shards and tasks of the job.
    pub cut: Cut,
    /// The routing that it begins with.
    pub routing: u32,
    /// Operators.
    pub graph: Graph,
    /// Inputs from other tasks.
    pub gate: Gate,
    /// Per input of the gate: the nodes (and their inputs) that it feeds.
    pub entries: Vec<Vec<(usize, usize)>>,
    /// Per input of the gate: what its rows are spread by, if it is a key.
    pub keys: Vec<Option<KeyEncoder>>,
    /// What the job's sinks may owe; sources wait for it.
    pub output: OutputBudget,
    /// Memory for what its operators hold; sources wait for it.
    pub memory: MemoryShare,
    /// State.
    pub store: Arc<dyn StateStore>,
    /// Runs what must not hold the task up.
    pub spawn: Arc<dyn Spawn + Send + Sync>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Wakes the task when a node's deadline has come.
    pub timer: Arc<dyn Timer>,
    /// Commands.
    pub commands: mpsc::Receiver<TaskCommand>,
    /// Where events go.
    pub events: Box<dyn FnMut(TaskEvent) + Send>,
    /// Where figures go.
    pub metrics: Arc<TaskMetrics>,
}
