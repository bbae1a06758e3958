//! What nodes are told: after each change of the metadata, and when they join.

use std::collections::{BTreeMap, BTreeSet};

use proto::{
    state_control::{CommittedEpoch, StateOrder},
    types::{Epoch, JobId, ShardId, SinkId, StateNodeId},
};
use rpc::trace_context;
use state_client::Incarnation;
use tokio::time::Instant;

use super::{
    StateTierDriver,
    job::{Dropping, TierJob},
    known::View,
    node::{Nodes, Presence},
    standing::{Standing, Told},
};

impl StateTierDriver {
    /// A node is there: it is told what has waited for it.
    pub(super) fn on_joined(&mut self, node: StateNodeId) {
        // What it was at, it has stopped with its stream.
        self.transfers.on_gone(node);
        self.advance_transfers();
        let ids: Vec<JobId> = self.jobs.keys().copied().collect();
        for id in ids {
            if let Some(job) = self.jobs.get_mut(&id) {
                job.on_joined(node, &mut self.nodes);
            }
            self.tell_owners(id);
            self.advance(id);
        }
    }

    /// A node is not there any more.
    pub(super) fn on_left(&mut self, node: StateNodeId) {
        for job in self.jobs.values_mut() {
            if let Dropping::Told(nodes) = &mut job.dropping
                && nodes.remove(&node)
                && nodes.is_empty()
            {
                job.dropping = Dropping::Untold;
            }
        }
        self.transfers.on_gone(node);
        self.advance_transfers();
        self.advance_all();
    }

    /// Every node that serves a shard of the job, or looks after its files, deletes all of them: what
    /// one still writes while it stops, another may have missed.
    pub(super) fn order_drop(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let Some(known) = &job.known else {
            return;
        };
        let nodes = &mut self.nodes;
        let mut targets: Vec<StateNodeId> = nodes
            .connected()
            .filter(|node| {
                let owns = known.owners.values().any(|owner| owner == node);
                owns || job.collectors.contains(node)
            })
            .collect();
        if targets.is_empty() {
            targets.extend(nodes.connected().next());
        }
        let order = StateOrder::Drop {
            job: id,
            shards: known.shards,
        };
        targets.retain(|node| nodes.order(*node, order.clone()).is_some());
        if !targets.is_empty() {
            job.dropping = Dropping::Told(targets.into_iter().collect());
        }
    }
}

impl StateTierDriver {
    /// Nodes stop serving an ended job and delete what nothing needs of it.
    pub(super) fn order_collect(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let Some(known) = &job.known else {
            return;
        };
        job.collected.clone_from(&known.held);
        let order = StateOrder::Collect {
            job: id,
            shards: known.shards,
        };
        let nodes = &mut self.nodes;
        let mut told: BTreeSet<StateNodeId> = known.owners.values().copied().collect();
        told.retain(|node| nodes.order(*node, order.clone()).is_some());
        if told.is_empty() {
            let other = nodes.connected().next();
            told.extend(other.filter(|other| nodes.order(*other, order).is_some()));
        }
        job.collectors.extend(told);
    }
}

impl TierJob {
    /// Takes in what the metadata says, and tells owners to open what they do not serve.
    pub(super) fn see(&mut self, view: View, nodes: &mut Nodes) {
        self.known = Some(view.known);
        let now = Instant::now();
        for open in view.opens {
            let shard = open.shard;
            let Standing::Untold(node) = self.standing(shard, nodes, now) else {
                continue;
            };
            let (generation, committed) = (open.generation, open.committed);
            let Some(session) = nodes.order(node, StateOrder::Open(open)) else {
                continue;
            };
            let told = Told {
                node,
                session,
                generation,
                committed,
            };
            self.told.insert(shard, told);
            if shard == ShardId(0) {
                self.order_published(&view.published, nodes);
            }
        }
    }

    /// Tells the owners that an epoch is committed, if they know the one before it, in all of their
    /// shards. Who does not is told to open its shards instead, as the next thing.
    pub(super) fn order_committed(
        &mut self,
        who: Incarnation,
        committed: CommittedEpoch,
        nodes: &mut Nodes,
    ) {
        let Some(known) = &mut self.known else {
            return;
        };
        let (previous, epoch) = (known.committed, committed.epoch);
        known.committed = epoch;
        let now = Instant::now();
        let mut knowing: BTreeMap<StateNodeId, bool> = BTreeMap::new();
        for (shard, owner) in &known.owners {
            let knows = self.told.get(shard).is_some_and(|told| {
                told.node == *owner
                    && nodes.presence(*owner, now) == Presence::Connected(told.session)
                    && (told.generation, told.committed) == (who.generation, previous)
            });
            *knowing.entry(*owner).or_insert(true) &= knows;
        }
        knowing.retain(|_, knows| *knows);
        for node in knowing.into_keys() {
            let order = StateOrder::Committed {
                job: who.job,
                generation: who.generation,
                previous,
                committed: committed.clone(),
                traceparent: trace_context::current(),
            };
            if nodes.order(node, order).is_none() {
                continue;
            }
            for told in self.told.values_mut().filter(|told| told.node == node) {
                told.committed = epoch;
            }
        }
    }

    /// Output is outside: the owner of the first shard, who serves it, can let it go.
    pub(super) fn order_published(&self, marks: &BTreeMap<SinkId, Epoch>, nodes: &mut Nodes) {
        let Some(told) = self.told.get(&ShardId(0)) else {
            return;
        };
        for (sink, epoch) in marks {
            let order = StateOrder::Published {
                job: self.id,
                sink: *sink,
                epoch: *epoch,
            };
            // One that does not hear it is told when it opens the shard.
            nodes.order(told.node, order);
        }
    }

    /// Has objects of the log deleted that nothing needs. If nobody does it, a sweep finds them.
    pub(super) fn order_trim(&self, objects: Vec<String>, nodes: &mut Nodes) {
        if objects.is_empty() {
            return;
        }
        let first = self.told.get(&ShardId(0)).map(|told| told.node);
        let first = first.filter(|first| nodes.connected().any(|node| node == *first));
        let target = first.or_else(|| nodes.connected().next());
        if let Some(node) = target {
            let job = self.id;
            nodes.order(node, StateOrder::Trim { job, objects });
        }
    }

    fn on_joined(&mut self, node: StateNodeId, nodes: &mut Nodes) {
        let Some(known) = &self.known else {
            return;
        };
        let job = self.id;
        // That it heard so before is not known: a stream that breaks swallows orders.
        for (_, shard) in self.former.iter().filter(|(at, _)| *at == node) {
            let shard = *shard;
            nodes.order(node, StateOrder::Close { job, shard });
        }
        if known.held.is_some() {
            // It may have forgotten whose files it keeps in order.
            self.collected = None;
        }
        let owns = known.owners.values().any(|owner| *owner == node);
        if let Dropping::Told(told) = &mut self.dropping
            && (owns || told.contains(&node))
        {
            let shards = known.shards;
            if nodes
                .order(node, StateOrder::Drop { job, shards })
                .is_some()
            {
                told.insert(node);
            }
        }
    }
}
