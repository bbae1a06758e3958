//! Inner joins all by one key as one node that keeps each input once: rows that some of them give together
//! are made whenever a row comes or goes, and never kept.
//!
//! Such joins are a tree; what lies between them passes columns on and nothing more. The node puts out what
//! the last of them did. A join with a condition beyond its key stays by itself: what it lets through may be
//! much less than what it reads.
//!
//! What becomes one node depends on the query alone, not on what else is in the job: a query that is added
//! must not take the state of another one away. So whoever reads a part of a tree gets that part beside the
//! node, and whoever wants the best pairs only of the last join gets that join beside it.

use proto::plan as wire;

use crate::optimize::expr::as_column;

use super::PlanOptions;
use super::best;
use super::node::{Bound, Distribution, Graph, Node, NodeId, Op};
use super::rank::distribution;
use super::state_ttl;

/// Of the state, by input. A join of a tree with more inputs stays by itself, and the trees below it are
/// nodes of their own: of eleven inputs joined one after the other, the first eight are one node.
static TABLES: [&str; 8] = [
    "rows of input 1",
    "rows of input 2",
    "rows of input 3",
    "rows of input 4",
    "rows of input 5",
    "rows of input 6",
    "rows of input 7",
    "rows of input 8",
];

/// Makes one node of the joins of every such tree. Nodes that are the same then become one.
pub(super) fn merge(graph: &mut Graph, options: &PlanOptions) {
    let old = std::mem::take(graph);
    let joins = Joins {
        graph: &old,
        options,
    };
    let mut places: Vec<NodeId> = Vec::with_capacity(old.nodes.len());
    for id in 0..old.nodes.len() {
        let tree = joins.tree(id);
        let tree = tree.filter(|tree| (3..=TABLES.len()).contains(&tree.leaves.len()));
        let mut node = old.node(id).clone();
        if let Some(tree) = tree {
            tree.replace(&old, &mut node);
        }
        place(&mut node, &places);
        if let Some(wanted) = best::wanted(&old, id) {
            node.inputs = vec![beside(graph, &old, &wanted.path, &places)];
        }
        places.push(graph.add(node));
    }
}

/// Has a node refer to others where they are now.
fn place(node: &mut Node, places: &[NodeId]) {
    let others = node.inputs.iter_mut().chain(&mut node.known_as);
    others.for_each(|other| *other = places[*other]);
}

/// A join and what is above it on a path down to it, as they were.
fn beside(graph: &mut Graph, old: &Graph, path: &[NodeId], places: &[NodeId]) -> NodeId {
    let mut below = None;
    for id in path.iter().rev() {
        let mut node = old.node(*id).clone();
        place(&mut node, places);
        if let Some(below) = below {
            node.inputs = vec![below];
        }
        below = Some(graph.add(node));
    }
    below.unwrap_or_default()
}

/// Joins by one key.
struct Tree {
    leaves: Vec<Leaf>,
    /// Per column of the key.
    null_safe: Vec<bool>,
    /// What the last join puts out: leaf, and column of it.
    columns: Vec<(usize, usize)>,
}

/// An input of a tree.
struct Leaf {
    node: NodeId,
    keys: Vec<usize>,
}

struct Joins<'a> {
    graph: &'a Graph,
    options: &'a PlanOptions,
}

