//! Staging: deltas of the tasks of one epoch are gathered and written together, one object for the
//! rows of all shards and one for output. Each task is answered with the objects that hold its part.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError},
};

use planted::Bug;
use proto::{
    log::LogObject,
    types::{Epoch, Generation, ShardId, TaskId},
};
use rpc::trace_context;
use state_client::{EpochDelta, Incarnation, Section, StateError};
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument as _, Span, info_span};

use super::{
    StateNode,
    job::{Job, JobState},
    node::NodeShared,
};
use crate::{
    budget::Lease,
    caps::{EPOCH_WRITERS_MAX, LINGER, LINGER_LITTLE, LITTLE_BYTES},
    epoch_log::{LogError, NewObject, Origin, Piece, output_object, rows_object},
    shard::Kept,
};

/// What tasks stage of one epoch.
#[derive(Default)]
pub(crate) struct EpochStage {
    /// How many tasks there are.
    tasks: u32,
    /// Those that have said what they changed.
    heard: BTreeSet<TaskId>,
    /// Deltas that nobody writes yet.
    waiting: Vec<(EpochDelta, Lease)>,
    /// Sections that wait or are being written. By task and shard: of a task whose sections were with
    /// another node, more come when that one dies.
    under_way: BTreeSet<(TaskId, ShardId)>,
    /// Objects that hold a section.
    written: BTreeMap<(TaskId, ShardId), Vec<LogObject>>,
    /// Whether somebody is about to write what waits.
    gathering: bool,
    /// How many are about to write, or do.
    writers: u32,
}

impl EpochStage {
    fn all_heard(&self) -> bool {
        self.heard.len() >= self.tasks as usize
    }

    fn has_much(&self) -> bool {
        let waiting = self.waiting.iter().flat_map(|(delta, _)| &delta.sections);
        waiting.map(Section::payload_bytes).sum::<usize>() >= LITTLE_BYTES
    }

    /// Whether somebody who does not write is to write what waits.
    fn wants_writer(&mut self) -> bool {
        let wanted = !self.gathering && !self.waiting.is_empty();
        let wanted = wanted && self.writers < EPOCH_WRITERS_MAX;
        if wanted {
            self.gathering = true;
            self.writers += 1;
        }
        wanted
    }
}

/// Nobody wants it any more, or the store does not take it.
struct NotWritten;

/// What becomes of a delta.
enum Staging {
    Done(Vec<LogObject>),
    Wait,
    Write,
    Full,
}

impl StateNode {
    /// Makes a delta durable; the objects of the log that hold it, none if it is empty.
    ///
    /// # Errors
    /// [`StateError::Fenced`] for an older generation; [`StateError::Unavailable`] when the object
    /// store is in trouble: staging goes on, and the same delta is to be staged again to hear of it.
    pub async fn stage(
        &self,
        who: Incarnation,
        mut delta: EpochDelta,
    ) -> Result<Vec<LogObject>, StateError> {
        let node = &self.shared;
        let deadline = node.request_deadline();
        let job = node.job_of(who, deadline).await?;
        node.room(deadline).await?;
        delta.sections.retain(|section| !section.is_empty());
        let (epoch, task) = (delta.epoch, delta.task);
        let shards: Vec<ShardId> = delta.sections.iter().map(|s| s.shard).collect();
        let mut delta = Some(delta);
        let take_in = |state: &mut JobState| Some(Ok(node.take_in(state, delta.take()?)));
        let staging = job.when(who, deadline, "staging", take_in).await?;
        // Whoever writes may have waited for this task to be heard of.
        job.change(|_| ());
        match staging {
            Staging::Done(objects) => return Ok(objects),
            Staging::Wait => {}
            Staging::Write => {
                let (node, job) = (node.clone(), job.clone());
                // One of the tasks whose deltas are in the object shows it in its trace.
                let span = trace_context::current().map(|_| Span::current());
                let writing = async move { node.write_epoch(&job, who, epoch, span).await };
                self.shared.context.tasks.spawn(writing);
            }
            Staging::Full => {
                let why = "too much waits to be written to the object store".to_owned();
                return Err(StateError::Unavailable(why));
            }
        }
        let deadline = Instant::now() + node.context.config.limits.stage_wait;
        job.when(who, deadline, "writing the epoch log", |state| {
            if epoch <= state.committed {
                return Some(Ok(Vec::new()));
            }
            let stage = state.stages.get(&epoch);
            let mut objects = BTreeSet::new();
            for shard in &shards {
                let key = (task, *shard);
                match stage.and_then(|stage| stage.written.get(&key)) {
                    Some(of_section) => objects.extend(of_section.iter().cloned()),
                    None if stage.is_some_and(|stage| stage.under_way.contains(&key)) => {
                        return None;
                    }
                    None => {
                        let why = "it was not written to the object store".to_owned();
                        return Some(Err(StateError::Unavailable(why)));
                    }
                }
            }
            Some(Ok(objects.into_iter().collect()))
        })
        .await
    }
}

