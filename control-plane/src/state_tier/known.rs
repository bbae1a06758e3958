//! What the tier remembers of a job's record, and what it reads anew when it gives orders.

use std::collections::BTreeMap;

use coordinator::meta::{JobRecord, MetaState};
use proto::{
    state_control::{JobReferences, OpenShard},
    types::{Epoch, Generation, JobId, KeyGroupCount, ShardId, SinkId, StateNodeId},
};

/// A job's record as it was when it was last read, with the tier's own changes since.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Known {
    pub(super) generation: Generation,
    pub(super) committed: Epoch,
    pub(super) ended: bool,
    pub(super) has_files: bool,
    /// What of its files something needs though it has ended.
    pub(super) held: Option<JobReferences>,
    pub(super) key_groups: KeyGroupCount,
    pub(super) shards: u32,
    pub(super) owners: BTreeMap<ShardId, StateNodeId>,
}

impl Known {
    fn of(state: &MetaState, record: &JobRecord) -> Known {
        let held = record.outcome.is_some() && state.is_held(record.id);
        Known {
            held: held.then(|| state.references(record.id).ok()).flatten(),
            generation: record.generation,
            committed: record.committed,
            ended: record.outcome.is_some(),
            has_files: record.has_files,
            key_groups: record.key_groups(),
            shards: record.spec.options.shards,
            owners: record.owners.clone(),
        }
    }

    /// Jobs that a new leader has to care for, whether anybody asks it to or not.
    pub(super) fn list(state: &MetaState) -> Vec<(JobId, Known)> {
        let jobs = state
            .jobs
            .iter()
            .map(|(job, record)| (*job, Known::of(state, record)));
        let cares = |known: &Known| match known.ended {
            true => known.has_files,
            false => known.generation > Generation::default(),
        };
        jobs.filter(|(_, known)| cares(known)).collect()
    }

    pub(super) fn shard_ids(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.shards).map(ShardId)
    }
}

/// A job's record, and what the owners of some of its shards are to be told.
pub(super) struct View {
    pub(super) known: Known,
    pub(super) opens: Vec<OpenShard>,
    pub(super) published: BTreeMap<SinkId, Epoch>,
}

impl View {
    pub(super) fn of(state: &MetaState, job: JobId, shards: &[ShardId]) -> Option<View> {
        let record = state.jobs.get(&job)?;
        Some(View {
            known: Known::of(state, record),
            opens: shards
                .iter()
                .map(|shard| record.open_shard(*shard))
                .collect(),
            published: record.published.clone(),
        })
    }
}
