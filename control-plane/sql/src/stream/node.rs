//! The stream plan while it is built: a graph of nodes, shared where two parts of a job are the
//! same. Holds what later stages need to know of a node; decides nothing.

use std::sync::Arc;

use proto::plan as wire;
use proto::types::Field;

use crate::catalog::Table;
use crate::logical::Expr;

use super::until::RowTime;

/// Position in [`Graph::nodes`]. Inputs come before their consumers.
pub(crate) type NodeId = usize;

/// How rows are spread over tasks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Distribution {
    /// Anyhow.
    Any,
    /// By the hash of these columns, in this order.
    Hash(Vec<usize>),
    /// All in the one task of a singleton fragment.
    Single,
}

/// Which changes a node's output may have beside inserts. Whether the old row of an update is
/// sent too depends on the consumers and is decided in [`super::changelog`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Changes {
    pub(crate) update: bool,
    pub(crate) delete: bool,
}

impl Changes {
    pub(crate) const NONE: Changes = Changes {
        update: false,
        delete: false,
    };
    pub(crate) const UPDATES: Changes = Changes {
        update: true,
        delete: false,
    };
    pub(crate) const ALL: Changes = Changes {
        update: true,
        delete: true,
    };

    pub(crate) fn is_append(self) -> bool {
        !self.update && !self.delete
    }

    pub(crate) fn union(self, other: Changes) -> Changes {
        Changes {
            update: self.update || other.update,
            delete: self.delete || other.delete,
        }
    }
}

/// Columns that carry a row's window, and which windows they are.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Windowed {
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// window_time, where it is still there.
    pub(crate) time: Option<usize>,
    /// The event time that rows were assigned to windows by, where it is still there.
    pub(crate) by: Option<usize>,
    pub(crate) kind: wire::WindowKind,
    pub(crate) size_ms: u64,
    pub(crate) step_ms: u64,
    pub(crate) offset_ms: i64,
}

impl Windowed {
    pub(crate) fn same_windows(&self, other: &Windowed) -> bool {
        let spec = |w: &Windowed| (w.kind, w.size_ms, w.step_ms, w.offset_ms);
        spec(self) == spec(other)
    }

    /// Whether no window is longer than `size_ms`.
    pub(crate) fn has_size(&self) -> bool {
        self.kind != wire::WindowKind::Session
    }

    /// These windows, where only what is not before the event time in `column` still carries event
    /// time: they are gone unless rows were assigned to them by it.
    pub(crate) fn not_before(self, column: usize) -> Option<Windowed> {
        let holds = self.by == Some(column) || self.time == Some(column);
        holds.then_some(self)
    }

    /// These windows, of rows that leave when their window is over: their own event time is behind the
    /// watermark by then.
    pub(crate) fn closed(self) -> Windowed {
        Windowed { by: None, ..self }
    }

    /// Columns that carry event time of such rows: the window's own alone.
    pub(crate) fn closed_times(self) -> Vec<usize> {
        self.time.into_iter().collect()
    }

    /// The same, of columns that stand `by` places further on.
    pub(crate) fn shifted(self, by: usize) -> Windowed {
        let place = |column: usize| column + by;
        Windowed {
            start: place(self.start),
            end: place(self.end),
            time: self.time.map(place),
            by: self.by.map(place),
            ..self
        }
    }

    pub(crate) fn attached(&self) -> wire::AttachedWindow {
        wire::AttachedWindow {
            window_start: self.start as u32,
            window_end: self.end as u32,
        }
    }
}

/// How much state a node keeps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Bound {
    Stateless,
    Window,
    Constant,
    /// As many rows as the text says.
    Unbounded(String),
}

/// A scan before its columns are known: every consumer is a [`Op::Calc`] over all the table's
/// columns until [`super::source`] prunes it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct SourceOp {
    pub(crate) table: Arc<Table>,
    pub(crate) connector: wire::ConnectorSpec,
    /// Column and value that the pushed-down filter fixes.
    pub(crate) constants: Vec<(usize, Expr)>,
    /// Set by pruning.
    pub(crate) pruned: Option<Box<PrunedSource>>,
}

/// What a scan makes once its readers are known.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct PrunedSource {
    pub(crate) produced: Vec<Field>,
    pub(crate) calc: Option<Vec<Expr>>,
    /// Column and watermark expression over the node's output.
    pub(crate) watermark: Option<(usize, Expr)>,
}

/// Which rows of two inputs belong together.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct JoinOn {
    pub(crate) kind: wire::JoinType,
    pub(crate) left_keys: Vec<usize>,
    pub(crate) right_keys: Vec<usize>,
    pub(crate) null_safe: Vec<bool>,
    /// Over left columns then right columns.
    pub(crate) condition: Option<Expr>,
}

/// What is read of a table that is looked up.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct LookupTable {
    pub(crate) table: Arc<Table>,
    /// What the connector makes.
    pub(crate) produced: Vec<Field>,
    /// Over that: which rows count, and columns of what is joined.
    pub(crate) condition: Option<Expr>,
    pub(crate) projections: Vec<Expr>,
    pub(crate) fields: Vec<Field>,
}

