//! Now and then: looks for files in the logs of the jobs whose first shard is here that a crash left
//! behind.

use std::{sync::Arc, time::Duration};

use proto::types::{JobId, ShardId};

use super::{StateNode, node::NodeShared};
use crate::epoch_log::{LogError, collect_orphans};

/// Sweeps until the node stops.
pub(super) async fn run(node: Arc<NodeShared>) {
    let stopping = node.stopping();
    while !stopping
        .within(node.context.config.limits.sweep_interval)
        .await
    {
        for job in node.all_jobs() {
            if !job.look(|state| state.shards.contains_key(&ShardId(0))) {
                continue;
            }
            if let Err(error) = node.sweep(job.id).await {
                tracing::warn!(job = %job.id, %error, "the epoch log was not swept");
            }
        }
    }
}

/// Tells that the node is being stopped.
pub(super) struct Stopping(Arc<NodeShared>);

impl Stopping {
    /// Waits; whether the node is being stopped.
    pub(super) async fn within(&self, time: Duration) -> bool {
        let stop = self.0.stop.notified();
        if self.0.is_stopped() {
            return true;
        }
        // Either way the flag tells.
        drop(tokio::time::timeout(time, stop).await);
        self.0.is_stopped()
    }
}

impl NodeShared {
    pub(super) fn stopping(self: &Arc<Self>) -> Stopping {
        Stopping(self.clone())
    }

    async fn sweep(&self, job: JobId) -> Result<usize, LogError> {
        let control = &self.context.control;
        collect_orphans(&self.context.log, job, || control.log_references(job)).await
    }
}

impl StateNode {
    /// Deletes what a crash left behind in a job's log; how many objects that were.
    ///
    /// # Errors
    /// When the object store or the control plane did not answer.
    pub async fn sweep(&self, job: JobId) -> Result<usize, String> {
        self.shared
            .sweep(job)
            .await
            .map_err(|error| error.to_string())
    }
}
