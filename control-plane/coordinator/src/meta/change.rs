//! What can happen to the metadata, and what the one who wanted it is told.

use std::collections::BTreeMap;

use proto::{
    log::LogObject,
    policy::AutoscalePolicy,
    state_control::ShardFiles,
    transfer::Exported,
    types::{Epoch, Generation, JobId, ShardId, SinkId, StateNodeId, TransferId},
};
use serde::{Deserialize, Serialize};

use super::{JobSpec, Outcome, RestoreAt, Stop, TransferEnd, TransferSpec, UpgradeMode};
use crate::{
    caps::{SAVEPOINTS_MAX, TRANSFERS_MAX},
    place::{Parallelism, Routing},
};

/// One entry of the log. A proposal whose fate is unknown may be made again under the same id: it
/// is applied once.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Command {
    /// Drawn at random by whoever wants the change.
    pub request: u64,
    /// The change.
    pub change: Change,
}

/// A change of the metadata.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Gives the cluster its name among all others, unless it has one.
    Found {
        /// The name, drawn at random.
        cluster_id: String,
    },
    /// Binds the cluster to the store that its state is in, unless it is bound to one.
    Bind {
        /// Tells the store from every other.
        store_id: String,
    },
    /// A script was accepted: the catalog as it is after it, and its jobs. All of it counts or
    /// nothing.
    Accept {
        /// Version of the catalog that the script was planned against, if it matters.
        catalog: Option<u64>,
        /// The statements of the new catalog; `None`: the script did not change it.
        statements: Option<Vec<String>>,
        /// Jobs that it starts.
        jobs: Vec<JobSpec>,
        /// When, in ms since 1970.
        now_ms: u64,
        /// Random; makes the jobs' [`super::JobRecord::run`].
        seed: u64,
    },
    /// The user wants the job to end.
    Cancel {
        /// Job.
        job: JobId,
    },
    /// The user wants the job's parallelism to follow its load within these bounds, or not at all.
    Autoscale {
        /// Job.
        job: JobId,
        /// Within what.
        policy: Option<AutoscalePolicy>,
    },
    /// The user wants the job to end with a last checkpoint.
    Stop {
        /// Job.
        job: JobId,
        /// How.
        stop: Stop,
    },
    /// The user wants another statement to take the job's place.
    Upgrade {
        /// Job.
        job: JobId,
        /// Version of the catalog that the statement was planned against.
        catalog: Option<u64>,
        /// The statements of the new catalog; `None`: it stays.
        statements: Option<Vec<String>>,
        /// What the other one begins with.
        mode: UpgradeMode,
        /// Name of the savepoint that is made for it.
        savepoint: Option<String>,
        /// What is to run.
        spec: Box<JobSpec>,
        /// When, in ms since 1970.
        now_ms: u64,
        /// Random; makes its [`super::JobRecord::run`].
        seed: u64,
    },
    /// A state of a job gets a name, by which it is kept.
    Save {
        /// Job.
        job: JobId,
        /// Name, new among the job's.
        name: String,
        /// Which state.
        at: RestoreAt,
        /// When, in ms since 1970.
        now_ms: u64,
    },
    /// A savepoint is needed no more.
    DropSavepoint {
        /// Job.
        job: JobId,
        /// Its name.
        name: String,
    },
    /// A savepoint is to be copied to another place, or from there.
    BeginTransfer {
        /// What.
        spec: TransferSpec,
        /// When, in ms since 1970.
        now_ms: u64,
    },
    /// What is to be imported was found.
    FoundTransfer {
        /// Transfer.
        transfer: TransferId,
        /// What was found.
        found: Box<Exported>,
        /// When, in ms since 1970.
        now_ms: u64,
        /// Random; makes the job's [`super::JobRecord::run`].
        seed: u64,
    },
    /// The user wants a transfer no more.
    CancelTransfer {
        /// Transfer.
        transfer: TransferId,
    },
    /// A transfer has ended, and nobody is at it any more.
    EndTransfer {
        /// Transfer.
        transfer: TransferId,
        /// How.
        end: TransferEnd,
        /// When, in ms since 1970.
        now_ms: u64,
    },
    /// The job is not run any more until its user says so; its state stays.
    Quarantine {
        /// Job.
        job: JobId,
        /// Its last failure.
        error: String,
        /// When, in ms since 1970.
        at_ms: u64,
    },
    /// A job in quarantine is run again, from its newest state or an older one.
    Resume {
        /// Job.
        job: JobId,
        /// Which state.
        at: RestoreAt,
    },
    /// A new generation of a job begins. Fixes the epoch from which it starts: what the older one
    /// commits from now on is refused.
    Begin {
        /// Job.
        job: JobId,
        /// The generation after the current one.
        generation: Generation,
    },
    /// All tasks have staged the epoch. This entry is the commit.
    Commit {
        /// Job.
        job: JobId,
        /// Generation that made it.
        generation: Generation,
        /// The epoch that the one who asks takes for the last committed one.
        previous: Epoch,
        /// Epoch.
        epoch: Epoch,
        /// What holds its sections and output.
        objects: Vec<LogObject>,
        /// Bytes in them of what its barrier has overtaken.
        #[serde(default)]
        overtaken_bytes: u64,
        /// Output that is outside by now.
        published: BTreeMap<SinkId, Epoch>,
    },
    /// The routing changes with an epoch that has not begun.
    Reroute {
        /// Job.
        job: JobId,
        /// Generation that is to change.
        generation: Generation,
        /// The epoch whose barrier carries it.
        epoch: Epoch,
        /// The routing after it.
        routing: Routing,
    },
    /// So many tasks are wanted.
    Rescale {
        /// Job.
        job: JobId,
        /// How many.
        parallelism: Parallelism,
        /// Whether they are to stay, whatever the load.
        fixed: bool,
    },
    /// Output is outside, and no commit is near to carry the news.
    Published {
        /// Job.
        job: JobId,
        /// Up to which epoch, by sink.
        published: BTreeMap<SinkId, Epoch>,
    },
    /// A shard needs no log up to the epoch any more.
    Durable {
        /// Job.
        job: JobId,
        /// By shard.
        durable: BTreeMap<ShardId, Epoch>,
        /// What databases are made of, by shard.
        #[serde(default)]
        files: BTreeMap<ShardId, ShardFiles>,
    },
    /// Shards belong to these state nodes from now on.
    Own {
        /// Job.
        job: JobId,
        /// Owners by shard.
        owners: BTreeMap<ShardId, StateNodeId>,
    },
    /// The job is over.
    End {
        /// Job.
        job: JobId,
        /// How it ended.
        outcome: Outcome,
    },
    /// No file of the job is left.
    Dropped {
        /// Job.
        job: JobId,
    },
    /// The user wants to hear no more of an ended job. It is forgotten when its files are gone.
    Forget {
        /// Job.
        job: JobId,
    },
    /// The same of several, all or none: what is known of a script must not be half of it.
    ForgetAll {
        /// Jobs that have ended.
        jobs: Vec<JobId>,
    },
}

