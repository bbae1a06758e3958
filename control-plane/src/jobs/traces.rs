//! Spans of what takes a job several events: its start, its recovery, each checkpoint. They follow
//! the effects that the driver carries out and change nothing.
//!
//! ```text
//! job.start     BeginGeneration ─────────────▶ RUNNING
//! job.recover   RESTARTING ──────────────────▶ RUNNING (in the next generation)
//! checkpoint    SendBarrier ──▶ Commit ──────▶ SendCommitted
//! rescale       Prepare ──▶ SendBarrier ─────▶ SendCommitted, or KeepRouting
//! ```
//! A rescale that an autoscaler's decision wants is part of its trace.

use std::collections::BTreeMap;

use coordinator::{Effect, JobState};
use proto::types::JobId;
use rpc::trace_context::{self, span_with_parent};
use tracing::{Span, field::Empty, info_span};

use super::JobEntry;

/// Spans that have begun, by job.
#[derive(Default)]
pub(super) struct JobTraces(BTreeMap<JobId, OpenSpans>);

#[derive(Default)]
struct OpenSpans {
    /// The trace of the request that made the job.
    request: Option<String>,
    /// From the wish to run to running.
    start: Option<Span>,
    /// From barrier to commit.
    checkpoint: Option<Span>,
    /// From the wish for another routing to the commit that makes it count.
    rescale: Option<Span>,
    /// The autoscaler's newest decision: its number and trace context.
    decision: Option<(u64, String)>,
    /// The one that the next change of the routing follows from.
    cause: Option<String>,
    /// The routing of the last barrier, and whether the one under way was the first with it.
    routing: u32,
    carried: bool,
}

impl JobTraces {
    /// The job was made by a request of this trace.
    pub(super) fn submitted(&mut self, job: JobId, request: Option<String>) {
        let open = OpenSpans {
            request,
            ..OpenSpans::default()
        };
        self.0.insert(job, open);
    }

    /// Begins spans before the effect is carried out, which is to be done in the span that this
    /// gives. One that the effect ends is given away and ends with it.
    pub(super) fn on_effect(&mut self, entry: &JobEntry, effect: &Effect) -> Span {
        let job = entry.id;
        let Some(open) = self.0.get_mut(&job) else {
            return Span::none();
        };
        match effect {
            Effect::BeginGeneration { generation } => {
                let parent = open.begin_start(job);
                info_span!(parent: parent, "state.begin", %job, %generation)
            }
            Effect::ListSplits { .. } | Effect::Deploy { .. } => {
                open.start.clone().unwrap_or_else(Span::none)
            }
            Effect::Prepare {
                generation,
                routing,
                ..
            } => {
                let routing = routing.version;
                let span = info_span!(parent: None, "rescale", %job, %generation, routing, otel.status_code = Empty);
                let span = span_with_parent(span, open.cause.take().as_deref());
                open.rescale.insert(span).clone()
            }
            Effect::RecordRouting { .. } => open.rescale.clone().unwrap_or_else(Span::none),
            Effect::KeepRouting { .. } => {
                let span = open.rescale.take().unwrap_or_else(Span::none);
                span.record("otel.status_code", "ERROR");
                span
            }
            Effect::SendBarrier {
                generation,
                epoch,
                routing,
                ..
            } => {
                open.carried = open.carried || *routing > open.routing;
                open.routing = *routing;
                let epoch = epoch.0;
                let span = info_span!(parent: None, "checkpoint", %job, %generation, epoch, otel.status_code = Empty);
                open.checkpoint.insert(span).clone()
            }
            Effect::Commit { epoch, objects, .. } => {
                let bytes: u64 = objects.iter().map(|object| object.bytes).sum();
                entry.set_checkpoint_bytes(bytes);
                open.checkpoint.as_ref().map_or_else(Span::none, |parent| {
                    info_span!(parent: parent, "checkpoint.commit", %job, epoch = epoch.0, bytes)
                })
            }
            Effect::SendCommitted { .. } => {
                if std::mem::take(&mut open.carried) {
                    open.rescale = None;
                }
                open.checkpoint.take().unwrap_or_else(Span::none)
            }
            Effect::ReportState(state) => {
                let span = open.on_state(entry, *state);
                if state.is_terminal() {
                    self.0.remove(&job);
                }
                span.unwrap_or_else(Span::none)
            }
            Effect::RecordPublished { .. }
            | Effect::RescaleFailed { .. }
            | Effect::StopAt { .. }
            | Effect::StopSources { .. }
            | Effect::Stop
            | Effect::Suspend
            | Effect::DropState => Span::none(),
        }
    }

    /// The autoscaler has decided, which this span tells.
    pub(super) fn decided(&mut self, job: JobId, number: u64, span: &Span) {
        if let Some(open) = self.0.get_mut(&job) {
            open.decision = trace_context::of(span).map(|context| (number, context));
        }
    }

    /// The trace context of a decision that may be carried out now.
    pub(super) fn decision(&self, job: JobId, number: u64) -> Option<String> {
        let (newest, context) = self.0.get(&job)?.decision.as_ref()?;
        (*newest == number).then(|| context.clone())
    }

    /// The job is to have other numbers of tasks, because of a decision with this trace context if
    /// nobody else wants it.
    pub(super) fn rescale_wanted(&mut self, job: JobId, decision: Option<String>) {
        if let Some(open) = self.0.get_mut(&job) {
            open.cause = decision;
        }
    }

    /// No epoch is on its way: whatever became of the last one has been carried out.
    pub(super) fn checkpoint_is_over(&mut self, job: JobId) {
        if let Some(open) = self.0.get_mut(&job) {
            open.checkpoint = None;
        }
    }
}

impl OpenSpans {
    /// The job's start, or the recovery that has begun with a failure.
    fn begin_start(&mut self, job: JobId) -> &Span {
        let request = self.request.take();
        self.start.get_or_insert_with(|| {
            let span = info_span!(parent: None, "job.start", %job, otel.status_code = Empty);
            span_with_parent(span, request.as_deref())
        })
    }

    /// The span that the new state belongs to.
    fn on_state(&mut self, entry: &JobEntry, state: JobState) -> Option<Span> {
        match state {
            JobState::Running => self.start.take(),
            JobState::Restarting => {
                self.fail(entry);
                let job = entry.id;
                let span = info_span!(parent: None, "job.recover", %job, otel.status_code = Empty);
                self.start.insert(span).clone().into()
            }
            JobState::Failed | JobState::Quarantined => self.fail(entry),
            // Whoever cancels a job does not want its checkpoint either.
            JobState::Canceling | JobState::Canceled => {
                self.checkpoint = None;
                self.start.take()
            }
            JobState::Created | JobState::Starting | JobState::Finishing | JobState::Finished => {
                None
            }
        }
    }

    /// What is under way has failed. The epoch of a checkpoint is never tried again.
    fn fail(&mut self, entry: &JobEntry) -> Option<Span> {
        // With the next generation the tasks are as wanted from its start.
        self.cause = None;
        if self.checkpoint.is_some() {
            entry.count_failed_checkpoint();
        }
        let failed = self.checkpoint.take().or(self.start.take());
        failed.inspect(|span| {
            span.record("otel.status_code", "ERROR");
        })
    }
}
