//! The operators of one task and the edges between them.
//!
//! An element moves on only when all its consumers can take it, so each operator's outbox holds
//! what one element caused and no more. Nodes are in topological order, and the last one with
//! work goes first: the graph empties itself before it takes more.

use std::task::{Context, Poll};

use proto::types::{Epoch, KeyGroupMap};
use state_client::ScanReply;

use super::{
    asked::{Asked, Reply},
    metrics::NodeMetrics,
    node::{Idleness, Kind, LateEdge, Moved, Node, NodeError},
};
use crate::{
    Barrier, Element, TIMESTAMP_MAX, TIMESTAMP_MIN, Timestamp,
    clock::Clock,
    flow::{ChannelSender, OutputPort},
    operator::{Counters, Operator, OperatorState, SourceOperator, Step, TaskScope},
    source::DeadLetter,
    state::{ScanJob, StateDelta},
};

/// Who takes a node's output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Consumer {
    /// Another node of the task.
    Node {
        /// Its index.
        node: usize,
        /// Which of its inputs.
        input: usize,
    },
    /// An output port, by index.
    Port(usize),
}

/// Collects nodes in topological order.
#[derive(Default)]
pub struct GraphBuilder {
    nodes: Vec<Node>,
    ports: Vec<OutputPort>,
}

/// The operators of one task.
pub struct Graph {
    pub(super) nodes: Vec<Node>,
    ports: Vec<OutputPort>,
    dead_letters: Vec<DeadLetter>,
    /// Ports have more than their bound: for a barrier that has overtaken.
    overdrawn: bool,
}

/// How the graph left off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum GraphState {
    /// Everything given to it is done.
    Quiet,
    /// State reads are under way; it may take more.
    Waiting,
    /// State reads are under way and it takes nothing.
    Stuck,
    /// A port has no room.
    Blocked,
}

impl GraphBuilder {
    /// Adds an operator with `inputs` inputs; its index.
    pub fn operator(
        &mut self,
        id: impl Into<String>,
        operator: Box<dyn Operator>,
        inputs: usize,
        scope: TaskScope,
    ) -> usize {
        self.node(id.into(), Kind::Operator(operator), inputs, scope)
    }

    /// Adds a source; its index.
    pub fn source(
        &mut self,
        id: impl Into<String>,
        source: Box<dyn SourceOperator>,
        scope: TaskScope,
    ) -> usize {
        self.node(id.into(), Kind::Source(source), 0, scope)
    }

    fn node(&mut self, id: String, kind: Kind, inputs: usize, scope: TaskScope) -> usize {
        self.nodes.push(Node::new(id, kind, inputs, scope));
        self.nodes.len() - 1
    }

    /// Adds an output port; its index.
    pub fn port(&mut self, port: OutputPort) -> usize {
        self.ports.push(port);
        self.ports.len() - 1
    }

    /// Sends a node's output to a consumer too.
    pub fn connect(&mut self, node: usize, consumer: Consumer) {
        if let Consumer::Node { node: to, .. } = consumer {
            assert!(node < to, "nodes are added in topological order");
        }
        self.nodes[node].consumers.push(consumer);
    }

    /// Sends rows that come too late by input `of` of a node to another one, as its only input, with the
    /// node's time. It is the only one that gets them.
    pub fn connect_late(&mut self, node: usize, of: usize, to: usize) {
        assert!(node < to, "nodes are added in topological order");
        self.nodes[node].late.push(LateEdge { of, node: to });
        self.nodes[node].outbox.take_late_rows_of(of);
    }

    /// The graph.
    #[must_use]
    pub fn build(self) -> Graph {
        Graph {
            nodes: self.nodes,
            ports: self.ports,
            dead_letters: Vec::new(),
            overdrawn: false,
        }
    }
}

impl Graph {
    /// Takes over operators of the same task of an older generation, with all that they hold of
    /// `restored`, the last committed epoch; how many. What they had under way is forgotten.
    pub fn adopt(&mut self, old: Graph, restored: Epoch) -> usize {
        let mut adopted = 0;
        for (node, mut old) in self.nodes.iter_mut().zip(old.nodes) {
            if node.id != old.id || node.scope.owned != old.scope.owned {
                continue;
            }
            if let Kind::Operator(operator) = &mut old.kind
                && operator.roll_back(restored)
            {
                node.kind = old.kind;
                // What went from memory was committed, and has not changed since.
                node.spill = old.spill;
                adopted += 1;
            }
        }
        adopted
    }

    /// An epoch is committed.
    pub(super) fn committed(&mut self, epoch: Epoch) {
        self.states()
            .for_each(|(_, _, state)| state.committed(epoch));
    }

