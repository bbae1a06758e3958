//! The task's loop.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use proto::types::Epoch;

use super::{
    asked::Answer,
    checkpoint::{Checkpointer, Staged},
    graph::{Graph, GraphBuilder, GraphState},
    hydrate::Hydration,
    overtake::Commanded,
    parts::{TaskCommand, TaskError, TaskEvent, TaskParts},
    replay::Replay,
    reroute::{Moving, Reroute},
    time::{Alarm, TimeAccount, Wait},
};
use crate::{Barrier, Element, flow::GateEvent};

/// How long one poll may work before others run.
const POLL_NS_MAX: u64 = 4_000_000;
/// Rows are held back in ports no longer than this: the flush deadline of small batches.
const FLUSH_NS_MAX: u64 = 10_000_000;
/// Rounds between two reports of the memory that operators hold, while there is enough.
const ROUNDS_PER_REPORT: usize = 8;

/// A running task. Completes with an error, or with its operators when it is to yield them.
pub struct Task {
    pub(super) parts: TaskParts,
    pub(super) checkpointer: Checkpointer,
    pub(super) phase: Phase,
    reads: FuturesUnordered<BoxFuture<'static, Answer>>,
    /// Events of the gate that wait for a node to take them.
    pub(super) held: VecDeque<GateEvent>,
    /// Barriers that the coordinator has asked for and the task has not passed.
    pub(super) commanded: VecDeque<Commanded>,
    pub(super) last_barrier: Epoch,
    /// When the next of them is to overtake is waited for.
    pub(super) overtaking: Alarm,
    /// It has come: what is under way is let go for it.
    pub(super) hurries: bool,
    pub(super) routing: u32,
    /// The task's place in the next routing.
    pub(super) next_place: Option<Box<Reroute>>,
    /// What came with the last change of the routing is being read.
    pub(super) moving: Option<Moving>,
    pub(super) inputs_ended: usize,
    rounds: usize,
    next_source: usize,
    sources_first: bool,
    /// Sources are not to be read any more.
    sources_held: bool,
    held_rows_since_ns: Option<u64>,
    /// The deadline that is waited for.
    alarm: Alarm,
    /// When state is to be read ahead.
    ahead: Alarm,
    time: TimeAccount,
    dead_letters: u64,
    pub(super) finished: bool,
    /// It is to stop and hand over its operators.
    yields: bool,
}

pub(super) enum Phase {
    /// What its operators need is read, and what a barrier had overtaken on its way here.
    Restoring(Hydration, Option<Replay>),
    Running,
    /// The barrier is passing the operators; the next one is `node`.
    Barrier {
        barrier: Barrier,
        node: usize,
    },
    /// It has no place any more: its last delta is on its way.
    Retired,
}

impl Task {
    /// A task of these parts.
    #[must_use]
    pub fn new(mut parts: TaskParts) -> Self {
        let mut jobs = VecDeque::new();
        if parts.restored > Epoch::ZERO {
            for (node, scope, state) in parts.graph.states() {
                jobs.extend(state.hydrate(scope).into_iter().map(|job| (node, job)));
            }
        }
        let checkpointer = Checkpointer::new(
            parts.who,
            parts.task,
            parts.cut,
            Arc::clone(&parts.store),
            Arc::clone(&parts.spawn),
            parts.has_overtaken,
        );
        let replay = parts
            .has_overtaken
            .then(|| Replay::new(parts.who, parts.task, parts.cut.key_groups, parts.restored));
        Task {
            checkpointer,
            phase: Phase::Restoring(Hydration::new(parts.who, jobs), replay),
            reads: FuturesUnordered::new(),
            held: VecDeque::new(),
            commanded: VecDeque::new(),
            last_barrier: parts.restored,
            overtaking: Alarm::default(),
            hurries: false,
            routing: parts.routing,
            next_place: None,
            moving: None,
            inputs_ended: 0,
            rounds: 0,
            next_source: 0,
            sources_first: false,
            sources_held: false,
            held_rows_since_ns: None,
            alarm: Alarm::default(),
            ahead: Alarm::default(),
            time: TimeAccount::default(),
            dead_letters: 0,
            finished: false,
            yields: false,
            parts,
        }
    }

