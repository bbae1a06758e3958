//! What the control plane tells a state node, and what the node reports. In one process the values
//! are handed over as they are; between processes they travel on the node's control stream.
//!
//! Orders to one node are carried out in the order in which they were given; each may be given
//! again after a broken stream, and a repeated one changes nothing.

use serde::{Deserialize, Serialize};

use crate::{
    log::LogObject,
    transfer::{TransferNews, TransferOrder},
    types::{Epoch, Generation, JobId, KeyGroupCount, ShardId, SinkId, TransferId},
};

/// A committed epoch of a job and the objects of its log that hold what was staged for it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CommittedEpoch {
    /// Epoch.
    pub epoch: Epoch,
    /// Its objects.
    pub objects: Vec<LogObject>,
}

/// The databases of one line of a job, one for each shard. A job that is taken back to an older
/// checkpoint begins another line, in databases of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct JobLine {
    /// Job.
    pub job: JobId,
    /// How often the job was taken back before.
    pub line: u64,
}

/// What a flush of a shard left: a named state of its database, which others can be cloned from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ShardManifest {
    /// Whose database it is; that of the same shard.
    pub of: JobLine,
    /// It has every epoch up to this one. [`Epoch::ZERO`]: an empty database.
    pub epoch: Epoch,
}

/// A committed epoch that is in the log of another job.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InheritedEpoch {
    /// In whose log.
    pub job: JobId,
    /// The epoch.
    pub committed: CommittedEpoch,
}

/// What a shard's database is made of, as the node that has it open sees it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ShardFiles {
    /// Line of the database.
    pub line: u64,
    /// Its newest manifest; [`Epoch::ZERO`]: nothing was ever flushed.
    pub manifest: Epoch,
    /// Databases whose files it still refers to.
    pub parents: Vec<JobLine>,
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
    /// The job's line, which tells its databases.
    #[serde(default)]
    pub line: u64,
    /// What the shard's database is cloned from, should it not be there yet.
    #[serde(default)]
    pub base: Option<ShardManifest>,
    /// The newest committed epoch.
    pub committed: Epoch,
    /// Committed epochs of other jobs' logs, from which the job was made, oldest first. They all
    /// come before those of `log`.
    #[serde(default)]
    pub inherited: Vec<InheritedEpoch>,
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
    /// The job has ended, but savepoints or other jobs need some of its files: stop serving it and
    /// delete the others.
    Collect {
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
    /// Make an attempt at copying a savepoint. Given again, it is answered by what was reported last.
    Transfer(TransferOrder),
    /// Stop copying a savepoint. Answered by a report that the attempt has ended.
    StopTransfer {
        /// Which.
        transfer: TransferId,
    },
    /// What came of a transfer is written down: it need not be remembered any more.
    ForgetTransfer {
        /// Which.
        transfer: TransferId,
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
        /// What its database is made of.
        #[serde(default)]
        files: ShardFiles,
    },
    /// The shard needs no log up to the epoch any more.
    Durable {
        /// Job.
        job: JobId,
        /// Shard.
        shard: ShardId,
        /// Epoch.
        epoch: Epoch,
        /// What its database is made of.
        #[serde(default)]
        files: ShardFiles,
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
    /// How far an attempt at copying a savepoint is.
    Transfer {
        /// Which.
        transfer: TransferId,
        /// The attempt.
        attempt: u64,
        /// What there is to say.
        news: TransferNews,
    },
    /// The object store does not answer as it should; `None`: it does again.
    Degraded {
        /// What fails, for people.
        why: Option<String>,
    },
}

/// What of a job's files anything needs, as the control plane knows it: asked for after files were
/// listed, so that whatever is listed, neither needed by this nor still to be committed, is garbage.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct JobReferences {
    /// Current generation: what older ones staged and did not commit never will be.
    pub generation: Generation,
    /// The newest committed epoch.
    pub committed: Epoch,
    /// The job has ended: nothing will be committed any more.
    #[serde(default)]
    pub ended: bool,
    /// Names of all objects of its log that anything still needs.
    pub objects: Vec<String>,
    /// Databases that anything needs, or may be made.
    #[serde(default)]
    pub databases: Vec<DatabaseReference>,
}

/// A database that something needs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DatabaseReference {
    /// The job's line.
    pub line: u64,
    /// Shard.
    pub shard: ShardId,
    /// Its manifests that something needs, oldest first. Newer ones than the last of them the
    /// control plane may only not have heard of.
    pub manifests: Vec<Epoch>,
}

impl JobReferences {
    /// The needed manifests of a database; `None`: nothing needs the database.
    #[must_use]
    pub fn manifests(&self, line: u64, shard: ShardId) -> Option<&[Epoch]> {
        let is_it =
            |database: &&DatabaseReference| (database.line, database.shard) == (line, shard);
        let database = self.databases.iter().find(is_it)?;
        Some(&database.manifests)
    }
}