impl NodeShared {
    /// Waits until tails are not far beyond what flushes take away.
    async fn room(&self, deadline: Instant) -> Result<(), StateError> {
        let mut flushed = self.context.flushed.subscribe();
        loop {
            flushed.mark_unchanged();
            if self.has_room() {
                return Ok(());
            }
            if !matches!(timeout_at(deadline, flushed.changed()).await, Ok(Ok(()))) {
                let why = "more rows are committed than could be flushed".to_owned();
                return Err(StateError::Unavailable(why));
            }
        }
    }

    fn has_room(&self) -> bool {
        let bytes: usize = (self.all_jobs().iter())
            .flat_map(|job| job.look_shards())
            .map(|shard| shard.load())
            .map(|load| load.tail_bytes + load.frozen_bytes)
            .sum();
        bytes <= self.context.config.limits.unflushed_bytes
    }

    fn take_in(&self, state: &mut JobState, mut delta: EpochDelta) -> Staging {
        // What is committed is staged again only because the answer was lost.
        if delta.epoch <= state.committed {
            return Staging::Done(Vec::new());
        }
        let stage = state.stages.entry(delta.epoch).or_default();
        stage.tasks = delta.tasks;
        stage.heard.insert(delta.task);
        if delta.is_empty() {
            return Staging::Done(Vec::new());
        }
        let task = delta.task;
        let (under_way, written) = (&mut stage.under_way, &stage.written);
        delta.sections.retain(|section| {
            let key = (task, section.shard);
            !under_way.contains(&key) && !written.contains_key(&key)
        });
        if delta.is_empty() {
            return Staging::Wait;
        }
        let bytes = delta.sections.iter().map(Section::payload_bytes).sum();
        let Some(lease) = self.staged.take(bytes) else {
            return Staging::Full;
        };
        under_way.extend(delta.sections.iter().map(|section| (task, section.shard)));
        stage.waiting.push((delta, lease));
        match stage.wants_writer() {
            true => Staging::Write,
            false => Staging::Wait,
        }
    }

    /// Writes what is staged of an epoch until nothing waits; shown below a span.
    async fn write_epoch(&self, job: &Job, who: Incarnation, epoch: Epoch, traced: Option<Span>) {
        loop {
            linger(job, who, epoch).await;
            let Some(deltas) = job.look(|state| next_round(state, who.generation, epoch)) else {
                return;
            };
            let span = traced.as_ref().map_or_else(
                Span::none,
                |parent| info_span!(parent: parent, "epoch_log.write", job = %who.job, %epoch),
            );
            let writing = self.write_round(job, who, epoch, &deltas).instrument(span);
            let written = writing.await;
            let goes_on = job.change(|state| {
                // Of another generation's epochs others take care.
                if state.fence.held() != who.generation {
                    return false;
                }
                match written {
                    Ok(written) => self.finish_round(state, epoch, deltas, written),
                    Err(NotWritten) => forget_round(state, epoch, &deltas),
                }
                let stage = state.stages.get_mut(&epoch);
                stage.is_some_and(|stage| {
                    stage.writers = stage.writers.saturating_sub(1);
                    stage.wants_writer()
                })
            });
            if !goes_on {
                return;
            }
        }
    }

    /// Writes one round of deltas; its objects, rows and output.
    async fn write_round(
        &self,
        job: &Job,
        who: Incarnation,
        epoch: Epoch,
        deltas: &[(EpochDelta, Lease)],
    ) -> Result<(Option<LogObject>, Option<LogObject>), NotWritten> {
        let origin = Origin {
            generation: who.generation,
            epoch,
        };
        let (sections, pieces) = parts(deltas);
        let rows = (!sections.is_empty()).then(|| rows_object(who.job, origin, &sections));
        let output = (!pieces.is_empty()).then(|| output_object(who.job, origin, &pieces));
        let name = self
            .names
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next(origin);
        let wanted = || {
            let of_it = |state: &mut JobState| {
                state.fence.held() == who.generation && state.stages.contains_key(&epoch)
            };
            !self.is_stopped() && job.look(of_it)
        };
        let put = |object: Option<NewObject>, ending: &str| {
            let name = format!("{name}.{ending}");
            let wanted = &wanted;
            async move {
                match object {
                    Some(object) => self
                        .context
                        .log
                        .put(who.job, name, object, wanted)
                        .await
                        .map(Some),
                    None => Ok(None),
                }
            }
        };
        match futures::try_join!(put(rows, "rows"), put(output, "out")) {
            Ok(written) => Ok(written),
            Err(LogError::GivenUp) => Err(NotWritten),
            Err(error) => {
                // An object store that says "not found" to a write; the callers try again.
                tracing::error!(job = %who.job, %error, "failed to write the epoch log");
                Err(NotWritten)
            }
        }
    }