    fn poll_restore(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TaskError>> {
        let Phase::Restoring(hydration, replay) = &mut self.phase else {
            return Poll::Ready(Ok(()));
        };
        let TaskParts {
            graph, gate, store, ..
        } = &mut self.parts;
        // Both, so that the one does not wait for the other.
        let hydrated = hydration.poll(graph, &**store, cx)?;
        if let Some(replay) = replay {
            std::task::ready!(replay.poll(gate, &**store, cx))?;
        }
        std::task::ready!(hydrated);
        self.phase = Phase::Running;
        (self.parts.events)(TaskEvent::Running);
        Poll::Ready(Ok(()))
    }

    /// One round: `Some(wait)` when there is nothing to do before the waker is called.
    fn round(&mut self, cx: &mut Context<'_>) -> Result<Option<Wait>, TaskError> {
        self.poll_commands(cx)?;
        if self.yields {
            return Ok(None);
        }
        self.poll_reads(cx)?;
        let mut state = self.parts.graph.run(&*self.parts.clock)?;
        if !matches!(self.phase, Phase::Retired) {
            self.parts.graph.read_ahead(&*self.parts.clock);
        }
        self.submit_reads();
        // What is answered at once need not wait for the next round, and every read must have been
        // polled before the task sleeps, or nothing wakes it.
        while self.poll_reads(cx)? {
            state = self.parts.graph.run(&*self.parts.clock)?;
            self.submit_reads();
        }
        self.take_dead_letters();
        self.settle_memory();
        self.parts.graph.poll_spills(cx);
        self.poll_moving(cx)?;
        self.poll_overtaken(cx);
        let (graph, clock) = (&mut self.parts.graph, &*self.parts.clock);
        self.checkpointer.encode(graph, clock);
        self.tell_staged(cx)?;
        if self.begin_hurry() {
            return Ok(None);
        }
        if matches!(self.phase, Phase::Retired) {
            return Ok(self.wait(Wait::Idle));
        }
        match state {
            GraphState::Blocked => {
                return Ok(match self.parts.graph.poll_ports(cx) {
                    Poll::Ready(()) => None,
                    Poll::Pending => self.wait(Wait::Blocked),
                });
            }
            GraphState::Stuck => return Ok(self.wait(Wait::State)),
            GraphState::Quiet | GraphState::Waiting => {}
        }
        self.flush_on_deadline()?;
        let waits = state == GraphState::Waiting;
        if let Phase::Barrier { barrier, node } = self.phase {
            return if waits {
                Ok(self.wait(Wait::State))
            } else {
                self.pass_barrier(barrier, node)
            };
        }
        if self.overtake()? || self.start_barrier() {
            return Ok(None);
        }
        if self.parts.graph.poll_drawn(cx).is_pending() {
            return Ok(self.wait(Wait::Blocked));
        }
        if self.take_input(cx)? {
            return Ok(None);
        }
        self.finish();
        if self.parts.graph.holds_rows() {
            self.parts.graph.flush_ports()?;
            self.held_rows_since_ns = None;
        }
        if self.poll_deadline(cx)?.is_ready() {
            return Ok(None);
        }
        let waits = waits || self.moving.is_some();
        Ok(self.wait(if waits { Wait::State } else { Wait::Idle }))
    }

    fn tell_staged(&mut self, cx: &mut Context<'_>) -> Result<(), TaskError> {
        let sent = self.checkpointer.sent_bytes();
        while let Poll::Ready(staged) = self.checkpointer.poll_staged(cx) {
            let Staged {
                epoch,
                objects,
                overtaken_bytes,
            } = staged?;
            (self.parts.events)(TaskEvent::Staged {
                epoch,
                objects,
                overtaken_bytes,
            });
        }
        if self.checkpointer.sent_bytes() < sent {
            // Sources may wait for that.
            self.rounds = 0;
            self.settle_memory();
        }
        Ok(())
    }

    /// Waits for the earliest deadline of a node and calls those that are due.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, TaskError> {
        let due_ns = self.parts.graph.deadline_ns();
        let (clock, timer) = (&*self.parts.clock, &*self.parts.timer);
        if self.alarm.poll(due_ns, clock, timer, cx).is_pending() {
            return Ok(Poll::Pending);
        }
        self.call_due()?;
        Ok(Poll::Ready(()))
    }