/// What a change gave.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is done.
    Done,
    /// This is the cluster's name among all others.
    Founded {
        /// The name that was drawn first.
        cluster_id: String,
    },
    /// This is the store that the cluster's state is in.
    Bound {
        /// Tells the store from every other.
        store_id: String,
    },
    /// The script counts.
    Accepted {
        /// Its jobs, in order.
        jobs: Vec<JobId>,
    },
    /// The generation has begun.
    Begun {
        /// The last committed epoch, from which it starts.
        restored: Epoch,
        /// The first epoch that it may use.
        first: Epoch,
    },
    /// The job is being replaced, or was.
    Upgraded {
        /// By this one; `None`: it has not ended yet.
        successor: Option<JobId>,
    },
    /// It is over, and this job goes on with its state.
    Succeeded {
        /// The job.
        by: JobId,
    },
    /// The savepoint is made.
    Saved {
        /// Of this epoch.
        epoch: Epoch,
    },
    /// This is the transfer.
    Transfer {
        /// Its number.
        id: TransferId,
    },
    /// What is imported becomes the state of this job.
    Importing {
        /// The job.
        job: JobId,
    },
    /// The job may be run again.
    Resumed {
        /// From this epoch.
        epoch: Epoch,
        /// Objects of its log that are needed no more.
        objects: Vec<String>,
    },
    /// These objects of the job's log are needed no more.
    Trimmed {
        /// Their names.
        objects: Vec<String>,
    },
    /// It cannot be; nothing has changed.
    Refused(Refusal),
}

