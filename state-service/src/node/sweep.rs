//! Now and then: looks for files of the jobs whose first shard is here that nothing needs, since a crash
//! left them behind or somebody let go of them, and for shards that moved, or were dropped, while the node could not hear of it.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use planted::Bug;
use proto::{
    state_control::JobReferences,
    types::{JobId, ShardId},
};

use super::{
    StateNode,
    databases::{databases, delete_unneeded, tidy_kept},
    job::Job,
    node::NodeShared,
};
use crate::epoch_log::{LogError, delete_orphans};

/// Sweeps until the node stops.
pub(super) async fn run(node: Arc<NodeShared>) {
    let stopping = node.stopping();
    while !stopping
        .within(node.context.config.limits.sweep_interval)
        .await
    {
        node.kept_shards.forget_unused();
        for job in node.all_jobs() {
            if let Err(why) = node.close_foreign(&job).await {
                tracing::warn!(job = %job.id, why, "whose shards are open here is not known");
                continue;
            }
            for shard in job.look_shards() {
                shard.collect().await;
                shard.report_parents();
            }
            if !job.look(|state| state.shards.contains_key(&ShardId(0))) {
                continue;
            }
            if let Err(error) = node.sweep(job.id).await {
                tracing::warn!(job = %job.id, %error, "the epoch log was not swept");
            }
        }
        for job in node.kept_jobs() {
            if let Err(error) = node.sweep(job).await {
                tracing::warn!(%job, %error, "files of an ended job were not swept");
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

    /// Closes shards that are not this node's: it has missed that it lost them.
    pub(super) async fn close_foreign(&self, job: &Arc<Job>) -> Result<(), String> {
        for shard in job.look_shards() {
            // It may be given to this node after the answer was true.
            let orders = shard.orders();
            if !self.context.control.owns(job.id, shard.id).await? {
                self.close_unless_ordered(job, &shard, orders);
            }
        }
        Ok(())
    }

    /// Deletes files of a job that nothing needs, as the metadata say after they were listed; how
    /// many objects and databases there were. None of a job that was dropped meanwhile: what would be
    /// written of it now would stay.
    pub(super) async fn sweep(&self, job: JobId) -> Result<usize, LogError> {
        self.sweep_by(job, || self.context.control.references(job))
            .await
    }

    /// The same, where somebody else is asked.
    pub(super) async fn sweep_by(
        &self,
        job: JobId,
        ask: impl FnOnce() -> BoxFuture<'static, Result<JobReferences, String>>,
    ) -> Result<usize, LogError> {
        let context = &self.context;
        let _turn = self.turns.take(job).await;
        if !self.looks_after(job) {
            return Ok(0);
        }
        if planted::is(Bug::CollectUnasked) {
            let mut references = ask().await.map_err(LogError::Unavailable)?;
            references.ended = true;
            let objects = context.log.list(job).await?;
            return delete_orphans(&context.log, job, objects, &references).await;
        }
        let objects = context.log.list(job).await?;
        let databases = databases(context, job).await?;
        // After both were listed: what may still be committed, or made, is in neither.
        let references = ask().await.map_err(LogError::Unavailable)?;
        let deleted = delete_orphans(&context.log, job, objects, &references).await?;
        let deleted = deleted + delete_unneeded(context, &databases, &references).await?;
        if references.ended {
            tidy_kept(context, &databases, &references).await?;
        }
        Ok(deleted)
    }
}

impl StateNode {
    /// Deletes files of a job that nothing needs: what a crash left behind in its log, databases that
    /// it went back from; how many objects and databases that were.
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
