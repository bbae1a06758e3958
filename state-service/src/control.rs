//! What a state node asks the control plane by itself.

use futures::future::BoxFuture;
use proto::{
    state_control::JobReferences,
    types::{JobId, ShardId},
};

/// The control plane as a node asks it. Each answer is read after the question was asked, never from
/// a memory of it. An error means that there was no answer.
pub trait ControlView: Send + Sync {
    /// Whether the shard is still this node's.
    fn owns(&self, job: JobId, shard: ShardId) -> BoxFuture<'static, Result<bool, String>>;

    /// What the job's log is made of.
    fn references(&self, job: JobId) -> BoxFuture<'static, Result<JobReferences, String>>;
}