/// Why a change was refused.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// There is no such job.
    #[error("{0} does not exist")]
    UnknownJob(JobId),
    /// The job is over.
    #[error("{0} has ended")]
    Ended(JobId),
    /// It has not.
    #[error("{0} has not ended")]
    NotEnded(JobId),
    /// A newer generation of the job has begun.
    #[error("generation {asked} of {job} was replaced by {current}")]
    Fenced {
        /// Job.
        job: JobId,
        /// Generation that asked.
        asked: Generation,
        /// Generation in force.
        current: Generation,
    },
    /// Another epoch is the last committed one.
    #[error("epoch {epoch} of {job} does not follow {committed}")]
    OutOfOrder {
        /// Job.
        job: JobId,
        /// The epoch that was to be committed.
        epoch: Epoch,
        /// The last committed one.
        committed: Epoch,
    },
    /// Another script came first.
    #[error("the catalog has changed meanwhile (version {0})")]
    CatalogMoved(u64),
    /// There is no state to go on with.
    #[error("{0} has no checkpoint yet: wait for its first one")]
    NoCheckpoint(JobId),
    /// It has ended, and only its savepoints were kept.
    #[error("{0} has ended, and no checkpoint of it was kept: name one of its savepoints")]
    NothingKept(JobId),
    /// The state is not kept, or never was.
    #[error("checkpoint {epoch} of {job} cannot be restored: {}", kept(*.range))]
    NotRestorable {
        /// Job.
        job: JobId,
        /// Epoch.
        epoch: Epoch,
        /// The oldest and the newest one that can.
        range: Option<(Epoch, Epoch)>,
    },
    /// Only the job's own tasks can go on with the state, for rows were on their way between them.
    #[error(
        "checkpoint {epoch} of {job} has rows that its barrier overtook, and only the job itself can go on \
         with those: take an older checkpoint, or make a savepoint while the job runs"
    )]
    Overtaken {
        /// Job.
        job: JobId,
        /// Epoch.
        epoch: Epoch,
    },
    /// There is no such savepoint.
    #[error("{job} has no savepoint `{name}`")]
    UnknownSavepoint {
        /// Job.
        job: JobId,
        /// Name.
        name: String,
    },
    /// There is one of this name.
    #[error("{job} has a savepoint `{name}` already: choose another name, or delete it")]
    SavepointExists {
        /// Job.
        job: JobId,
        /// Name.
        name: String,
    },
    /// There are enough.
    #[error("{0} has {SAVEPOINTS_MAX} savepoints, which is the most: delete some")]
    TooManySavepoints(JobId),
    /// A copy of the savepoint is being made.
    #[error(
        "savepoint `{name}` of {job} is being exported by {transfer}: wait for it, or cancel it"
    )]
    Exporting {
        /// Job.
        job: JobId,
        /// Name of the savepoint.
        name: String,
        /// The export.
        transfer: TransferId,
    },
    /// There is no such transfer.
    #[error("{0} does not exist")]
    UnknownTransfer(TransferId),
    /// It is over.
    #[error("{0} has ended")]
    TransferEnded(TransferId),
    /// There are enough.
    #[error(
        "{TRANSFERS_MAX} exports and imports are under way, which is the most: wait for one to end"
    )]
    TooManyTransfers,
    /// What was exported is of no use here.
    #[error("what was exported cannot be used here: {why}")]
    NotImportable {
        /// Why.
        why: String,
    },
    /// Its savepoints would go with it.
    #[error("{0} has savepoints: delete them first")]
    HasSavepoints(JobId),
    /// Something else still needs some of its files.
    #[error("files of {0} are needed by other jobs")]
    Held(JobId),
    /// Its rows are for whoever reads them; state without them is of no use.
    #[error("{0} is a SELECT: its state cannot be kept, nor another job be made from it")]
    IsSelect(JobId),
    /// It is on its way to its end already.
    #[error("{0} is being stopped or cancelled")]
    Stopping(JobId),
    /// Nothing of it runs.
    #[error("{0} is in quarantine: resume it first, or cancel it")]
    Quarantined(JobId),
    /// It runs.
    #[error("{0} is not in quarantine")]
    NotQuarantined(JobId),
    /// State is cut in another way than the job would have it.
    #[error(
        "the state of {job} is cut into {key_groups} key groups and {shards} shards, and the new job \
         would cut it otherwise: both are fixed for as long as state is kept"
    )]
    OtherCut {
        /// The job whose state it is.
        job: JobId,
        /// Its key groups.
        key_groups: u32,
        /// Its shards.
        shards: u32,
    },
    /// There are enough jobs.
    #[error("the statements start {new} jobs and {active} are running: there can be at most {max}")]
    TooManyJobs {
        /// Jobs of the script.
        new: usize,
        /// Jobs that have not ended.
        active: usize,
        /// The limit.
        max: usize,
    },
}

fn kept(range: Option<(Epoch, Epoch)>) -> String {
    match range {
        Some((oldest, newest)) => {
            format!("those that are kept are from {oldest} to {newest}, see its checkpoints")
        }
        None => "none is kept yet".to_owned(),
    }
}