    fn finish_round(
        &self,
        state: &mut JobState,
        epoch: Epoch,
        deltas: Vec<(EpochDelta, Lease)>,
        (rows, output): (Option<LogObject>, Option<LogObject>),
    ) {
        let Some(stage) = state.stages.get_mut(&epoch) else {
            return;
        };
        let (sections, pieces) = parts(&deltas);
        for section in deltas.iter().flat_map(|(delta, _)| &delta.sections) {
            let rows = rows.iter().filter(|_| has_rows(section));
            let output = output.iter().filter(|_| !section.staged.is_empty());
            let key = (section.task, section.shard);
            stage.under_way.remove(&key);
            stage
                .written
                .insert(key, rows.chain(output).cloned().collect());
        }
        // What does not fit is read back when it is needed.
        let bytes = sections.iter().map(Section::payload_bytes).sum();
        if let Some(rows) = rows
            && let Some(lease) = self.kept.take(bytes)
        {
            let kept = Arc::new(Kept::new(sections, lease));
            if planted::is(Bug::ApplyBeforeCommit) {
                for shard in state.shards.values() {
                    let objects = vec![(rows.clone(), Some(Arc::clone(&kept)))];
                    shard.commit_unasked(epoch, objects);
                }
            }
            state.kept.insert(rows.name, (epoch, kept));
        }
        let bytes = pieces.iter().map(|piece| piece.bytes.len()).sum();
        if let Some(output) = output
            && let Some(lease) = self.output.take(bytes)
        {
            let kept = Arc::new(Kept::new(pieces, lease));
            state.output.keep(output.name, epoch, kept);
        }
    }
}

/// Deltas that were not written: their tasks are told so, and stage them again.
fn forget_round(state: &mut JobState, epoch: Epoch, deltas: &[(EpochDelta, Lease)]) {
    let Some(stage) = state.stages.get_mut(&epoch) else {
        return;
    };
    for section in deltas.iter().flat_map(|(delta, _)| &delta.sections) {
        stage.under_way.remove(&(section.task, section.shard));
    }
}

/// Waits for more to write at once.
async fn linger(job: &Job, who: Incarnation, epoch: Epoch) {
    let until = |enough: fn(&EpochStage) -> bool| {
        move |state: &mut JobState| {
            let enough = state.stages.get(&epoch).is_none_or(enough);
            enough.then_some(Ok(()))
        }
    };
    // That it took too long, or is fenced, shows in what comes after.
    let deadline = Instant::now() + LINGER_LITTLE;
    let much = until(|stage| stage.all_heard() || stage.has_much());
    drop(job.when(who, deadline, "lingering", much).await);
    let deadline = deadline.min(Instant::now() + LINGER);
    let all = until(EpochStage::all_heard);
    drop(job.when(who, deadline, "lingering", all).await);
}

/// The deltas that are written together next; `None`: there are none.
fn next_round(
    state: &mut JobState,
    generation: Generation,
    epoch: Epoch,
) -> Option<Vec<(EpochDelta, Lease)>> {
    if state.fence.held() != generation {
        return None;
    }
    let stage = state.stages.get_mut(&epoch)?;
    stage.gathering = false;
    Some(std::mem::take(&mut stage.waiting))
}

fn has_rows(section: &Section) -> bool {
    !section.blocks.is_empty() || !section.low_water_marks.is_empty()
}

/// Sections without output, and output.
fn parts(deltas: &[(EpochDelta, Lease)]) -> (Vec<Section>, Vec<Piece>) {
    let sections = deltas.iter().flat_map(|(delta, _)| &delta.sections);
    let pieces = sections.clone().flat_map(|section| {
        section.staged.iter().map(|output| Piece {
            generation: section.generation,
            epoch: section.epoch,
            sink: output.sink,
            slot: output.slot,
            task: section.task.0,
            bytes: output.bytes.clone(),
        })
    });
    let pieces = pieces.collect();
    let rows = sections
        .filter(|section| has_rows(section))
        .map(|section| Section {
            staged: Vec::new(),
            ..section.clone()
        });
    (rows.collect(), pieces)
}
