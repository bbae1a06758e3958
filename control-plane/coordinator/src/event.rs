//! What goes into the decisions about a job and what comes out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use proto::{
    control::{SourceSplits, TaskSpec, WorkerEventKind},
    log::LogObject,
    types::{Epoch, Generation, SinkId, TaskId, WorkerId},
};
use serde::{Deserialize, Serialize};

/// Something happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The user wants the job to run.
    Submitted,
    /// The user wants it to end.
    CancelRequested,
    /// These workers are there, and no others.
    Workers(BTreeSet<WorkerId>),
    /// A worker reports.
    Worker {
        /// Who.
        worker: WorkerId,
        /// The generation that it is about.
        generation: Generation,
        /// What.
        kind: WorkerEventKind,
    },
    /// The state store has begun a generation; older ones are fenced.
    StateBegun {
        /// The generation.
        generation: Generation,
        /// The last committed epoch.
        restored: Epoch,
        /// The first epoch that the generation may use.
        first: Epoch,
    },
    /// The state store has committed an epoch.
    EpochCommitted {
        /// The generation that asked.
        generation: Generation,
        /// The epoch.
        epoch: Epoch,
    },
    /// The state store refused or did not answer; whether the request took effect is unknown.
    StateFailed {
        /// The generation that asked.
        generation: Generation,
        /// Why, for people.
        error: String,
        /// Whether a new generation may fare better.
        retryable: bool,
    },
    /// Time has passed; due at [`crate::Job::wake_at_us`].
    Tick,
}

/// Something to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Fence older generations in the state store; answered by [`Event::StateBegun`].
    BeginGeneration {
        /// The new generation.
        generation: Generation,
    },
    /// Have a worker find out what the sources can read; answered by its `SplitsListed`.
    ListSplits {
        /// The generation.
        generation: Generation,
        /// Who.
        worker: WorkerId,
        /// All tasks of the job.
        tasks: Vec<TaskSpec>,
    },
    /// Have workers run the tasks.
    Deploy {
        /// The generation.
        generation: Generation,
        /// Epoch to restore from.
        restored: Epoch,
        /// All tasks of the job.
        tasks: Vec<TaskSpec>,
        /// The worker of each.
        place: BTreeMap<TaskId, WorkerId>,
        /// What the sources can read, if it was asked for.
        splits: Option<Vec<SourceSplits>>,
    },
    /// Have the sources end an epoch. This and all that follows goes to every worker of the
    /// generation ([`crate::Job::deployed`]).
    SendBarrier {
        /// The generation.
        generation: Generation,
        /// The epoch that ends.
        epoch: Epoch,
    },
    /// Commit in the state store; answered by [`Event::EpochCommitted`].
    Commit {
        /// The generation.
        generation: Generation,
        /// The epoch, of which all sections are staged.
        epoch: Epoch,
        /// What holds them.
        objects: Vec<LogObject>,
    },
    /// Tell the tasks that an epoch is committed.
    SendCommitted {
        /// The generation.
        generation: Generation,
        /// The epoch.
        epoch: Epoch,
    },
    /// Tell the state store that output is outside and may be forgotten.
    RecordPublished {
        /// The generation.
        generation: Generation,
        /// The sink.
        sink: SinkId,
        /// Up to and including this epoch.
        epoch: Epoch,
    },
    /// Stop all tasks; answered by each worker's `Stopped`.
    Stop,
    /// Forget the job's state: it has ended.
    DropState,
    /// The state that users see has changed.
    ReportState(JobState),
}

/// A job's state as users see it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum JobState {
    /// Accepted, nothing done yet.
    Created,
    /// Tasks are being restored.
    Starting,
    /// Rows flow.
    Running,
    /// All input is read; the last output is being published.
    Finishing,
    /// Waits after a failure before it starts again.
    Restarting,
    /// Tasks are being stopped on request.
    Canceling,
    /// All input was read and all output is outside.
    Finished,
    /// Given up.
    Failed,
    /// Ended on request.
    Canceled,
}

impl JobState {
    /// Whether nothing follows.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            JobState::Finished | JobState::Failed | JobState::Canceled
        )
    }

    /// The name in the API: `RUNNING`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            JobState::Created => "CREATED",
            JobState::Starting => "STARTING",
            JobState::Running => "RUNNING",
            JobState::Finishing => "FINISHING",
            JobState::Restarting => "RESTARTING",
            JobState::Canceling => "CANCELING",
            JobState::Finished => "FINISHED",
            JobState::Failed => "FAILED",
            JobState::Canceled => "CANCELED",
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
