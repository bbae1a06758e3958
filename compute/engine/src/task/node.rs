//! One node of a task's graph: an operator, or a source, with the time of its inputs.
//!
//! Time per input: a watermark that never goes back, or idle. Consumers are told when all inputs
//! are idle (after the rows that wait for state) and, by the watermark repeated, when one is awake.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll},
};

use state_client::ReadRequest;

use super::{
    asked::{Asked, Reply},
    graph::Consumer,
    metrics::NodeMetrics,
};
use crate::{
    Element, TIMESTAMP_MAX, TIMESTAMP_MIN, Timestamp,
    clock::Clock,
    memory::Held,
    operator::{
        Counters, Operator, OperatorContext, OperatorError, OperatorState, Outbox, SourceOperator,
        SourceStatus, Step, TaskScope,
    },
    source::DeadLetter,
    spill::{Evicted, Scratch, Spill},
    state::Elsewhere,
};

/// An operator or a source, its inputs' time and what waits in it.
pub(super) struct Node {
    pub(super) id: String,
    pub(super) kind: Kind,
    pub(super) scope: TaskScope,
    pub(super) outbox: Outbox,
    pub(super) step: Step,
    pub(super) inputs: Vec<InputState>,
    /// Combined watermark that the operator has seen.
    pub(super) watermark: Timestamp,
    /// Watermark that consumers have seen.
    pub(super) sent_watermark: Timestamp,
    pub(super) idleness: Idleness,
    pub(super) ended: bool,
    pub(super) consumers: Vec<Consumer>,
    /// Nodes that take its late rows, each those of one of its inputs, and its time with them.
    pub(super) late: Vec<LateEdge>,
    /// Answers that came while the operator had other things to finish.
    pub(super) replies: VecDeque<(u64, Reply)>,
    pub(super) counters: Counters,
    pub(super) metrics: NodeMetrics,
    /// Rows that went from memory.
    pub(super) spill: Option<Spill>,
}

/// What a node runs.
pub(super) enum Kind {
    Operator(Box<dyn Operator>),
    Source(Box<dyn SourceOperator>),
}

impl Kind {
    /// Its state, if it has any.
    pub(super) fn state(&mut self) -> Option<&mut dyn OperatorState> {
        match self {
            Kind::Operator(operator) => operator.state(),
            Kind::Source(source) => Some(source.state()),
        }
    }

    /// Which keys of it are not in memory.
    fn elsewhere(&mut self) -> Option<&mut Elsewhere> {
        match self {
            Kind::Operator(operator) => operator.elsewhere(),
            Kind::Source(_) => None,
        }
    }
}

/// Who takes the late rows of an input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LateEdge {
    /// The input that they came from.
    pub(super) of: usize,
    /// Index of the node, whose only input they are.
    pub(super) node: usize,
}

/// What consumers are told of a node's idleness.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Idleness {
    Awake,
    /// All inputs are idle, but rows that wait for state go first.
    Due,
    Told,
}

/// Time of one input.
#[derive(Clone, Copy)]
pub(super) struct InputState {
    watermark: Timestamp,
    idle: bool,
    ended: bool,
}

impl Default for InputState {
    fn default() -> Self {
        InputState {
            watermark: TIMESTAMP_MIN,
            idle: false,
            ended: false,
        }
    }
}

/// An error and the node it happened in.
#[derive(Debug, thiserror::Error)]
#[error("operator `{node}`: {source}")]
pub struct NodeError {
    /// `Node.id` of the plan.
    pub node: String,
    /// What happened.
    pub source: OperatorError,
}

/// What a node did when it was its turn.
pub(super) enum Moved {
    Nothing,
    Something,
    Blocked,
}

