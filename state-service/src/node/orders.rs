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
    job::{Job, JobState},
    node::NodeShared,
};
use crate::{
    caps::{REOPEN_PAUSE, REOPEN_PAUSE_MAX},
    shard::{Commit, Kept, Shard, drive},
};

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
            StateOrder::Drop { job, .. } => node.drop_job(job),
            StateOrder::Trim { job, objects } => node.trim(job, objects),
        }
    }
}

impl NodeShared {
    fn open(&self, order: &OpenShard) {
        let Some(job) = self.job_or_new(order.job) else {
            return;
        };
        let new = job.change(|state| {
            if order.generation < state.fence.held() {
                return None;
            }
            if state.fence.hold(order.generation) {
                state.begin_generation();
            }
            state.cut = Some((order.key_groups, order.shards));
            state.committed = state.committed.max(order.committed);
            if order.shard == ShardId(0) {
                state.output.set_owed(&order.output, state.committed);
            }
            let known = state.shards.get(&order.shard).cloned();
            let shard = known.clone().unwrap_or_else(|| {
                let shard = Arc::new(Shard::new(self.context.clone(), order));
                state.shards.insert(order.shard, shard.clone());
                shard
            });
            shard.order_open(order);
            known.is_none().then_some(shard)
        });
        if let Some(shard) = new {
            self.context.tasks.spawn(drive(shard));
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
        let (closed, empty) =
            job.change(|state| (state.shards.remove(&shard), state.shards.is_empty()));
        if let Some(closed) = closed {
            closed.unwant();
        }
        if empty {
            self.remove_job(id);
            self.forget(&job);
        }
    }

    fn drop_job(self: &Arc<Self>, id: JobId) {
        let shards = match self.remove_job(id) {
            Some(job) => self.forget(&job),
            None => Vec::new(),
        };
        let context = self.context.clone();
        let stopped = self.stopping();
        self.context.tasks.spawn(async move {
            // What still runs would write files that nobody deletes.
            for shard in shards {
                shard.ended().await;
            }
            let mut attempt = 0;
            while let Err(error) = context.log.delete_job(id).await {
                tracing::warn!(job = %id, %error, "files of a dropped job are still there");
                attempt += 1;
                let pause = context
                    .objects
                    .pause(attempt, REOPEN_PAUSE, REOPEN_PAUSE_MAX);
                if stopped.within(pause).await {
                    return;
                }
            }
            context.reports.send(StateReport::Dropped { job: id });
        });
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

impl JobState {
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
