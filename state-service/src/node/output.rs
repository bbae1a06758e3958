//! Committed output that waits to be published, of the jobs whose first shard is here.

use std::{collections::BTreeMap, sync::Arc};

use futures::{StreamExt as _, stream};
use proto::{
    log::{LogHolding, LogObject},
    state_control::CommittedEpoch,
    types::{Epoch, JobId, ShardId, SinkId},
};
use state_client::{CommittedOutput, Incarnation, OutputRequest, StateError};

use super::{StateNode, job::JobState};
use crate::{
    caps::EPOCHS_READ_AT_ONCE,
    epoch_log::{LogError, Piece},
    shard::Kept,
};

/// Output of one job.
#[derive(Default)]
pub(crate) struct Output {
    /// Objects that some sink has not published.
    owed: BTreeMap<Epoch, Vec<LogObject>>,
    /// What each sink has published.
    published: BTreeMap<SinkId, Epoch>,
    /// What this node wrote and still has in memory, by the object's name.
    kept: BTreeMap<String, (Epoch, Arc<Kept<Piece>>)>,
}

/// An object with output, and its pieces if they are in memory.
type Source = (LogObject, Option<Arc<Kept<Piece>>>);

impl Output {
    /// Keeps what was written in memory.
    pub(super) fn keep(&mut self, name: String, epoch: Epoch, pieces: Arc<Kept<Piece>>) {
        self.kept.insert(name, (epoch, pieces));
    }

    /// An epoch is committed.
    pub(super) fn commit(&mut self, committed: &CommittedEpoch) {
        let objects = committed.objects.iter();
        let output: Vec<LogObject> = objects
            .filter(|object| matches!(object.holds, LogHolding::Output(_)))
            .cloned()
            .collect();
        if !output.is_empty() {
            self.owed.insert(committed.epoch, output);
        }
        self.forget(committed.epoch);
    }

    /// What is outstanding, from the control plane.
    pub(super) fn set_owed(&mut self, owed: &[CommittedEpoch], committed: Epoch) {
        self.owed.clear();
        for epoch in owed {
            self.commit(epoch);
        }
        self.forget(committed);
    }

    /// A sink has published all up to an epoch.
    pub(super) fn published(&mut self, sink: SinkId, epoch: Epoch) {
        let published = self.published.entry(sink).or_default();
        *published = (*published).max(epoch);
        let newest = self.owed.last_key_value().map(|(epoch, _)| *epoch);
        self.forget(newest.unwrap_or_default());
    }

    /// An epoch is committed whose output another node serves.
    pub(super) fn leave_to_owner(&mut self, committed: Epoch) {
        self.owed.clear();
        self.kept.retain(|_, (epoch, _)| *epoch > committed);
    }

    /// What older generations wrote and did not commit.
    pub(super) fn forget_uncommitted(&mut self, committed: Epoch) {
        self.kept.retain(|_, (epoch, _)| *epoch <= committed);
    }

    /// Drops what every sink has published, and of what is committed, what is not owed.
    fn forget(&mut self, committed: Epoch) {
        let published = &self.published;
        self.owed.retain(|epoch, objects| {
            objects.retain(|object| match &object.holds {
                LogHolding::Output(sinks) => {
                    let owes = |sink: &SinkId| published.get(sink).is_none_or(|done| done < epoch);
                    sinks.iter().any(owes)
                }
                LogHolding::Rows(_) => false,
            });
            !objects.is_empty()
        });
        let owed = &self.owed;
        self.kept.retain(|name, (epoch, _)| {
            let of_epoch = owed.get(epoch);
            *epoch > committed
                || of_epoch.is_some_and(|objects| objects.iter().any(|object| object.name == *name))
        });
    }

    /// Objects with output for a request, by epoch.
    fn sources(&self, request: &OutputRequest) -> Vec<(Epoch, Vec<Source>)> {
        let published = self
            .published
            .get(&request.sink)
            .copied()
            .unwrap_or_default();
        let from = request.after.max(published).next();
        if from > request.up_to {
            return Vec::new();
        }
        let of_sink = |object: &&LogObject| match &object.holds {
            LogHolding::Output(sinks) => sinks.contains(&request.sink),
            LogHolding::Rows(_) => false,
        };
        let source = |object: &LogObject| {
            let kept = self.kept.get(&object.name).map(|(_, kept)| kept.clone());
            (object.clone(), kept)
        };
        let epochs = self.owed.range(from..=request.up_to);
        epochs
            .map(|(epoch, objects)| (*epoch, objects.iter().filter(of_sink).map(source).collect()))
            .collect()
    }
}

impl StateNode {
    /// Output that was staged in committed epochs and is not published, oldest epoch first.
    ///
    /// # Errors
    /// As [`StateNode::read`]; the job's first shard is the one that must be here.
    pub async fn committed_output(
        &self,
        who: Incarnation,
        request: OutputRequest,
    ) -> Result<Vec<CommittedOutput>, StateError> {
        let deadline = self.shared.request_deadline();
        let job = self.shared.job_of(who, deadline).await?;
        let sources = |state: &mut JobState| {
            let here = state.shards.contains_key(&ShardId(0));
            let known = here && request.up_to <= state.committed;
            known.then(|| Ok(state.output.sources(&request)))
        };
        let epochs = job
            .when(who, deadline, "hearing of the commit", sources)
            .await?;
        let read = |(epoch, sources): (Epoch, Vec<Source>)| async move {
            let mut found = BTreeMap::new();
            for (object, kept) in sources {
                let pieces = match kept {
                    Some(kept) => kept.parts.clone(),
                    None => self.pieces(who.job, &object, epoch, request.sink).await?,
                };
                // What was staged twice is in two objects, the same in both.
                let of_sink = pieces
                    .into_iter()
                    .filter(|piece| piece.sink == request.sink);
                let keyed =
                    of_sink.map(|piece| ((piece.generation, piece.slot, piece.task), piece));
                found.extend(keyed);
            }
            Ok::<_, LogError>(found)
        };
        let mut reading = stream::iter(epochs).map(read).buffered(EPOCHS_READ_AT_ONCE);
        let mut outputs: Vec<CommittedOutput> = Vec::new();
        let mut bytes = 0;
        while bytes < request.bytes_max
            && let Some(pieces) = reading.next().await
        {
            for piece in pieces?.into_values() {
                bytes += piece.bytes.len();
                outputs.push(CommittedOutput {
                    generation: piece.generation,
                    epoch: piece.epoch,
                    slot: piece.slot,
                    task: piece.task,
                    bytes: piece.bytes,
                });
            }
        }
        Ok(outputs)
    }

    /// Reads a sink's pieces of an object. While that takes its time, the publisher of an older
    /// generation may be heard to have published them, and the object go: then nothing is owed.
    async fn pieces(
        &self,
        job: JobId,
        object: &LogObject,
        epoch: Epoch,
        sink: SinkId,
    ) -> Result<Vec<Piece>, LogError> {
        let context = &self.shared.context;
        let damaged = match context.log.pieces(job, object, epoch, sink).await {
            Err(LogError::Damaged(why)) => why,
            read => return read,
        };
        let references = context.control.references(job).await;
        let references = references.map_err(LogError::Unavailable)?;
        match references.objects.contains(&object.name) {
            true => Err(LogError::Damaged(damaged)),
            false => Ok(Vec::new()),
        }
    }
}