impl Node {
    pub(super) fn new(id: String, kind: Kind, inputs: usize, scope: TaskScope) -> Self {
        let input = InputState::default();
        Node {
            id,
            kind,
            scope,
            outbox: Outbox::default(),
            step: Step::Done,
            inputs: vec![input; inputs],
            watermark: TIMESTAMP_MIN,
            sent_watermark: TIMESTAMP_MIN,
            idleness: Idleness::Awake,
            ended: false,
            consumers: Vec::new(),
            late: Vec::new(),
            replies: VecDeque::new(),
            counters: Counters::default(),
            metrics: NodeMetrics::default(),
            spill: None,
        }
    }

    /// What it holds of state, with what finds the rest of it in scratch files.
    pub(super) fn held(&mut self) -> Held {
        let state = self.kind.state();
        let size = state.map(|state| state.size()).unwrap_or_default();
        Held {
            state: size.used_bytes() + self.spill.as_ref().map_or(0, Spill::memory),
            changed: size.changed_bytes,
            sent: 0,
        }
    }

    /// Takes about so many bytes of state out of memory. What is on its way to scratch files is in memory
    /// until it is there, but as good as gone; when that is much, nothing follows it until some has
    /// arrived: what the files do not take is read from the store, which costs far more than to wait.
    pub(super) fn evict(&mut self, bytes: u64, scratch: &Arc<dyn Scratch>) {
        let going = self.spill.as_ref().map_or(0, Spill::pending_bytes);
        let bytes = bytes.saturating_sub(going);
        let is_busy = self.spill.as_ref().is_some_and(Spill::is_busy);
        let Some(state) = self.kind.state().filter(|_| bytes > 0 && !is_busy) else {
            return;
        };
        let mut evicted = match scratch.file_bytes() {
            0 => Evicted::dropped(),
            _ => Evicted::kept(),
        };
        self.counters.evicted_keys += state.evict(bytes, &mut evicted);
        if !evicted.is_empty()
            && let Some(elsewhere) = self.kind.elsewhere()
        {
            let spill = self
                .spill
                .get_or_insert_with(|| Spill::new(Arc::clone(scratch)));
            spill.put(&evicted, elsewhere);
        }
    }

    /// What is in scratch files, and what knows where.
    pub(super) fn spilled(&mut self) -> Option<(&mut Spill, &mut Elsewhere)> {
        self.spill.as_mut().zip(self.kind.elsewhere())
    }

    /// A read as it is to be sent: part of it may be in scratch files.
    pub(super) fn look_in_spill(&mut self, request: ReadRequest) -> Asked {
        let Some((spill, elsewhere)) = self.spilled() else {
            return Asked::Rows(request);
        };
        match spill.take(request, elsewhere) {
            Ok(read) => {
                self.metrics.scratch_reads += read.keys() as u64;
                Asked::Spilled(read)
            }
            Err(request) => Asked::Rows(request),
        }
    }

    /// Nothing is known of its inputs' time any more, nor that any of them has ended.
    pub(super) fn reset_time(&mut self) {
        self.inputs.fill(InputState::default());
        self.watermark = TIMESTAMP_MIN;
        self.sent_watermark = TIMESTAMP_MIN;
        self.idleness = Idleness::Awake;
        self.ended = false;
    }

    /// Whether it can take an element.
    pub(super) fn accepts(&self) -> bool {
        self.outbox.is_empty()
            && self.replies.is_empty()
            && matches!(self.step, Step::Done | Step::Waiting)
    }

