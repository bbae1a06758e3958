//! What goes into the decisions about a job and what comes out.

use std::{collections::BTreeSet, fmt};

use proto::{
    control::{SourceSplits, TaskSpec, WorkerEventKind},
    log::LogObject,
    running::JobPart,
    types::{Epoch, Generation, SinkId, WorkerId},
};
use serde::{Deserialize, Serialize};

use crate::place::{Parallelism, Routing};

/// Something happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The user wants the job to run.
    Submitted,
    /// It was running when this leader began to lead: whether that runs on, workers tell.
    TakenOver,
    /// A worker has come, and has told what it runs of the job.
    Told {
        /// Who.
        worker: WorkerId,
        /// What; `None`: nothing.
        part: Option<Box<JobPart>>,
    },
    /// The user wants it to end.
    CancelRequested,
    /// The user wants it to end with a last checkpoint. With `drain`, its sources end first.
    StopRequested {
        /// Whether sources end first.
        drain: bool,
    },
    /// A user wants a checkpoint that others can begin with: one whose barrier overtakes nothing.
    AlignedWanted,
    /// The user wants a job in quarantine to run again.
    Resumed,
    /// These workers are there, and no others.
    Workers(BTreeSet<WorkerId>),
    /// Those of them that want to leave and are to have no tasks.
    Leaving(BTreeSet<WorkerId>),
    /// The user, or the autoscaler, wants these numbers of tasks, which fit the plan.
    RescaleRequested(Parallelism),
    /// The metadata have noted that the routing changes with the epoch.
    RoutingRecorded {
        /// The generation.
        generation: Generation,
        /// The epoch.
        epoch: Epoch,
    },
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
        /// Epoch to restore from; zero: all sources are asked, else those that its state does not know.
        restored: Epoch,
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
        /// Whether its barrier has overtaken anything: the routing has the tasks that saved that.
        has_overtaken: bool,
        /// All tasks of the job, and where they run.
        routing: Routing,
        /// What the sources can read, if it was asked for.
        splits: Option<Vec<SourceSplits>>,
    },
    /// Have workers make ready for another routing; each answers `Prepared` or `NotPrepared`.
    Prepare {
        /// The generation.
        generation: Generation,
        /// The last committed epoch.
        restored: Epoch,
        /// The routing.
        routing: Routing,
        /// All that have tasks now or will have.
        workers: BTreeSet<WorkerId>,
    },
    /// Tell workers that the routing is given up for which they have made ready.
    KeepRouting {
        /// The generation.
        generation: Generation,
        /// Number of the routing.
        routing: u32,
    },
    /// Have the metadata note that the routing changes with the epoch; answered by
    /// [`Event::RoutingRecorded`].
    RecordRouting {
        /// The generation.
        generation: Generation,
        /// The epoch, which has not begun.
        epoch: Epoch,
        /// The routing after it.
        routing: Routing,
    },
    /// A change of the numbers of tasks was given up: have the metadata forget that it was wanted.
    RescaleFailed {
        /// Why, for people.
        error: String,
        /// The numbers that there are.
        parallelism: Parallelism,
    },
    /// Have the sources end an epoch. This and all that follows goes to every worker of the
    /// generation ([`crate::Job::deployed`]).
    SendBarrier {
        /// The generation.
        generation: Generation,
        /// The epoch that ends.
        epoch: Epoch,
        /// The routing in force after it.
        routing: u32,
        /// It overtakes nothing.
        aligned: bool,
    },
    /// Have the sources read no more: a last barrier follows, or, with `drain`, the end of all tasks.
    StopSources {
        /// The generation.
        generation: Generation,
        /// Whether they have ended.
        drain: bool,
    },
    /// Commit in the state store; answered by [`Event::EpochCommitted`].
    Commit {
        /// The generation.
        generation: Generation,
        /// The epoch, of which all sections are staged.
        epoch: Epoch,
        /// What holds them.
        objects: Vec<LogObject>,
        /// Bytes in them of what the barrier has overtaken.
        overtaken_bytes: u64,
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
    /// Stop all tasks, which a new generation follows: what they hold of the last commit stays where it
    /// is.
    Suspend,
    /// Stop what is left on workers that have no place in the routing any more.
    StopAt {
        /// Who.
        workers: BTreeSet<WorkerId>,
    },
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
    /// Given up for now: nothing of it runs, its state stays until its user resumes or cancels it.
    Quarantined,
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
            JobState::Quarantined => "QUARANTINED",
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
