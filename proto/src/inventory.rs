//! Which files of the store anything needs, and what for: what a check compares the store with.

use serde::{Deserialize, Serialize};

use crate::{
    log::LogObject,
    types::{Epoch, Generation, JobId, ShardId},
};

/// Every file that anything needs, as the metadata have it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Inventory {
    /// The cluster's name among all others.
    pub cluster: String,
    /// The highest number that a job has had.
    pub last_job: u64,
    /// Jobs of which there may be files.
    pub jobs: Vec<JobInventory>,
}

/// What of a job's files anything needs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobInventory {
    /// The job.
    pub job: JobId,
    /// Current generation.
    pub generation: Generation,
    /// The last committed epoch.
    pub committed: Epoch,
    /// Whether it has ended.
    pub ended: bool,
    /// Whether state is being copied in, which writes files by itself.
    pub importing: bool,
    /// Objects of its log.
    pub objects: Vec<HeldObject>,
    /// Databases of its shards.
    pub databases: Vec<HeldDatabase>,
}

/// An object of a log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HeldObject {
    /// The object.
    pub object: LogObject,
    /// What needs it, for people.
    pub by: Vec<String>,
}

/// A database of a shard.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HeldDatabase {
    /// Line of the job.
    pub line: u64,
    /// Shard.
    pub shard: ShardId,
    /// Whether the job works in it, so that its newest state is needed, if it is there yet.
    pub current: bool,
    /// States of it that are needed, by the epochs of flushes, oldest first.
    pub manifests: Vec<HeldManifest>,
}

/// A state of a database.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HeldManifest {
    /// Epoch of the flush that left it.
    pub epoch: Epoch,
    /// What needs it, for people.
    pub by: Vec<String>,
}
