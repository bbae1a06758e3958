//! What a job can be restored from: for each shard a manifest, and the rows that came after it.

use std::collections::BTreeMap;

use proto::{
    log::{LogHolding, LogObject},
    state_control::{CommittedEpoch, InheritedEpoch, ShardManifest},
    types::{Epoch, JobId, ShardId},
};
use serde::{Deserialize, Serialize};

/// Objects with rows of one epoch, and the job in whose log they are.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LoggedObjects {
    /// Job.
    pub job: JobId,
    /// Objects.
    pub objects: Vec<LogObject>,
}

/// All that a committed epoch consists of. It names files, so it is worth something only as long
/// as somebody holds it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RestorePoint {
    /// The epoch.
    pub epoch: Epoch,
    /// Where each shard begins: no later than the epoch.
    pub shards: BTreeMap<ShardId, ShardManifest>,
    /// The rows between there and the epoch.
    pub log: BTreeMap<Epoch, LoggedObjects>,
}

impl RestorePoint {
    /// The rows after the manifests, oldest first.
    #[must_use]
    pub fn logged(&self) -> Vec<InheritedEpoch> {
        let logged = self.log.iter().map(|(epoch, logged)| InheritedEpoch {
            job: logged.job,
            committed: CommittedEpoch {
                epoch: *epoch,
                objects: logged.objects.clone(),
            },
        });
        logged.collect()
    }

    /// Whether an object of an epoch has rows that some manifest lacks.
    pub(super) fn needs(
        shards: &BTreeMap<ShardId, ShardManifest>,
        epoch: Epoch,
        object: &LogObject,
    ) -> bool {
        let lacks = |shard: &ShardId| shards.get(shard).is_none_or(|begin| begin.epoch < epoch);
        match &object.holds {
            LogHolding::Rows(of) => of.iter().any(lacks),
            LogHolding::Output(_) => false,
        }
    }
}

/// A committed epoch that a user has named. It is kept until the user drops it, whatever becomes
/// of its job.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Savepoint {
    /// When it was made, in ms since 1970.
    pub created_ms: u64,
    /// What it keeps.
    pub point: RestorePoint,
}

/// Which state of a job is meant.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestoreAt {
    /// That of the last committed epoch.
    Newest,
    /// That of a committed epoch that is still kept.
    Checkpoint(Epoch),
    /// That of a savepoint.
    Savepoint(String),
}

/// What a new job is to begin with.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OriginSpec {
    /// The job whose state it is.
    pub job: JobId,
    /// Which one.
    pub at: RestoreAt,
}

/// What a job has begun with.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Origin {
    /// The job whose state it was.
    pub job: JobId,
    /// The savepoint, if it was one.
    pub savepoint: Option<String>,
    /// The epoch, of that job.
    pub epoch: Epoch,
    /// When the first job of this ancestry was created, in ms since 1970: what its sources made of
    /// that, the new job's go on with.
    pub created_ms: u64,
}

/// Why a job that had committed something is not run any more, until its user says so.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Quarantine {
    /// Its last failure.
    pub error: String,
    /// When it was given up, in ms since 1970.
    pub at_ms: u64,
}