    /// Calls the nodes whose time has come, however much there is to do.
    fn call_due(&mut self) -> Result<(), TaskError> {
        let now_ns = self.parts.clock.monotonic_ns();
        let runs = matches!(self.phase, Phase::Running);
        let due_ns = self.parts.graph.deadline_ns().filter(|_| runs);
        if due_ns.is_some_and(|due_ns| due_ns <= now_ns) {
            self.parts.graph.deadline(now_ns, &*self.parts.clock)?;
        }
        Ok(())
    }

    /// Whether state is to be read ahead now, whatever else is waited for.
    fn poll_read_ahead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let goes_on = !matches!(self.phase, Phase::Retired);
        let due_ns = self.parts.graph.read_ahead_ns().filter(|_| goes_on);
        let (clock, timer) = (&*self.parts.clock, &*self.parts.timer);
        self.ahead.poll(due_ns, clock, timer, cx)
    }

    /// Nothing moves; `None` while there is a delta to encode meanwhile.
    fn wait(&self, wait: Wait) -> Option<Wait> {
        (!self.checkpointer.is_encoding()).then_some(wait)
    }

    fn poll_commands(&mut self, cx: &mut Context<'_>) -> Result<(), TaskError> {
        loop {
            match self.parts.commands.poll_next_unpin(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(None) => return Err(TaskError::Orphaned),
                Poll::Ready(Some(TaskCommand::Barrier {
                    barrier,
                    overtakes_after_ms,
                })) => {
                    let now_ns = self.parts.clock.monotonic_ns();
                    let next = Commanded::new(barrier, overtakes_after_ms, now_ns);
                    self.commanded.push_back(next);
                }
                Poll::Ready(Some(TaskCommand::Reroute(reroute))) => {
                    self.next_place = Some(reroute);
                }
                Poll::Ready(Some(TaskCommand::KeepRouting)) => self.next_place = None,
                Poll::Ready(Some(TaskCommand::Committed(epoch))) => {
                    self.parts.graph.committed(epoch);
                    self.parts.memory.committed();
                    self.rounds = 0;
                }
                Poll::Ready(Some(TaskCommand::Yield)) => self.yields = true,
                Poll::Ready(Some(TaskCommand::StopSources { drain: true })) => {
                    self.parts.graph.end_sources();
                }
                Poll::Ready(Some(TaskCommand::StopSources { drain: false })) => {
                    self.sources_held = true;
                }
            }
        }
    }

    fn poll_reads(&mut self, cx: &mut Context<'_>) -> Result<bool, TaskError> {
        let mut any = false;
        while let Poll::Ready(Some((node, ticket, reply))) = self.reads.poll_next_unpin(cx) {
            self.parts.graph.reply(node, ticket, reply?);
            any = true;
        }
        Ok(any)
    }

    fn submit_reads(&mut self) {
        for (node, ticket, asked) in self.parts.graph.take_asked() {
            let who = self.parts.who;
            self.reads
                .push(asked.send((node, ticket), &self.parts.store, who));
        }
    }

    /// Says how much memory the operators hold, now and then, and makes room where it is short.
    fn settle_memory(&mut self) {
        let due = self.rounds.is_multiple_of(ROUNDS_PER_REPORT);
        self.rounds = self.rounds.wrapping_add(1);
        let TaskParts { graph, memory, .. } = &mut self.parts;
        if due || memory.is_short() {
            let sent = self.checkpointer.sent_bytes();
            memory.hold(graph.held(sent));
            let excess = memory.excess();
            if excess > 0 {
                graph.evict(excess, memory.scratch());
                memory.hold(graph.held(sent));
            }
        }
    }

    fn take_dead_letters(&mut self) {
        let letters = self.parts.graph.take_dead_letters();
        if !letters.is_empty() {
            self.dead_letters += letters.iter().map(|letter| letter.count).sum::<u64>();
            (self.parts.events)(TaskEvent::DeadLetters(letters));
        }
    }

    fn flush_on_deadline(&mut self) -> Result<(), TaskError> {
        if !self.parts.graph.holds_rows() {
            self.held_rows_since_ns = None;
            return Ok(());
        }
        let now = self.parts.clock.monotonic_ns();
        let since = *self.held_rows_since_ns.get_or_insert(now);
        if now.saturating_sub(since) >= FLUSH_NS_MAX {
            self.parts.graph.flush_ports()?;
            self.held_rows_since_ns = None;
        }
        Ok(())
    }

    /// Begins with the next barrier that the coordinator asked for, if it is this task's to begin
    /// with. A barrier waits until the delta of the one before is encoded.
    fn start_barrier(&mut self) -> bool {
        self.forget_passed();
        let by_command = self.inputs_ended == self.parts.entries.len() && self.held.is_empty();
        if !by_command || self.checkpointer.is_busy() {
            return false;
        }
        // One change of place after the other.
        let changes = |next: &Commanded| next.barrier.routing > self.routing;
        if self.moving.is_some() && self.commanded.front().is_some_and(changes) {
            return false;
        }
        let Some(barrier) = self.commanded.front().map(|next| next.barrier) else {
            return false;
        };
        self.phase = Phase::Barrier { barrier, node: 0 };
        true
    }

    /// Lets the operators pass the barrier one by one; what one flushes is done before the next.
    fn pass_barrier(&mut self, barrier: Barrier, node: usize) -> Result<Option<Wait>, TaskError> {
        let epoch = barrier.epoch;
        if node < self.parts.graph.len() {
            self.parts.graph.barrier(node, epoch, &*self.parts.clock)?;
            self.phase = Phase::Barrier {
                barrier,
                node: node + 1,
            };
            return Ok(None);
        }
        if self.checkpointer.has_delta() {
            return Ok(self.wait(Wait::Idle));
        }
        self.last_barrier = epoch;
        self.checkpointer.freeze(&mut self.parts.graph, epoch);
        // Sources may wait for it.
        self.rounds = 0;
        self.parts.graph.send_barrier(barrier)?;
        (self.parts.events)(TaskEvent::Frozen(epoch));
        self.phase = Phase::Running;
        if barrier.routing > self.routing {
            self.change_place(barrier)?;
        }
        Ok(None)
    }

    /// Gives the graph one thing more to do. The gate and the task's own sources take turns.
    fn take_input(&mut self, cx: &mut Context<'_>) -> Result<bool, TaskError> {
        self.sources_first = !self.sources_first;
        if self.sources_first && self.take_from_sources(cx)? {
            return Ok(true);
        }
        if self.held.is_empty()
            && self.moving.as_ref().is_none_or(Moving::takes_more)
            && let Poll::Ready(event) = self.parts.gate.poll_next(cx)
        {
            self.hold(event)?;
        }
        if self.give_held()? {
            return Ok(true);
        }
        Ok(!self.sources_first && self.take_from_sources(cx)?)
    }

    fn take_from_sources(&mut self, cx: &mut Context<'_>) -> Result<bool, TaskError> {
        let sources: Vec<usize> = self.parts.graph.live_sources().collect();
        if sources.is_empty() || self.sources_held {
            return Ok(false);
        }
        let TaskParts { output, memory, .. } = &self.parts;
        if output.poll_open(cx).is_pending() || memory.poll_open(cx).is_pending() {
            if output.should_tell() || memory.should_tell() {
                (self.parts.events)(TaskEvent::SourcesWait);
            }
            return Ok(false);
        }
        for turn in 0..sources.len() {
            let index = (self.next_source + turn) % sources.len();
            let source = sources[index];
            if !self.parts.graph.accepts(source) {
                continue;
            }
            let TaskParts { graph, clock, .. } = &mut self.parts;
            if let Poll::Ready(polled) = graph.poll_source(source, cx, &**clock) {
                self.next_source = index + 1;
                if polled? {
                    self.parts.memory.has_read();
                }
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Hands the oldest event of the gate to the nodes that it is for, if all can take it.
    pub(super) fn give_held(&mut self) -> Result<bool, TaskError> {
        let Some(event) = self.held.front() else {
            return Ok(false);
        };
        let input = match event {
            GateEvent::Batch(input, _)
            | GateEvent::Watermark(input, _)
            | GateEvent::Idle(input)
            | GateEvent::End(input) => *input,
            GateEvent::Barrier(barrier) => {
                self.phase = Phase::Barrier {
                    barrier: *barrier,
                    node: 0,
                };
                self.held.pop_front();
                return Ok(true);
            }
        };
        let graph = &mut self.parts.graph;
        let entries = &self.parts.entries[input];
        if !entries.iter().all(|(node, _)| graph.accepts(*node)) {
            return Ok(false);
        }
        let element = match self.held.pop_front() {
            Some(GateEvent::Batch(_, batch)) => Element::Batch(batch),
            Some(GateEvent::Watermark(_, watermark)) => Element::Watermark(watermark),
            Some(GateEvent::Idle(_)) => Element::Idle,
            Some(GateEvent::End(_)) => {
                self.inputs_ended += 1;
                Element::End
            }
            Some(GateEvent::Barrier(_)) | None => return Ok(false),
        };
        for (node, node_input) in entries {
            graph.push(*node, *node_input, element.clone(), &*self.parts.clock)?;
        }
        Ok(true)
    }

    fn finish(&mut self) {
        if !self.finished && self.parts.graph.has_ended() {
            self.finished = true;
            let routing = self.routing;
            (self.parts.events)(TaskEvent::Finished { routing });
        }
    }

    fn leave(&mut self, wait: Wait) {
        let now = self.parts.clock.monotonic_ns();
        let split = self.time.leave(wait, now);
        self.parts
            .metrics
            .update(&mut self.parts.graph, split, self.dead_letters);
    }
}

impl Future for Task {
    type Output = Result<Graph, TaskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let started = self.parts.clock.monotonic_ns();
        self.time.come_back(started);
        if matches!(self.phase, Phase::Restoring(..)) {
            self.poll_commands(cx)?;
            if !self.yields {
                std::task::ready!(self.poll_restore(cx))?;
            }
        }
        self.call_due()?;
        loop {
            match self.round(cx) {
                Err(error) => {
                    // The record that it failed for may be among them.
                    self.take_dead_letters();
                    return Poll::Ready(Err(error));
                }
                Ok(_) if self.yields => {
                    let nothing = GraphBuilder::default().build();
                    let graph = std::mem::replace(&mut self.parts.graph, nothing);
                    return Poll::Ready(Ok(graph));
                }
                Ok(Some(wait)) if !self.poll_hurry(cx) && self.poll_read_ahead(cx).is_pending() => {
                    self.leave(wait);
                    return Poll::Pending;
                }
                Ok(_) => {}
            }
            let worked = self.parts.clock.monotonic_ns().saturating_sub(started);
            if worked > POLL_NS_MAX {
                self.leave(Wait::Yield);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }
}
