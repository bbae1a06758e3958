//! The contract of the state service.

use bytes::Bytes;
use futures::future::BoxFuture;
use proto::types::{Epoch, Generation, JobId, SinkId};

use crate::{ReadReply, ReadRequest, ScanReply, ScanRequest, Section, StateError};

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

    /// Makes a section durable, to be committed with its epoch. Staging the same section again
    /// (a lost reply) is harmless.
    fn stage(
        &self,
        who: Incarnation,
        section: Section,
    ) -> BoxFuture<'static, Result<(), StateError>>;

    /// Output of `sink` staged in committed epochs after `after`, oldest epoch first: what its
    /// publishers still owe. One entry per (generation, epoch, slot, task).
    fn committed_output(
        &self,
        who: Incarnation,
        sink: SinkId,
        after: Epoch,
    ) -> BoxFuture<'static, Result<Vec<CommittedOutput>, StateError>>;
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

/// What the control plane tells the state service.
pub trait StateControl: Send + Sync {
    /// A new generation of a job begins from the last committed epoch; what older generations
    /// staged and did not commit is dropped, and they are fenced from now on. Returns that epoch.
    fn begin(&self, who: Incarnation) -> BoxFuture<'static, Result<Epoch, StateError>>;

    /// Epoch `epoch` is committed: all of its sections are staged. Idempotent.
    fn commit(&self, who: Incarnation, epoch: Epoch) -> BoxFuture<'static, Result<(), StateError>>;

    /// Output of `sink` up to and including `epoch` is published and may be forgotten.
    fn published(
        &self,
        who: Incarnation,
        sink: SinkId,
        epoch: Epoch,
    ) -> BoxFuture<'static, Result<(), StateError>>;

    /// The job is gone: forget everything it has.
    fn drop_job(&self, job: JobId) -> BoxFuture<'static, Result<(), StateError>>;
}
