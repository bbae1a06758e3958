//! Who tells the API how the state nodes are.

use std::sync::Arc;

use control_stream::JobOwners;
use futures::{FutureExt as _, future::BoxFuture};
use proto::types::JobId;

use crate::state_tier::{StateTier, StateTierStatus};

/// Who knows how the state nodes are.
pub trait StateNodes: Send + Sync {
    /// How they are; `None`: this process does not know any more.
    fn status(&self) -> BoxFuture<'static, Option<StateTierStatus>>;

    /// Who serves a job's shards, as far as that is known and they are served by other processes.
    fn owners(&self, _job: JobId) -> Option<Arc<JobOwners>> {
        None
    }
}

impl StateNodes for StateTier {
    fn status(&self) -> BoxFuture<'static, Option<StateTierStatus>> {
        let tier = self.clone();
        async move { StateTier::status(&tier).await }.boxed()
    }

    fn owners(&self, job: JobId) -> Option<Arc<JobOwners>> {
        StateTier::owners(self, job)
    }
}

/// A process without state nodes: its tasks keep state in the process itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoStateNodes;

impl StateNodes for NoStateNodes {
    fn status(&self) -> BoxFuture<'static, Option<StateTierStatus>> {
        async { Some(StateTierStatus::default()) }.boxed()
    }
}
