//! Orders of the control plane. Each is taken in at once; what it means is done by the shards'
//! drivers and by tasks of their own.

use std::sync::Arc;

use proto::{
    log::LogObject,
    state_control::{CommittedEpoch, OpenShard, StateOrder, StateReport},
    types::{Epoch, JobId, ShardId},
};
use state_client::Section;

use super::{
    StateNode,
    databases::{databases, release},
    job::{Job, JobState},
    node::NodeShared,
};
use crate::{
    caps::{REOPEN_PAUSE, REOPEN_PAUSE_MAX},
    epoch_log::LogError,
    shard::{Commit, Kept, Shard, ShardContext, drive},
};

/// Which files of an ended job nothing needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unneeded {
    All,
    /// The metadata say which.
    Some,
}

type Found = Vec<(LogObject, Option<Arc<Kept<Section>>>)>;

impl StateNode {
    /// Takes an order in. Orders take effect in the order in which they are given.
    pub fn order(&self, order: StateOrder) {
        let node = &self.shared;
        match order {
            StateOrder::Open(open) => node.open(&open),
            StateOrder::Committed {
                job,
                previous,
                committed,
                traceparent,
                ..
            } => node.committed(job, previous, &committed, traceparent.as_deref()),
            StateOrder::Published { job, sink, epoch } => {
                if let Some(job) = node.known_job(job) {
                    job.change(|state| state.output.published(sink, epoch));
                }
            }
            StateOrder::Close { job, shard } => node.close(job, shard),
            StateOrder::Drop { job, .. } => node.drop_job(job, Unneeded::All),
            StateOrder::Collect { job, .. } => node.drop_job(job, Unneeded::Some),
            StateOrder::Trim { job, objects } => node.trim(job, objects),
            StateOrder::Transfer(order) => node.transfers.order(&node.context, order),
            StateOrder::StopTransfer { transfer } => node.transfers.stop(transfer),
            StateOrder::ForgetTransfer { transfer } => node.transfers.forget(transfer),
        }
    }
}

impl NodeShared {
    fn open(&self, order: &OpenShard) {
        // A job may go between being found and being changed, with the last of its shards.
        while let Some(job) = self.job_or_new(order.job) {
            let Ok(opened) = job.change(|state| state.open(order, &self.context)) else {
                continue;
            };
            let Some((shard, before)) = opened else {
                return;
            };
            if let Some(before) = &before {
                before.unwant();
            }
            self.context.tasks.spawn(async move {
                // Two writers of this node would fence each other.
                if let Some(before) = before {
                    before.ended().await;
                }
                drive(shard).await;
            });
            return;
        }
    }

    fn committed(
        &self,
        job: JobId,
        previous: Epoch,
        committed: &CommittedEpoch,
        trace: Option<&str>,
    ) {
        let Some(job) = self.known_job(job) else {
            return;
        };
        job.change(|state| {
            let found = state.take_kept(committed);
            for shard in state.shards.values() {
                let commit = Commit {
                    job: job.id,
                    epoch: committed.epoch,
                    objects: found.clone(),
                    trace: trace.map(str::to_owned),
                };
                shard.commit(previous, commit);
            }
            if committed.epoch > state.committed {
                state.committed = committed.epoch;
                if state.shards.contains_key(&ShardId(0)) {
                    state.output.commit(committed);
                } else {
                    state.output.leave_to_owner(committed.epoch);
                }
            }
        });
    }

    fn close(&self, id: JobId, shard: ShardId) {
        let Some(job) = self.known_job(id) else {
            return;
        };
        if let Some(closed) = job.change(|state| state.shards.remove(&shard)) {
            closed.unwant();
        }
        self.remove_if_empty(&job);
    }

    /// Closes a shard, unless it was ordered to be served since it had had so many orders.
    pub(super) fn close_unless_ordered(&self, job: &Arc<Job>, shard: &Arc<Shard>, orders: u64) {
        let closed = job.change(|state| {
            let present = state.shards.get(&shard.id);
            let is_it = present.is_some_and(|present| Arc::ptr_eq(present, shard));
            let closed = is_it && shard.orders() == orders;
            closed.then(|| state.shards.remove(&shard.id)).flatten()
        });
        if let Some(closed) = closed {
            tracing::warn!(job = %job.id, shard = %shard.id, "closed a shard that is not ours");
            closed.unwant();
        }
        self.remove_if_empty(job);
    }