    /// Whether a node can take an element from outside.
    pub(super) fn accepts(&self, node: usize) -> bool {
        self.nodes[node].accepts()
    }

    /// Indexes of sources that have not ended.
    pub(super) fn live_sources(&self) -> impl Iterator<Item = usize> {
        let live = |(_, node): &(usize, &Node)| matches!(node.kind, Kind::Source(_)) && !node.ended;
        self.nodes
            .iter()
            .enumerate()
            .filter(live)
            .map(|(index, _)| index)
    }

    /// All sources end now, wherever they are.
    pub(super) fn end_sources(&mut self) {
        let sources = self.nodes.iter_mut();
        let live = sources.filter(|node| matches!(node.kind, Kind::Source(_)) && !node.ended);
        live.for_each(Node::end_source);
    }

    /// Whether every node has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.nodes.iter().all(|node| node.ended)
    }

    /// Gives an element to a node; only if it [`Graph::accepts`].
    pub(super) fn push(
        &mut self,
        index: usize,
        input: usize,
        element: Element,
        clock: &dyn Clock,
    ) -> Result<(), NodeError> {
        let Graph {
            nodes,
            dead_letters,
            ..
        } = self;
        nodes[index].push(input, element, clock, dead_letters)
    }

    /// Asks a source for more; `Pending` if it has none now. Whether rows came, or it has ended: time may pass,
    /// or be found to stand still, without.
    pub(super) fn poll_source(
        &mut self,
        index: usize,
        cx: &mut Context<'_>,
        clock: &dyn Clock,
    ) -> Poll<Result<bool, NodeError>> {
        let Graph {
            nodes,
            dead_letters,
            ..
        } = self;
        nodes[index].poll_source(cx, clock, dead_letters)
    }

    /// Moves elements and resumes operators until nothing moves.
    pub(super) fn run(&mut self, clock: &dyn Clock) -> Result<GraphState, NodeError> {
        loop {
            let mut moved = false;
            let mut blocked = false;
            for index in (0..self.nodes.len()).rev() {
                loop {
                    match self.move_one(index, clock)? {
                        Moved::Nothing => break,
                        Moved::Something => moved = true,
                        Moved::Blocked => {
                            blocked = true;
                            break;
                        }
                    }
                }
            }
            if !moved {
                let any = |step| self.nodes.iter().any(|node| node.step == step);
                return Ok(match () {
                    () if blocked => GraphState::Blocked,
                    () if any(Step::Blocked) => GraphState::Stuck,
                    () if any(Step::Waiting) => GraphState::Waiting,
                    () => GraphState::Quiet,
                });
            }
        }
    }

    /// Moves the oldest element of a node's outbox, or lets the node go on.
    fn move_one(&mut self, index: usize, clock: &dyn Clock) -> Result<Moved, NodeError> {
        if self.nodes[index].outbox.is_empty() {
            let Graph {
                nodes,
                dead_letters,
                ..
            } = self;
            return nodes[index].go_on(clock, dead_letters);
        }
        let node = &self.nodes[index];
        if node.outbox.next_late().is_some() {
            return self.move_late(index, clock);
        }
        // Late rows are there alone; time is for who takes them too.
        let is_time = !matches!(node.outbox.front(), Some(Element::Batch(_)));
        let late = match is_time {
            true => node.late.as_slice(),
            false => &[],
        };
        if !late.iter().all(|edge| self.nodes[edge.node].accepts()) {
            return Ok(Moved::Nothing);
        }
        for consumer in &node.consumers {
            match *consumer {
                Consumer::Node { node, .. } if !self.nodes[node].accepts() => {
                    return Ok(Moved::Nothing);
                }
                Consumer::Port(port) if !self.ports[port].is_ready() => return Ok(Moved::Blocked),
                _ => {}
            }
        }
        let Some(element) = self.nodes[index].outbox.pop() else {
            return Ok(Moved::Nothing);
        };
        if matches!(element, Element::Barrier(_)) {
            // The task itself sends it on, once every operator has passed it.
            return Ok(Moved::Something);
        }
        self.nodes[index].note_sent(&element);
        if is_time {
            for edge in self.nodes[index].late.clone() {
                self.push(edge.node, 0, element.clone(), clock)?;
            }
        }
        let consumers = self.nodes[index].consumers.clone();
        for consumer in consumers {
            let element = element.clone();
            match consumer {
                Consumer::Node { node, input } => self.push(node, input, element, clock)?,
                Consumer::Port(port) => {
                    let id = &self.nodes[index].id;
                    let error = |source| NodeError {
                        node: id.clone(),
                        source,
                    };
                    self.ports[port].send(element).map_err(error)?;
                }
            }
        }
        Ok(Moved::Something)
    }

    /// Moves the oldest late rows of a node's outbox.
    fn move_late(&mut self, index: usize, clock: &dyn Clock) -> Result<Moved, NodeError> {
        let node = &self.nodes[index];
        let of = node.outbox.next_late();
        let edge = node.late.iter().find(|edge| Some(edge.of) == of).copied();
        if edge.is_some_and(|edge| !self.nodes[edge.node].accepts()) {
            return Ok(Moved::Nothing);
        }
        let late = self.nodes[index].outbox.pop_late();
        if let (Some(edge), Some((_, rows))) = (edge, late) {
            self.push(edge.node, 0, Element::Batch(rows), clock)?;
        }
        Ok(Moved::Something)
    }

    /// The earliest time at which a node wants to be called although nothing comes.
    pub(super) fn deadline_ns(&self) -> Option<u64> {
        self.nodes.iter().filter_map(Node::deadline_ns).min()
    }

    /// Calls the operators whose time has come and that can be called.
    pub(super) fn deadline(&mut self, now_ns: u64, clock: &dyn Clock) -> Result<(), NodeError> {
        let due = |node: &Node| node.deadline_ns().is_some_and(|due| due <= now_ns);
        for node in self.nodes.iter_mut().filter(|node| due(node)) {
            if node.accepts() {
                node.deadline(clock, &mut self.dead_letters)?;
            }
        }
        Ok(())
    }

    /// The earliest time at which a node wants to read ahead.
    pub(super) fn read_ahead_ns(&self) -> Option<u64> {
        self.nodes.iter().filter_map(Node::read_ahead_ns).min()
    }

    /// Lets the operators whose time has come read ahead, whatever they wait for.
    pub(super) fn read_ahead(&mut self, clock: &dyn Clock) {
        let now_ns = clock.monotonic_ns();
        let due = |node: &Node| node.read_ahead_ns().is_some_and(|due| due <= now_ns);
        for node in self.nodes.iter_mut().filter(|node| due(node)) {
            node.read_ahead(clock, &mut self.dead_letters);
        }
    }

    /// Registers for room in whatever port is full.
    pub(super) fn poll_ports(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut ready = Poll::Ready(());
        for port in &self.ports {
            // At every one: any of them may be what an operator waits for.
            if port.poll_ready(cx).is_pending() {
                ready = Poll::Pending;
            }
        }
        ready
    }

    /// Whether what is under way leaves by the ports though they are full, for a barrier waits for it.
    pub(super) fn hurry(&mut self, hurries: bool) {
        self.overdrawn |= hurries;
        self.ports.iter_mut().for_each(|port| port.hurry(hurries));
    }

    /// Whether there is room again for what left in a hurry: before that nothing more is taken in.
    pub(super) fn poll_drawn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.overdrawn {
            std::task::ready!(self.poll_ports(cx));
            self.overdrawn = false;
        }
        Poll::Ready(())
    }

    /// Sends what ports have collected.
    pub(super) fn flush_ports(&mut self) -> Result<(), NodeError> {
        let error = |source| NodeError {
            node: "exchange".to_owned(),
            source,
        };
        self.ports
            .iter_mut()
            .try_for_each(OutputPort::flush)
            .map_err(error)
    }

    /// Whether a port holds rows back.
    pub(super) fn holds_rows(&self) -> bool {
        self.ports.iter().any(OutputPort::holds_rows)
    }

    /// Sends a barrier by every port.
    pub(super) fn send_barrier(&mut self, barrier: Barrier) -> Result<(), NodeError> {
        let error = |source| NodeError {
            node: "exchange".to_owned(),
            source,
        };
        self.ports
            .iter_mut()
            .try_for_each(|port| port.send(Element::Barrier(barrier)))
            .map_err(error)
    }

    /// Number of nodes.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Lets a node pass the barrier.
    pub(super) fn barrier(
        &mut self,
        index: usize,
        epoch: Epoch,
        clock: &dyn Clock,
    ) -> Result<(), NodeError> {
        let Graph {
            nodes,
            dead_letters,
            ..
        } = self;
        let node = &mut nodes[index];
        if node.ended {
            return Ok(());
        }
        node.call(clock, dead_letters, |kind, context| match kind {
            Kind::Operator(operator) => operator.barrier(epoch, context),
            Kind::Source(_) => Ok(Step::Done),
        })
    }

    /// What operators ask of the state store: (node, ticket, question).
    pub(super) fn take_asked(&mut self) -> Vec<(usize, u64, Asked)> {
        let mut asked = Vec::new();
        for (index, node) in self.nodes.iter_mut().enumerate() {
            for (ticket, request) in node.outbox.take_reads() {
                let question = node.look_in_spill(request);
                asked.push((index, ticket, question));
            }
            let scans = node.outbox.take_scans().into_iter();
            asked.extend(scans.map(|(ticket, request)| (index, ticket, Asked::Scan(request))));
        }
        asked
    }

    /// The answer to a read or a scan.
    pub(super) fn reply(&mut self, index: usize, ticket: u64, reply: Reply) {
        self.nodes[index].replies.push_back((ticket, reply));
    }

    /// The state of every node that has some.
    pub(super) fn states(
        &mut self,
    ) -> impl Iterator<Item = (usize, &TaskScope, &mut dyn OperatorState)> {
        self.nodes
            .iter_mut()
            .enumerate()
            .filter_map(|(index, node)| {
                let scope = &node.scope;
                node.kind.state().map(|state| (index, scope, state))
            })
    }

    /// Takes every operator's encoded delta. What it changes is not in scratch files any more.
    pub(super) fn take_delta(&mut self) -> StateDelta {
        let mut all = StateDelta::default();
        for node in &mut self.nodes {
            let Some(state) = node.kind.state() else {
                continue;
            };
            let delta = state.take_delta();
            if let Some((spill, elsewhere)) = node.spilled() {
                let tables = delta.tables.iter();
                spill.forget(tables.flat_map(|table| table.rows.hashes()), elsewhere);
            }
            all.append(delta);
        }
        all
    }

    /// Where a node runs.
    pub(super) fn scope(&self, index: usize) -> &TaskScope {
        &self.nodes[index].scope
    }

    /// Rows of a scan that a node asked for.
    pub(super) fn hydrated(
        &mut self,
        index: usize,
        job: &ScanJob,
        reply: &ScanReply,
    ) -> Result<(), NodeError> {
        let node = &mut self.nodes[index];
        let Some(state) = node.kind.state() else {
            return Ok(());
        };
        let error = |source| NodeError {
            node: node.id.clone(),
            source,
        };
        state.hydrated(job, reply).map_err(error)
    }

    /// Right after the barrier of `epoch`: the task's key groups change. Answers the scans that must
    /// be made before rows of what came.
    pub(super) fn reassign(&mut self, to: &TaskScope, epoch: Epoch) -> Vec<(usize, ScanJob)> {
        let mut jobs = Vec::new();
        for (index, node) in self.nodes.iter_mut().enumerate() {
            let (scope, change) = node.scope.reassigned(to, epoch);
            node.scope = scope;
            if let Some(state) = node.kind.state() {
                let scans = state.reassign(&node.scope, &change);
                jobs.extend(scans.into_iter().map(|job| (index, job)));
            }
        }
        jobs
    }

    /// Forgets how far time was, and that anything has ended: the task's sources have other splits.
    pub(super) fn reset_time(&mut self) {
        self.nodes.iter_mut().for_each(Node::reset_time);
        self.ports.iter_mut().for_each(OutputPort::revive);
    }

    /// Right after a barrier: a port has other receivers.
    pub(super) fn reroute_port(
        &mut self,
        index: usize,
        senders: Vec<ChannelSender>,
        map: Option<KeyGroupMap>,
    ) {
        let time = self.time_of_port(index);
        self.ports[index].reroute(senders, map, &time);
    }

    /// What new receivers must know of the time before anything else.
    fn time_of_port(&self, index: usize) -> Vec<Element> {
        let port = Consumer::Port(index);
        let mut nodes = self.nodes.iter();
        let Some(node) = nodes.find(|node| node.consumers.contains(&port)) else {
            return Vec::new();
        };
        if self.ports[index].has_ended() {
            return vec![Element::Watermark(TIMESTAMP_MAX), Element::End];
        }
        let mut time = Vec::new();
        if node.sent_watermark > TIMESTAMP_MIN {
            time.push(Element::Watermark(node.sent_watermark));
        }
        if node.idleness == Idleness::Told {
            time.push(Element::Idle);
        }
        time
    }

    /// The task is another's from now on: nothing follows by any port.
    pub(super) fn end_ports(&mut self) {
        for port in &mut self.ports {
            port.reroute(Vec::new(), None, &[]);
        }
    }

    /// Figures of every node: id, rows and time, counters, watermark.
    pub(super) fn metrics(
        &self,
    ) -> impl Iterator<Item = (&str, &NodeMetrics, &Counters, Timestamp)> {
        self.nodes.iter().map(|node| {
            (
                node.id.as_str(),
                &node.metrics,
                &node.counters,
                node.watermark,
            )
        })
    }

    /// Records that sources could not read.
    pub(super) fn take_dead_letters(&mut self) -> Vec<DeadLetter> {
        std::mem::take(&mut self.dead_letters)
    }
}