impl Joins<'_> {
    /// The tree of which this is the last join; `None` if it is no such join.
    fn tree(&self, id: NodeId) -> Option<Tree> {
        let node = self.graph.node(id);
        let Op::Join {
            kind: wire::JoinType::Inner,
            left_keys,
            right_keys,
            null_safe,
            condition: None,
            until,
            ..
        } = &node.op
        else {
            return None;
        };
        let stays = until.iter().all(Vec::is_empty) && state_ttl::of(node, self.options).is_none();
        if !stays || node.known_as.is_some() {
            return None;
        }
        let mut tree = Tree {
            leaves: Vec::new(),
            null_safe: null_safe.clone(),
            columns: Vec::new(),
        };
        for (input, keys) in node.inputs.iter().zip([left_keys, right_keys]) {
            let side = self.part(*input, keys);
            tree.add(side.unwrap_or_else(|| self.leaf(*input, keys)));
        }
        Some(tree)
    }

    /// The tree below an input of a join by these columns of it, with its columns; `None` if there is
    /// none by the same key.
    fn part(&self, input: NodeId, keys: &[usize]) -> Option<Tree> {
        let (join, columns) = self.join_below(input)?;
        let mut tree = self.tree(join)?;
        tree.columns = columns.iter().map(|c| tree.columns[*c]).collect();
        tree.order_key(keys)?;
        Some(tree)
    }

    /// The join that an input is, and for each column of the input which one of the join's it is.
    fn join_below(&self, mut id: NodeId) -> Option<(NodeId, Vec<usize>)> {
        let mut columns: Vec<usize> = (0..self.graph.node(id).fields.len()).collect();
        loop {
            let node = self.graph.node(id);
            match &node.op {
                Op::Join { .. } => return Some((id, columns)),
                Op::Calc {
                    condition: None,
                    projections,
                } => {
                    let below = columns.iter().map(|c| as_column(projections.get(*c)?));
                    columns = below.collect::<Option<_>>()?;
                    id = node.inputs[0];
                }
                _ => return None,
            }
        }
    }

    fn leaf(&self, node: NodeId, keys: &[usize]) -> Tree {
        let width = self.graph.node(node).fields.len();
        Tree {
            leaves: vec![Leaf {
                node,
                keys: keys.to_vec(),
            }],
            null_safe: vec![true; keys.len()],
            columns: (0..width).map(|column| (0, column)).collect(),
        }
    }
}

impl Tree {
    /// Adds the tree of a side, whose key is in the order of this one's.
    fn add(&mut self, side: Tree) {
        let before = self.leaves.len();
        // What equals something that is not NULL is none either.
        for (own, sides) in self.null_safe.iter_mut().zip(side.null_safe) {
            *own &= sides;
        }
        let columns = side.columns.into_iter();
        self.columns
            .extend(columns.map(|(leaf, column)| (leaf + before, column)));
        self.leaves.extend(side.leaves);
    }

    /// Brings the key into the order of these output columns; `None` if they are not the key.
    fn order_key(&mut self, wanted: &[usize]) -> Option<()> {
        let mut order: Vec<usize> = Vec::with_capacity(wanted.len());
        for column in wanted {
            let (leaf, column) = *self.columns.get(*column)?;
            let keys = self.leaves[leaf].keys.iter().enumerate();
            let mut same = keys.filter(|(_, key)| **key == column).map(|(at, _)| at);
            order.push(same.find(|at| !order.contains(at))?);
        }
        if order.len() != self.null_safe.len() {
            return None;
        }
        for leaf in &mut self.leaves {
            leaf.keys = order.iter().map(|at| leaf.keys[*at]).collect();
        }
        self.null_safe = order.iter().map(|at| self.null_safe[*at]).collect();
        Some(())
    }

    /// Makes one node of the last join.
    fn replace(self, graph: &Graph, node: &mut Node) {
        let mut first = Vec::with_capacity(self.leaves.len());
        let mut width = 0;
        for leaf in &self.leaves {
            first.push(width);
            width += graph.node(leaf.node).fields.len();
        }
        let columns = self.columns.iter();
        let spread = match &node.distribution {
            Distribution::Hash(columns) => columns.clone(),
            Distribution::Any | Distribution::Single => Vec::new(),
        };
        node.inputs = self.leaves.iter().map(|leaf| leaf.node).collect();
        let keys = self.leaves.iter();
        node.required = keys.clone().map(|leaf| distribution(&leaf.keys)).collect();
        node.bound = Bound::Unbounded("row of each input".to_owned());
        node.ttl_ms = Vec::new();
        node.tables = &TABLES[..self.leaves.len()];
        node.op = Op::MultiJoin {
            keys: keys.map(|leaf| leaf.keys.clone()).collect(),
            null_safe: self.null_safe,
            columns: columns
                .map(|(leaf, column)| first[*leaf] + column)
                .collect(),
            spread,
        };
    }
}
