//! Spans of one task: its restore, and its part in every checkpoint. The engine tells what happens
//! to a task and knows no traces. No trace, no span: batches never meet one.
//!
//! ```text
//! task.restore  deployed ───────────▶ running
//! task.freeze   barrier is sent ────▶ state is cut         (inputs are aligned meanwhile)
//! task.encode   state is cut ───────▶ rows are sorted      (encoded between batches, then sorted)
//! task.stage    rows are sorted ────▶ staged at the store
//! ```

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use engine::task::TaskEvent;
use futures::{FutureExt as _, future::BoxFuture};
use proto::{
    log::LogObject,
    types::{Epoch, JobId, TaskId},
};
use rpc::trace_context::span_with_parent;
use state_client::{
    CommittedOutput, EpochDelta, Incarnation, OutputRequest, ReadReply, ReadRequest, ScanReply,
    ScanRequest, StateError, StateStore,
};
use tracing::{Instrument as _, Span, info_span};

/// Epochs whose spans are open. A task that has fallen silent must not gather more.
const EPOCHS_MAX: usize = 8;

/// The spans of a task.
pub(crate) struct TaskSpans {
    job: JobId,
    task: TaskId,
    open: Mutex<Open>,
}

struct Open {
    restore: Option<Span>,
    epochs: BTreeMap<Epoch, EpochSpan>,
}

struct EpochSpan {
    /// The checkpoint.
    parent: String,
    /// What the task is at.
    span: Span,
}

/// A task's store, whose staging is part of the checkpoint's trace, also on state nodes.
pub(crate) struct TracedStore {
    pub(crate) store: Arc<dyn StateStore>,
    pub(crate) spans: Arc<TaskSpans>,
}

impl StateStore for TracedStore {
    fn read(
        &self,
        who: Incarnation,
        request: ReadRequest,
    ) -> BoxFuture<'static, Result<ReadReply, StateError>> {
        self.store.read(who, request)
    }

    fn scan(
        &self,
        who: Incarnation,
        request: ScanRequest,
    ) -> BoxFuture<'static, Result<ScanReply, StateError>> {
        self.store.scan(who, request)
    }

    fn stage(
        &self,
        who: Incarnation,
        delta: EpochDelta,
    ) -> BoxFuture<'static, Result<Vec<LogObject>, StateError>> {
        let span = self.spans.staging(delta.epoch);
        let staged = span.in_scope(|| self.store.stage(who, delta));
        staged.instrument(span).boxed()
    }

    fn committed_output(
        &self,
        who: Incarnation,
        request: OutputRequest,
    ) -> BoxFuture<'static, Result<Vec<CommittedOutput>, StateError>> {
        self.store.committed_output(who, request)
    }
}

impl TaskSpans {
    /// A task that is deployed in the current span.
    pub(crate) fn new(job: JobId, task: TaskId) -> TaskSpans {
        let restore = info_span!("task.restore", %job, %task);
        let open = Open {
            restore: Some(restore),
            epochs: BTreeMap::new(),
        };
        TaskSpans {
            job,
            task,
            open: Mutex::new(open),
        }
    }

    /// Something happened to the task.
    pub(crate) fn on_event(&self, event: &TaskEvent) {
        match event {
            TaskEvent::Running => self.lock().restore = None,
            TaskEvent::Frozen(epoch) => self.frozen(*epoch),
            TaskEvent::Staged { epoch, .. } => {
                self.lock().epochs.remove(epoch);
            }
            TaskEvent::Finished { .. }
            | TaskEvent::Settled
            | TaskEvent::DeadLetters(_)
            | TaskEvent::SourcesWait => {}
        }
    }

    /// The barrier of a checkpoint is sent.
    pub(crate) fn barrier(&self, epoch: Epoch, parent: &str) {
        let (job, task) = (self.job, self.task);
        let span = info_span!(parent: None, "task.freeze", %job, %task, epoch = epoch.0);
        if span.is_disabled() {
            return;
        }
        let span = span_with_parent(span, Some(parent));
        let parent = parent.to_owned();
        let mut open = self.lock();
        open.epochs.insert(epoch, EpochSpan { parent, span });
        if open.epochs.len() > EPOCHS_MAX {
            open.epochs.pop_first();
        }
    }

    fn frozen(&self, epoch: Epoch) {
        let (job, task) = (self.job, self.task);
        self.next(
            epoch,
            || info_span!(parent: None, "task.encode", %job, %task, epoch = epoch.0),
        );
    }

    fn staging(&self, epoch: Epoch) -> Span {
        let (job, task) = (self.job, self.task);
        self.next(
            epoch,
            || info_span!(parent: None, "task.stage", %job, %task, epoch = epoch.0),
        )
    }

    /// What the task is at in an epoch from now on.
    fn next(&self, epoch: Epoch, span: impl FnOnce() -> Span) -> Span {
        let mut open = self.lock();
        let Some(open) = open.epochs.get_mut(&epoch) else {
            return Span::none();
        };
        open.span = span_with_parent(span(), Some(&open.parent));
        open.span.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // A panic leaves whole spans.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
