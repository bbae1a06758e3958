//! The contract of the state service.

use bytes::Bytes;
use futures::future::BoxFuture;
use proto::{
    log::LogObject,
    types::{Epoch, Generation, JobId, SinkId},
};

use crate::{CountReply, EpochDelta, ReadReply, ReadRequest, ScanReply, ScanRequest, StateError};

/// Who asks: one incarnation of a job. Every request carries it; an older one than the store has
/// seen is refused with [`StateError::Fenced`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Incarnation {
    /// Job.
    pub job: JobId,
    /// Its generation.
    pub generation: Generation,
}

/// What tasks do with state. Reads answer from committed epochs only; what is staged becomes
/// visible when the control plane says so ([`StateControl::commit`]).
///
/// Every future must make progress by itself once polled and may be dropped at any time.
pub trait StateStore: Send + Sync {
    /// Rows of keys.
    fn read(
        &self,
        who: Incarnation,
        request: ReadRequest,
    ) -> BoxFuture<'static, Result<ReadReply, StateError>>;

    /// Rows of a key group.
    fn scan(
        &self,
        who: Incarnation,
        request: ScanRequest,
    ) -> BoxFuture<'static, Result<ScanReply, StateError>>;

    /// What the rows of a scan amount to, for who does not want them themselves.
    fn count(
        &self,
        who: Incarnation,
        request: ScanRequest,
    ) -> BoxFuture<'static, Result<CountReply, StateError>> {
        let scanned = self.scan(who, request);
        Box::pin(async move { scanned.await.map(CountReply::from) })
    }

    /// Makes a delta durable, to be committed with its epoch; answers the objects of the epoch log
    /// that hold it, none if it is empty. Staging the same delta again (a lost reply) is harmless,
    /// and so is staging it in parts, whole sections each: a task has one section per shard and
    /// epoch, the same whenever it is staged.
    fn stage(
        &self,
        who: Incarnation,
        delta: EpochDelta,
    ) -> BoxFuture<'static, Result<Vec<LogObject>, StateError>>;

    /// Output that was staged in committed epochs and is not published yet, oldest epoch first. One
    /// entry per (generation, epoch, slot, task).
    fn committed_output(
        &self,
        who: Incarnation,
        request: OutputRequest,
    ) -> BoxFuture<'static, Result<Vec<CommittedOutput>, StateError>>;
}

/// Which committed output is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutputRequest {
    /// Sink.
    pub sink: SinkId,
    /// Only of later epochs.
    pub after: Epoch,
    /// Up to and including this epoch, which is committed: the answer waits until the store has
    /// heard so too.
    pub up_to: Epoch,
    /// About how many bytes an answer may have. It has whole epochs, and one at least if there is
    /// any; what comes after the last of them is for the next request.
    pub bytes_max: usize,
}

/// A piece of committed output.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommittedOutput {
    /// Generation that staged it.
    pub generation: Generation,
    /// Its epoch.
    pub epoch: Epoch,
    /// Publishing slot.
    pub slot: u32,
    /// Task that made it.
    pub task: u32,
    /// The output.
    pub bytes: Bytes,
}

/// What a generation begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Begun {
    /// The last committed epoch, from which it starts.
    pub restored: Epoch,
    /// The first epoch that it may use.
    pub first: Epoch,
}

/// What is left of a job that was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dropped {
    /// Nothing: the metadata can be told so.
    Gone,
    /// Files. Whoever deletes them tells the metadata when they are gone.
    Files,
}

/// What the control plane tells the state service.
pub trait StateControl: Send + Sync {
    /// A new generation of a job begins from the last committed epoch; what older generations
    /// staged and did not commit is dropped, and they are fenced from now on.
    fn begin(&self, who: Incarnation) -> BoxFuture<'static, Result<Begun, StateError>>;

    /// Epoch `epoch` is committed: it consists of `objects`, which hold all that its tasks staged.
    /// So many bytes of that are what its barrier has overtaken: others than those tasks cannot go on
    /// with it. Idempotent.
    fn commit(
        &self,
        who: Incarnation,
        epoch: Epoch,
        objects: Vec<LogObject>,
        overtaken_bytes: u64,
    ) -> BoxFuture<'static, Result<(), StateError>>;

    /// Output of `sink` up to and including `epoch` is published and may be forgotten.
    fn published(
        &self,
        who: Incarnation,
        sink: SinkId,
        epoch: Epoch,
    ) -> BoxFuture<'static, Result<(), StateError>>;

    /// The job is gone: forget everything it has, now or as soon as that can be.
    fn drop_job(&self, job: JobId) -> BoxFuture<'static, Result<Dropped, StateError>>;

    /// Whether states of a job are kept so that other jobs can begin with them.
    fn keeps_checkpoints(&self) -> bool {
        true
    }

    /// A savepoint or a state of the job was let go, and with it these objects of its log. Whoever
    /// does not hear so finds out by itself, later.
    fn released(&self, job: JobId, objects: Vec<String>) -> BoxFuture<'static, ()> {
        let _ = (job, objects);
        Box::pin(std::future::ready(()))
    }
}