/// What a node does: the wire form where that is all there is to know, with logical expressions
/// where they are still to be rewritten.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Op {
    Source(SourceOp),
    Values(Vec<Vec<Expr>>),
    Calc {
        condition: Option<Expr>,
        projections: Vec<Expr>,
    },
    GroupAggregate(wire::GroupAggregate),
    LocalAggregate(wire::LocalAggregate),
    WindowAssign(wire::WindowSpec),
    WindowAggregate(wire::WindowAggregate),
    Join {
        kind: wire::JoinType,
        left_keys: Vec<usize>,
        right_keys: Vec<usize>,
        null_safe: Vec<bool>,
        condition: Option<Expr>,
        /// Per side: a row goes when the watermark is at the least of these; none: it stays.
        until: [Vec<RowTime>; 2],
        /// Which pairs are enough, where only the best of each row are wanted.
        best: Option<wire::BestPair>,
    },
    /// INNER.
    MultiJoin {
        /// Of each input.
        keys: Vec<Vec<usize>>,
        null_safe: Vec<bool>,
        /// What comes out: columns of all inputs, one input's after the other's.
        columns: Vec<usize>,
        /// Columns of the output that it is spread by: the key, of the input whose key the query says.
        spread: Vec<usize>,
    },
    WindowJoin {
        kind: wire::JoinType,
        left_keys: Vec<usize>,
        right_keys: Vec<usize>,
        null_safe: Vec<bool>,
        condition: Option<Expr>,
        left_window: wire::AttachedWindow,
        right_window: wire::AttachedWindow,
    },
    /// Within `lower_ms` to `upper_ms` from the time of the left row to that of the right one.
    IntervalJoin {
        on: JoinOn,
        left_time: usize,
        right_time: usize,
        lower_ms: i64,
        upper_ms: i64,
    },
    TemporalJoin {
        on: JoinOn,
        left_time: usize,
        right_time: usize,
    },
    /// With what a table outside holds when a row comes.
    LookupJoin {
        on: JoinOn,
        table: Box<LookupTable>,
    },
    Union,
    Unnest(wire::Unnest),
    Expand(wire::Expand),
    Rank(wire::Rank),
    Deduplicate(wire::Deduplicate),
    OverAggregate(wire::OverAggregate),
    Sort(wire::Sort),
    DropUpdateBefore,
    TieFilter(wire::TieFilter),
    /// What its input drops of one of its own inputs, because it comes too late.
    LateRows(wire::LateRows),
    Sink(wire::Sink),
}

/// A node and what is known of its output.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Node {
    pub(crate) op: Op,
    pub(crate) inputs: Vec<NodeId>,
    pub(crate) fields: Vec<Field>,
    pub(crate) changes: Changes,
    /// What each input must be.
    pub(crate) required: Vec<Distribution>,
    /// What the output is.
    pub(crate) distribution: Distribution,
    /// Column sets that identify a row, smallest first.
    pub(crate) keys: Vec<Vec<usize>>,
    /// Columns that carry event time.
    pub(crate) rowtime: Vec<usize>,
    pub(crate) windowed: Option<Windowed>,
    pub(crate) bound: Bound,
    /// How long what comes from each input is kept, where a hint says so; else as the job says.
    pub(crate) ttl_ms: Vec<Option<u64>>,
    /// Names of the state tables that the operator uses, in the order of its contract.
    pub(crate) tables: &'static [&'static str],
    /// A node that computes the same from the same, by other means, whose id this one has: either goes on
    /// with the state of the other. Only one of them is in a plan.
    pub(crate) known_as: Option<NodeId>,
}

impl Node {
    /// A stateless node over inputs that may be spread anyhow; what differs is set afterwards.
    pub(crate) fn new(op: Op, inputs: Vec<NodeId>, fields: Vec<Field>) -> Node {
        Node {
            required: vec![Distribution::Any; inputs.len()],
            op,
            inputs,
            fields,
            changes: Changes::NONE,
            distribution: Distribution::Any,
            keys: Vec::new(),
            rowtime: Vec::new(),
            windowed: None,
            bound: Bound::Stateless,
            ttl_ms: Vec::new(),
            tables: &[],
            known_as: None,
        }
    }
}

/// The nodes of a job.
#[derive(Default, Debug)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
}

impl Graph {
    /// Adds a node, or gives the one that is the same already.
    pub(crate) fn add(&mut self, node: Node) -> NodeId {
        let same = |known: &Node| {
            known.op == node.op && known.inputs == node.inputs && known.ttl_ms == node.ttl_ms
        };
        let shareable = !matches!(node.op, Op::Sink(_));
        if shareable && let Some(id) = self.nodes.iter().position(same) {
            return id;
        }
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id]
    }

    /// The nodes that a sink reads, directly or not.
    pub(crate) fn live(&self) -> Vec<bool> {
        let mut live = vec![false; self.nodes.len()];
        for id in (0..self.nodes.len()).rev() {
            let node = &self.nodes[id];
            live[id] |= matches!(node.op, Op::Sink(_));
            if live[id] {
                for input in &node.inputs {
                    live[*input] = true;
                }
            }
        }
        live
    }

    /// How often each node is read by nodes that are live.
    pub(crate) fn readers(&self) -> Vec<usize> {
        let mut readers = vec![0; self.nodes.len()];
        let live = self.live();
        let nodes = self.nodes.iter().zip(live).filter(|(_, live)| *live);
        for input in nodes.flat_map(|(node, _)| &node.inputs) {
            readers[*input] += 1;
        }
        readers
    }
}

/// Sorts key sets by size and drops those that hold a smaller one.
pub(crate) fn tidy_keys(mut keys: Vec<Vec<usize>>) -> Vec<Vec<usize>> {
    for key in &mut keys {
        key.sort_unstable();
        key.dedup();
    }
    keys.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
    keys.dedup();
    let mut kept: Vec<Vec<usize>> = Vec::new();
    for key in keys {
        let implied = kept
            .iter()
            .any(|small| small.iter().all(|column| key.contains(column)));
        if !implied {
            kept.push(key);
        }
    }
    kept.truncate(KEYS_MAX);
    kept
}

/// More key sets than this tell nobody anything.
const KEYS_MAX: usize = 4;
