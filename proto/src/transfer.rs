//! Copies of savepoints on their way out of a store, or into one: what a state node is told to do,
//! and what it says about it. One attempt at a transfer is made at a time, by one node.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    state_control::{InheritedEpoch, ShardManifest},
    types::{Epoch, JobId, KeyGroupCount, ShardId, TransferId},
};

/// An attempt at a transfer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TransferOrder {
    /// The transfer.
    pub transfer: TransferId,
    /// Tells the attempt from every other one.
    pub attempt: u64,
    /// What is to be done.
    pub work: TransferWork,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferWork {
    /// Copy a savepoint out of the store.
    Export(Box<ExportWork>),
    /// Find out what was exported there, and whether all of it is there.
    Inspect {
        /// URL.
        from: String,
    },
    /// Copy what was exported into the store.
    Import(ImportWork),
}

/// A savepoint that is copied out of the store.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ExportWork {
    /// URL of the place for the copy.
    pub to: String,
    /// What it is a copy of.
    pub source: ExportSource,
    /// How its state is cut.
    pub shape: StateShape,
    /// Where each shard begins.
    pub manifests: BTreeMap<ShardId, ShardManifest>,
    /// The rows after that, oldest first.
    pub log: Vec<InheritedEpoch>,
    /// The job's description, as JSON. It goes along as it is.
    pub job: String,
}

/// What a copy is of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ExportSource {
    /// The cluster's name among all others.
    pub cluster: String,
    /// Job.
    pub job: JobId,
    /// Tells the job from every job of every cluster.
    pub run: u64,
    /// Name of the savepoint.
    pub savepoint: String,
    /// When the savepoint was made, in ms since 1970.
    pub created_ms: u64,
    /// When the job's sources began, in ms since 1970.
    pub sources_since_ms: u64,
}

/// How state is cut, and as of when it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StateShape {
    /// Key groups.
    pub key_groups: KeyGroupCount,
    /// Shards.
    pub shards: u32,
    /// It has every epoch up to this one.
    pub epoch: Epoch,
}

/// What was exported.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Exported {
    /// What it is a copy of.
    pub source: ExportSource,
    /// How its state is cut.
    pub shape: StateShape,
    /// The job's description, as JSON.
    pub job: String,
    /// Bytes of its files.
    pub bytes: u64,
    /// Checksum of its list of files.
    pub checksum: u32,
}

/// What was exported is copied into the store.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ImportWork {
    /// URL.
    pub from: String,
    /// Whose databases it becomes.
    pub job: JobId,
    /// How its state is cut.
    pub shape: StateShape,
    /// Checksum of the list of files that was found there.
    pub checksum: u32,
}

/// What a node says about an attempt.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferNews {
    /// So many bytes of so many are copied; nothing stands in the way.
    Copied {
        /// Bytes.
        bytes: u64,
        /// As far as can be known before.
        total: u64,
    },
    /// This is what was exported there, and it is whole.
    Found(Box<Exported>),
    /// All is copied.
    Done {
        /// Bytes.
        bytes: u64,
    },
    /// It cannot be done, or not now: why, for people.
    Failed {
        /// Why, and what to do.
        error: String,
    },
    /// It was stopped, as was asked for.
    Stopped,
}
