//! What the epoch log consists of: the objects that a checkpoint commits.

use serde::{Deserialize, Serialize};

use crate::types::{ShardId, SinkId};

/// One object of a job's epoch log. A checkpoint is the list of those that hold its sections.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct LogObject {
    /// Its name below the job's log; never used twice.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// What it holds.
    pub holds: LogHolding,
}

/// What an object of the epoch log holds, and so, what it is kept for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogHolding {
    /// Changed rows of these shards; kept until each has them in its LSM.
    Rows(Vec<ShardId>),
    /// Output of these sinks; kept until each has published it.
    Output(Vec<SinkId>),
}