    /// Calls the operator and keeps account of its time.
    pub(super) fn call(
        &mut self,
        clock: &dyn Clock,
        dead_letters: &mut Vec<DeadLetter>,
        act: impl FnOnce(&mut Kind, &mut OperatorContext<'_>) -> Result<Step, OperatorError>,
    ) -> Result<(), NodeError> {
        let started = clock.monotonic_ns();
        let mut context = OperatorContext {
            out: &mut self.outbox,
            clock,
            scope: &self.scope,
            counters: &mut self.counters,
            dead_letters,
        };
        let step = act(&mut self.kind, &mut context);
        self.metrics.busy_ns += clock.monotonic_ns().saturating_sub(started);
        self.step = step.map_err(|source| NodeError {
            node: self.id.clone(),
            source,
        })?;
        Ok(())
    }

    /// When it wants to be called although nothing comes.
    pub(super) fn deadline_ns(&self) -> Option<u64> {
        match &self.kind {
            _ if self.ended => None,
            Kind::Operator(operator) => operator.deadline_ns(),
            Kind::Source(source) => source.deadline_ns(),
        }
    }

    /// The time has come: an operator is called; a source is polled by the task.
    pub(super) fn deadline(
        &mut self,
        clock: &dyn Clock,
        dead_letters: &mut Vec<DeadLetter>,
    ) -> Result<(), NodeError> {
        self.call(clock, dead_letters, |kind, context| match kind {
            Kind::Operator(operator) => operator.deadline(context),
            Kind::Source(_) => Ok(Step::Done),
        })
    }

    /// When it wants to read ahead.
    pub(super) fn read_ahead_ns(&self) -> Option<u64> {
        match &self.kind {
            Kind::Operator(operator) if !self.ended => operator.read_ahead_ns(),
            Kind::Operator(_) | Kind::Source(_) => None,
        }
    }

    /// Lets the operator ask for state that no row waits for.
    pub(super) fn read_ahead(&mut self, clock: &dyn Clock, dead_letters: &mut Vec<DeadLetter>) {
        let Kind::Operator(operator) = &mut self.kind else {
            return;
        };
        operator.read_ahead(&mut OperatorContext {
            out: &mut self.outbox,
            clock,
            scope: &self.scope,
            counters: &mut self.counters,
            dead_letters,
        });
    }

    /// Resumes the operator or hands it a reply.
    pub(super) fn go_on(
        &mut self,
        clock: &dyn Clock,
        dead_letters: &mut Vec<DeadLetter>,
    ) -> Result<Moved, NodeError> {
        if self.step == Step::More {
            self.call(clock, dead_letters, |kind, context| match kind {
                Kind::Operator(operator) => operator.resume(context),
                Kind::Source(_) => Ok(Step::Done),
            })?;
            self.fall_asleep();
            return Ok(Moved::Something);
        }
        let Some((ticket, reply)) = self.replies.pop_front() else {
            return Ok(Moved::Nothing);
        };
        self.call(clock, dead_letters, |kind, context| match (kind, reply) {
            (Kind::Operator(operator), Reply::Rows(rows)) => operator.loaded(ticket, rows, context),
            (Kind::Operator(operator), Reply::Scan(scan)) => {
                operator.scanned(ticket, scan, context)
            }
            (Kind::Source(_), _) => Ok(Step::Done),
        })?;
        self.fall_asleep();
        Ok(Moved::Something)
    }

    /// Its oldest output is on its way to the consumers.
    pub(super) fn note_sent(&mut self, element: &Element) {
        self.metrics.put_out(element);
        if let Element::Watermark(watermark) = element {
            self.sent_watermark = self.sent_watermark.max(*watermark);
        }
    }

    /// An input has rows or time again. Consumers must know before what it brings is passed on
    /// (or kept): until then they do not wait for this node's watermark.
    fn wake(&mut self, input: usize) {
        self.inputs[input].idle = false;
        if std::mem::replace(&mut self.idleness, Idleness::Awake) == Idleness::Told {
            self.outbox.element(Element::Watermark(self.sent_watermark));
        }
    }

    /// Tells consumers that nothing comes for a while, once nothing waits any more.
    fn fall_asleep(&mut self) {
        if self.idleness == Idleness::Due && self.step == Step::Done {
            self.idleness = Idleness::Told;
            if let Kind::Operator(operator) = &mut self.kind {
                operator.idle();
            }
            self.outbox.element(Element::Idle);
        }
    }

    /// Gives it an element; only if it [`Node::accepts`].
    pub(super) fn push(
        &mut self,
        input: usize,
        element: Element,
        clock: &dyn Clock,
        dead_letters: &mut Vec<DeadLetter>,
    ) -> Result<(), NodeError> {
        match element {
            Element::Batch(batch) => {
                self.metrics.take_in(&batch);
                self.wake(input);
                self.call(clock, dead_letters, |kind, context| match kind {
                    Kind::Operator(operator) => operator.batch(input, batch, context),
                    Kind::Source(_) => Ok(Step::Done),
                })
            }
            Element::Watermark(watermark) => {
                self.wake(input);
                let state = &mut self.inputs[input];
                state.watermark = state.watermark.max(watermark);
                self.combine(clock, dead_letters)
            }
            Element::Idle => {
                self.inputs[input].idle = true;
                self.combine(clock, dead_letters)
            }
            Element::End => {
                self.inputs[input] = InputState {
                    watermark: TIMESTAMP_MAX,
                    idle: false,
                    ended: true,
                };
                if !self.inputs.iter().all(|input| input.ended) {
                    return self.combine(clock, dead_letters);
                }
                self.ended = true;
                self.call(clock, dead_letters, |kind, context| match kind {
                    Kind::Operator(operator) => operator.end(context),
                    Kind::Source(_) => Ok(Step::Done),
                })
            }
            Element::Barrier(_) => Ok(()),
        }
    }

    /// Tells the operator the least watermark of its inputs that are not idle. Those at
    /// [`TIMESTAMP_MAX`] have ended or are about to; time ends when all are there.
    fn combine(
        &mut self,
        clock: &dyn Clock,
        dead_letters: &mut Vec<DeadLetter>,
    ) -> Result<(), NodeError> {
        let active = self.inputs.iter().filter(|input| !input.idle);
        let under_way = active
            .map(|input| input.watermark)
            .filter(|watermark| *watermark < TIMESTAMP_MAX);
        let any_idle = self.inputs.iter().any(|input| input.idle);
        let Some(least) = under_way.min().or((!any_idle).then_some(TIMESTAMP_MAX)) else {
            if self.idleness == Idleness::Awake {
                self.idleness = Idleness::Due;
            }
            self.fall_asleep();
            return Ok(());
        };
        if least <= self.watermark {
            return Ok(());
        }
        self.watermark = least;
        self.call(clock, dead_letters, |kind, context| match kind {
            Kind::Operator(operator) => operator.watermark(least, context),
            Kind::Source(_) => Ok(Step::Done),
        })
    }

    /// Asks a source for more; `Pending` if it has none now.
    pub(super) fn poll_source(
        &mut self,
        cx: &mut Context<'_>,
        clock: &dyn Clock,
        dead_letters: &mut Vec<DeadLetter>,
    ) -> Poll<Result<bool, NodeError>> {
        let mut emitted = Poll::Pending;
        let called = self.call(clock, dead_letters, |kind, context| {
            if let Kind::Source(source) = kind {
                emitted = source.poll_emit(cx, context)?.map(Ok::<_, OperatorError>);
            }
            Ok(Step::Done)
        });
        if let Err(error) = called {
            return Poll::Ready(Err(error));
        }
        let status = match emitted {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(status)) => status,
            Poll::Ready(Err(source)) => {
                return Poll::Ready(Err(NodeError {
                    node: self.id.clone(),
                    source,
                }));
            }
        };
        let has_read = self.outbox.num_rows() > 0 || status == SourceStatus::Finished;
        if status == SourceStatus::Finished {
            self.end_source();
        }
        Poll::Ready(Ok(has_read))
    }

    /// The source has ended: nothing is late any more.
    pub(super) fn end_source(&mut self) {
        self.ended = true;
        self.outbox.element(Element::Watermark(TIMESTAMP_MAX));
        self.outbox.element(Element::End);
    }
}