    /// Stops serving a job, and deletes its files.
    fn drop_job(self: &Arc<Self>, id: JobId, unneeded: Unneeded) {
        let shards = match self.remove_job(id) {
            Some(job) => self.forget(&job),
            None => Vec::new(),
        };
        self.keep(id, unneeded == Unneeded::Some);
        let node = self.clone();
        let stopped = self.stopping();
        self.context.tasks.spawn(async move {
            // What still runs would write files that nobody deletes.
            for shard in shards {
                shard.ended().await;
            }
            let context = &node.context;
            let mut attempt = 0;
            while let Err(error) = node.delete_files(id, unneeded).await {
                tracing::warn!(job = %id, %error, "files of an ended job are still there");
                attempt += 1;
                let pause = context
                    .objects
                    .pause(attempt, REOPEN_PAUSE, REOPEN_PAUSE_MAX);
                if stopped.within(pause).await {
                    return;
                }
            }
            if unneeded == Unneeded::All {
                context.reports.send(StateReport::Dropped { job: id });
            }
        });
    }

    async fn delete_files(&self, job: JobId, unneeded: Unneeded) -> Result<(), LogError> {
        match unneeded {
            Unneeded::Some => self.sweep(job).await.map(drop),
            Unneeded::All => {
                // A sweep that is under way may write what was listed no more.
                let _turn = self.turns.take(job).await;
                for database in databases(&self.context, job).await? {
                    release(&self.context, &database).await?;
                }
                self.context.log.delete_job(job).await
            }
        }
    }

    fn trim(&self, job: JobId, objects: Vec<String>) {
        let log = self.context.log.clone();
        self.context.tasks.spawn(async move {
            if let Err(error) = log.delete(job, objects).await {
                tracing::warn!(%job, %error, "part of the log was not trimmed, a sweep will find it");
            }
        });
    }
}

/// The job has left the node.
struct Gone;

/// A shard that was opened, and the one whose place it takes.
type Replaced = (Arc<Shard>, Option<Arc<Shard>>);

impl JobState {
    /// Takes in that a shard is to be served; a shard that has to be driven from now on. What was
    /// opened for an earlier ownership may be of any age: nothing of it is used.
    fn open(
        &mut self,
        order: &OpenShard,
        context: &Arc<ShardContext>,
    ) -> Result<Option<Replaced>, Gone> {
        if self.gone {
            return Err(Gone);
        }
        let known = self.shards.get(&order.shard).cloned();
        let ownership = known.as_ref().map(|known| known.ownership);
        if order.generation < self.fence.held() || ownership > Some(order.ownership) {
            return Ok(None);
        }
        if self.fence.hold(order.generation) {
            self.begin_generation();
        }
        if order.line > self.line {
            // The job went back: what was committed after that counts no more.
            self.line = order.line;
            self.committed = order.committed;
        }
        self.cut = Some((order.key_groups, order.shards));
        self.committed = self.committed.max(order.committed);
        if order.shard == ShardId(0) {
            self.output.set_owed(&order.output, self.committed);
        }
        if let Some(known) = &known
            && ownership == Some(order.ownership)
        {
            known.order_open(order);
            return Ok(None);
        }
        let shard = Arc::new(Shard::new(context.clone(), order));
        shard.order_open(order);
        self.shards.insert(order.shard, shard.clone());
        Ok(Some((shard, known)))
    }

    /// Forgets what older generations staged.
    fn begin_generation(&mut self) {
        self.stages.clear();
        self.kept.clear();
        self.output.forget_uncommitted(self.committed);
    }

    /// A committed epoch's objects, with what is in memory of them; nothing staged for it, or before
    /// it, is kept longer.
    fn take_kept(&mut self, committed: &CommittedEpoch) -> Found {
        let mut find = |object: &LogObject| {
            let kept = self.kept.remove(&object.name);
            (object.clone(), kept.map(|(_, kept)| kept))
        };
        let found = committed.objects.iter().map(&mut find).collect();
        self.kept.retain(|_, (epoch, _)| *epoch > committed.epoch);
        self.stages = self.stages.split_off(&committed.epoch.next());
        found
    }
}

impl Job {
    /// The shards of the job that are here.
    pub(crate) fn look_shards(&self) -> Vec<Arc<Shard>> {
        self.look(|state| state.shards.values().cloned().collect())
    }
}
