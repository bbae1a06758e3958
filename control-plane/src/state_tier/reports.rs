//! What state nodes report.

use proto::{
    state_control::{ShardFiles, StateOrder, StateReport},
    types::{Epoch, JobId, ShardId, StateNodeId},
};
use tokio::time::Instant;

use super::{
    StateNodeSession, StateTierDriver,
    job::{Dropping, TierJob},
    standing::Fault,
};
use crate::caps::{SHARD_RETRY, SHARD_RETRY_MAX};

impl StateTierDriver {
    pub(super) fn on_report(&mut self, session: StateNodeSession, report: StateReport) {
        let present = self.nodes.is_present(session);
        match report {
            StateReport::Degraded { why } => {
                if present {
                    tracing::warn!(node = %session.node, why, "state node's object store");
                    self.nodes.set_degraded(session.node, why);
                }
            }
            StateReport::Transfer {
                transfer,
                attempt,
                news,
            } => self.on_transfer_news(session, (transfer, attempt), news),
            StateReport::Dropped { job } => {
                if let Some(job) = self.jobs.get_mut(&job) {
                    job.on_dropped(session.node);
                }
                self.advance(job);
            }
            // What is durable is so whoever says it, and for ever.
            StateReport::Durable {
                job,
                shard,
                epoch,
                files,
            } => {
                self.on_durable(job, shard, epoch, files);
                self.close_unless_owned(session, job, shard);
                self.advance(job);
            }
            StateReport::Opened {
                job,
                shard,
                durable,
                files,
                ..
            } => {
                self.on_durable(job, shard, durable, files);
                if present && let Some(job) = self.jobs.get_mut(&job) {
                    let by_it = |fault: &Fault| fault.node == session.node;
                    if job.faults.get(&shard).is_some_and(by_it) {
                        job.faults.remove(&shard);
                    }
                }
                self.close_unless_owned(session, job, shard);
                self.advance(job);
            }
            StateReport::Failed {
                job,
                shard,
                error,
                retryable,
            } => {
                tracing::warn!(%job, %shard, node = %session.node, error, "shard is not served");
                if !self.close_unless_owned(session, job, shard) && present {
                    self.on_failed(session.node, job, shard, error, retryable);
                }
                self.advance(job);
            }
        }
    }

    fn on_durable(&mut self, job: JobId, shard: ShardId, epoch: Epoch, files: ShardFiles) {
        if epoch > Epoch::ZERO
            && let Some(job) = self.jobs.get_mut(&job)
        {
            job.on_durable(shard, epoch, files);
        }
    }

    /// A node that serves what is not its own has missed that it lost it.
    fn close_unless_owned(
        &mut self,
        session: StateNodeSession,
        job: JobId,
        shard: ShardId,
    ) -> bool {
        if !self.listed || !self.nodes.is_present(session) {
            return false;
        }
        let owns = match self.jobs.get(&job) {
            None => false,
            // Not looked at yet: nobody knows.
            Some(TierJob { known: None, .. }) => true,
            Some(TierJob {
                known: Some(known), ..
            }) => known.owners.get(&shard) == Some(&session.node),
        };
        if !owns {
            let order = StateOrder::Close { job, shard };
            self.nodes.order(session.node, order);
        }
        !owns
    }

    fn on_failed(
        &mut self,
        node: StateNodeId,
        job: JobId,
        shard: ShardId,
        why: String,
        retryable: bool,
    ) {
        let Some(job) = self.jobs.get_mut(&job) else {
            return;
        };
        let before = job.faults.remove(&shard).filter(|fault| fault.node == node);
        let (mut times, mut retry_at) =
            before.map_or((0, None), |fault| (fault.times, fault.retry_at));
        if !retryable && retry_at.is_none() {
            let pause = SHARD_RETRY.saturating_mul(1 << times.min(16));
            times += 1;
            let pause = self.metadata.jitter(pause.min(SHARD_RETRY_MAX));
            retry_at = Some(Instant::now() + pause);
        }
        let fault = Fault {
            node,
            why,
            times,
            retry_at,
        };
        job.faults.insert(shard, fault);
    }
}

impl TierJob {
    /// A shard is durable up to an epoch, in a database that has these files.
    fn on_durable(&mut self, shard: ShardId, epoch: Epoch, files: ShardFiles) {
        let known = self
            .files
            .get(&shard)
            .map(|known| (known.line, known.manifest));
        if known.is_some_and(|(line, _)| line > files.line) {
            return;
        }
        if known.is_some_and(|(line, _)| line < files.line) {
            // That was said of another database.
            self.durable.forget(&shard);
        }
        self.durable.raise(shard, epoch, Instant::now());
        if known.is_none_or(|known| known <= (files.line, files.manifest)) {
            self.files.insert(shard, files);
        }
    }

    fn on_dropped(&mut self, node: StateNodeId) {
        if let Dropping::Told(nodes) = &mut self.dropping
            && nodes.remove(&node)
            && nodes.is_empty()
        {
            self.dropping = Dropping::Dropped;
        }
    }
}
