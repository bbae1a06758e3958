//! What the control plane tells a state node, and what the node reports. In one process the values
//! are handed over as they are; between processes they travel on the node's control stream.
//!
//! Orders to one node are carried out in the order in which they were given; each may be given
//! again after a broken stream, and a repeated one changes nothing.

use serde::{Deserialize, Serialize};

use crate::{
    log::LogObject,
    types::{Epoch, Generation, JobId, KeyGroupCount, ShardId, SinkId},
};

/// A committed epoch of a job and the objects of its log that hold what was staged for it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CommittedEpoch {
    /// Epoch.
    pub epoch: Epoch,
    /// Its objects.
    pub objects: Vec<LogObject>,
}

/// A shard that a node is to serve.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OpenShard {
    /// Job.
    pub job: JobId,
    /// Shard, which the node owns from now on.
    pub shard: ShardId,
    /// How often the shard was given to a node, this time included. A node that has the shard open
    /// since an earlier time was not its only owner meanwhile: it opens it anew.
    #[serde(default)]
    pub ownership: u64,
    /// Generation of the job.
    pub generation: Generation,
    /// Key groups of the job.
    pub key_groups: KeyGroupCount,
    /// Shards of the job.
    pub shards: u32,
    /// The newest committed epoch.
    pub committed: Epoch,
    /// Committed epochs whose rows the shard may lack, oldest first: at least all after the last
    /// epoch that any owner reported durable.
    pub log: Vec<CommittedEpoch>,
    /// Committed output that is not published yet, oldest first. Only for the owner of the job's
    /// first shard, who serves it; else empty. What single sinks have published of it is told by
    /// [`StateOrder::Published`] after this.
    pub output: Vec<CommittedEpoch>,
}

/// What the control plane tells a state node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateOrder {
    /// Serve a shard. Given again with a newer generation when the job starts anew: what older
    /// generations staged and did not commit is then dropped, and they are fenced.
    Open(OpenShard),
    /// An epoch is committed: it becomes visible in every shard of the job that the node serves.
    Committed {
        /// Job.
        job: JobId,
        /// Generation that made it.
        generation: Generation,
        /// The epoch that was committed before it.
        previous: Epoch,
        /// Epoch and what it consists of.
        committed: CommittedEpoch,
        /// W3C trace context of the checkpoint.
        traceparent: Option<String>,
    },
    /// Output of the sink up to the epoch is outside.
    Published {
        /// Job.
        job: JobId,
        /// Sink.
        sink: SinkId,
        /// Epoch.
        epoch: Epoch,
    },
    /// The shard belongs to another node: stop serving it.
    Close {
        /// Job.
        job: JobId,
        /// Shard.
        shard: ShardId,
    },
    /// The job is gone: stop serving it and delete all its files. Answered by
    /// [`StateReport::Dropped`].
    Drop {
        /// Job.
        job: JobId,
        /// Shards of the job.
        shards: u32,
    },
    /// Nothing needs these objects of the job's log any more: delete them.
    Trim {
        /// Job.
        job: JobId,
        /// Their names.
        objects: Vec<String>,
    },
}

/// What a state node reports.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateReport {
    /// The shard is served, with every epoch up to `applied`.
    Opened {
        /// Job.
        job: JobId,
        /// Shard.
        shard: ShardId,
        /// Generation that it serves.
        generation: Generation,
        /// Newest epoch that reads see.
        applied: Epoch,
        /// Newest epoch that needs no log any more.
        durable: Epoch,
    },
    /// The shard needs no log up to the epoch any more.
    Durable {
        /// Job.
        job: JobId,
        /// Shard.
        shard: ShardId,
        /// Epoch.
        epoch: Epoch,
    },
    /// The shard is not served.
    Failed {
        /// Job.
        job: JobId,
        /// Shard.
        shard: ShardId,
        /// Why, for people.
        error: String,
        /// Whether the node tries again by itself. Else the shard waits for an [`OpenShard`]:
        /// another node has opened it, or what is stored is damaged.
        retryable: bool,
    },
    /// No file of the job is left.
    Dropped {
        /// Job.
        job: JobId,
    },
    /// The object store does not answer as it should; `None`: it does again.
    Degraded {
        /// What fails, for people.
        why: Option<String>,
    },
}

/// What the job's epoch log is made of, as the control plane knows it: asked for after the log was
/// listed, so that whatever is listed, neither referenced here nor still to be committed, is garbage.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct LogReferences {
    /// Current generation: what older ones staged and did not commit never will be.
    pub generation: Generation,
    /// The newest committed epoch.
    pub committed: Epoch,
    /// Names of all objects that anything still needs.
    pub objects: Vec<String>,
}
