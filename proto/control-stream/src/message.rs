//! What is said on control streams.

use std::collections::BTreeMap;

use proto::{
    control::{JobMetrics, WorkerCommand, WorkerEvent},
    running::JobPart,
    state_control::{JobReferences, StateOrder, StateReport},
    types::{JobId, KeyGroupCount, ShardId, StateNodeId},
};
use serde::{Deserialize, Serialize};

/// Version of these messages; both sides must speak the same.
pub const VERSION: u32 = 3;

/// What a process says to the control plane.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Say<T> {
    /// Who it is: first, and only then.
    Hello(Hello),
    /// It is still there.
    Beat,
    /// Something of its kind.
    Item(T),
}

/// What the control plane says to a process.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hear<T> {
    /// The leader has taken the stream.
    Welcome(Welcome),
    /// This node does not lead. The stream ends.
    NotLeader {
        /// The address of the node that does, if known.
        leader: Option<String>,
    },
    /// The process is not wanted. The stream ends.
    Refused {
        /// Why, for people.
        why: String,
        /// Whether asking again may help.
        retry: bool,
    },
    /// The leader is still there.
    Beat,
    /// Something of its kind.
    Item(T),
}

/// Who opens a stream.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`] of who speaks.
    pub version: u32,
    /// Name of the cluster that it was started for.
    pub cluster: String,
    /// Number of a state node, the same at every start; of a worker, another one for every stream.
    pub id: u64,
    /// What a worker was called before, if it still runs tasks by that name.
    pub former: Option<FormerId>,
    /// Tells the process from every other, also from the one before it at the same place.
    pub process: u64,
    /// Where other tiers reach it, as host:port.
    pub address: String,
    /// Which store a state node has. Without it, it is only told whose the store must be.
    pub store: Option<String>,
}

/// What a worker was called on an earlier stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FormerId {
    /// The number.
    pub id: u64,
    /// [`Welcome::leadership`] of that stream.
    pub leadership: u64,
}

/// What the leader says to who is welcome.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Welcome {
    /// Tells the cluster from every other, also of the same name.
    pub cluster_id: String,
    /// What the process is called on this stream. A worker that keeps its former name goes on with what
    /// it runs; any other one begins with nothing.
    pub id: u64,
    /// Tells the leadership from every other, also of the same node.
    pub leadership: u64,
}

/// What a worker says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerSays {
    /// What it runs of a job, as it was told by an older leader. Once for each job, first of all.
    Runs(Box<JobPart>),
    /// It has told all that it runs. Nothing else is said before.
    Told,
    /// Something has happened.
    Event(WorkerEvent),
    /// It wants to leave, as soon as its tasks run elsewhere.
    Leaving,
    /// What it measures, of jobs that it runs; replaces what it said before of each of them.
    Metrics(BTreeMap<JobId, JobMetrics>),
}

/// What a worker hears.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerHears {
    /// What it is to do.
    Command(WorkerCommand),
    /// It has no tasks any more and may leave.
    Released,
    /// Who serves the job's state from now on; `None`: the job is gone.
    Owners(JobId, Option<JobOwners>),
}

/// Who serves a job's state.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobOwners {
    /// Key groups of the job.
    pub key_groups: KeyGroupCount,
    /// Shards of the job.
    pub shards: u32,
    /// By shard. One whose owner has not connected to the present leader is left out: what was known
    /// of it before still holds.
    pub owners: BTreeMap<ShardId, ShardOwner>,
}

/// The node that serves a shard.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ShardOwner {
    /// Node.
    pub node: StateNodeId,
    /// Where it answers requests, as host:port.
    pub address: String,
}

/// What a state node says.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeSays {
    /// Something has happened.
    Report(StateReport),
    /// It wants to know something.
    Ask {
        /// Tells the question from others of this stream.
        number: u64,
        /// What.
        question: Question,
    },
}

/// What a state node hears.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeHears {
    /// What it is to do.
    Order(StateOrder),
    /// What it asked.
    Answer {
        /// Of the question.
        number: u64,
        /// The answer, or why there is none.
        answer: Result<Answer, String>,
    },
}

/// What a state node wants to know as it is now, not as it was.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// Who owns a shard.
    Owner(JobId, ShardId),
    /// What a job's log is made of.
    JobReferences(JobId),
}

/// What a state node wanted to know.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Who owns the shard.
    Owner(Option<StateNodeId>),
    /// What the job's log is made of.
    JobReferences(JobReferences),
}
