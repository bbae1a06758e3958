//! Joins of which only the best pair of each row is wanted: what reads them keeps one row per group,
//! the first by an order (a Top-1) or the greatest or least value (MAX, MIN), where the group is of
//! columns of one input and the order of columns of the other. Such a join may leave out pairs that are
//! not better than one that it has put out, before it makes rows of them. Where the group is of keys of
//! the join alone, it need not even keep rows of which all pairs are such.

use proto::plan::{self as wire, AggregateFunction};
use proto::types::LogicalType;

use crate::optimize::expr::{as_column, volatile_function};

use super::PlanOptions;
use super::node::{Graph, NodeId, Op};
use super::state_ttl;

/// Who keeps one row per group of what it reads.
struct Keeper {
    input: NodeId,
    /// What is between it and what it reads, and part of it.
    local: Option<NodeId>,
    group: Vec<usize>,
    order_by: Vec<wire::SortKey>,
}

/// A join of which a node wants the best pairs only.
pub(super) struct Wanted {
    /// From the node's input down to the join.
    pub(super) path: Vec<NodeId>,
    pair: wire::BestPair,
}

/// Says so in every join that it is true of: whoever reads it wants the same of it.
pub(super) fn mark(graph: &mut Graph, options: &PlanOptions) {
    let live = graph.live();
    let lives = |id: &usize| live[*id];
    let ages = aging(graph, options);
    let readers = graph.readers();
    for id in (0..graph.nodes.len()).filter(lives) {
        let Some(Wanted { path, pair }) = wanted(graph, id) else {
            continue;
        };
        let is_alone = path.iter().all(|node| readers[*node] == 1);
        let join = path.last().copied().unwrap_or_default();
        // A pair that changes no result keeps alive what follows, where that has a lifetime.
        if !is_alone || ages[join] {
            continue;
        }
        if let Op::Join { best, .. } = &mut graph.nodes[join].op {
            *best = Some(pair);
        }
    }
}

/// Nodes with a lifetime, or whose output comes to one with a lifetime.
fn aging(graph: &Graph, options: &PlanOptions) -> Vec<bool> {
    let mut ages = vec![false; graph.nodes.len()];
    for id in (0..graph.nodes.len()).rev() {
        ages[id] |= state_ttl::of(graph.node(id), options).is_some();
        if ages[id] {
            graph
                .node(id)
                .inputs
                .iter()
                .for_each(|input| ages[*input] = true);
        }
    }
    ages
}

/// A node that keeps one row per group.
fn keeper(graph: &Graph, id: NodeId) -> Option<Keeper> {
    let node = graph.node(id);
    match &node.op {
        Op::Rank(op) if (op.offset, op.limit) == (0, 1) && op.window.is_none() => Some(Keeper {
            input: node.inputs[0],
            local: None,
            group: places(&op.partition_by),
            order_by: op.order_by.clone(),
        }),
        Op::GroupAggregate(op) => {
            let below = graph.node(node.inputs[0]);
            let (input, keys, calls) = match &below.op {
                Op::LocalAggregate(local) if op.from_partial => {
                    (below.inputs[0], &local.keys, &local.calls)
                }
                _ if op.from_partial => return None,
                _ => (node.inputs[0], &op.keys, &op.calls),
            };
            let [call] = calls.as_slice() else {
                return None;
            };
            let descending = match call.function.parse() {
                Ok(AggregateFunction::Max) => true,
                Ok(AggregateFunction::Min) => false,
                _ => return None,
            };
            let [value] = call.args[..] else { return None };
            let logical = &graph.node(input).fields[value as usize].data_type.logical;
            if call.filter.is_some() || !compares_alike(logical) {
                return None;
            }
            Some(Keeper {
                input,
                local: op.from_partial.then_some(node.inputs[0]),
                group: places(keys),
                order_by: vec![wire::SortKey {
                    column: value,
                    descending,
                    nulls_last: true,
                }],
            })
        }
        _ => None,
    }
}

/// Types whose values MAX and MIN compare as a sort does.
fn compares_alike(logical: &LogicalType) -> bool {
    use LogicalType::{Date, Time};
    logical.is_exact_numeric() || logical.is_timestamp() || matches!(logical, Date | Time(_))
}

/// The join of which a node wants the best pairs and no others, whoever else reads it.
pub(super) fn wanted(graph: &Graph, id: NodeId) -> Option<Wanted> {
    let Keeper {
        mut input,
        local,
        mut group,
        mut order_by,
    } = keeper(graph, id)?;
    let mut path: Vec<NodeId> = local.into_iter().collect();
    loop {
        path.push(input);
        let node = graph.node(input);
        if !node.changes.is_append() {
            return None;
        }
        match &node.op {
            Op::Calc {
                condition: None,
                projections,
            } => {
                for column in &mut group {
                    *column = as_column(projections.get(*column)?)?;
                }
                for key in &mut order_by {
                    key.column = as_column(projections.get(key.column as usize)?)? as u32;
                }
                input = node.inputs[0];
            }
            Op::Join {
                kind: wire::JoinType::Inner,
                left_keys,
                right_keys,
                condition,
                ..
            } => {
                let inputs = [0, 1].map(|side| graph.node(node.inputs[side]));
                let width = inputs[0].fields.len();
                if !inputs.iter().all(|input| input.changes.is_append()) {
                    return None;
                }
                let sides = Sides {
                    width,
                    keys: [left_keys, right_keys],
                };
                let mut pair = sides.best_pair(&group, &order_by)?;
                // What was put out is told from what is kept, by the condition.
                let is_steady = condition
                    .as_ref()
                    .is_none_or(|it| volatile_function(it).is_none());
                pair.per_key &= is_steady;
                return Some(Wanted { path, pair });
            }
            _ => return None,
        }
    }
}

/// Columns of a join's output.
struct Sides<'a> {
    /// Of the left input.
    width: usize,
    keys: [&'a [usize]; 2],
}

impl Sides<'_> {
    /// The side and the column of it.
    fn place(&self, column: usize) -> (usize, usize) {
        match column.checked_sub(self.width) {
            None => (0, column),
            Some(column) => (1, column),
        }
    }

    /// Whether a column has one value in all pairs of a row of `side`.
    fn is_fixed(&self, column: usize, side: usize) -> bool {
        let (of, column) = self.place(column);
        of == side || self.keys[of].contains(&column)
    }

    fn best_pair(&self, group: &[usize], order_by: &[wire::SortKey]) -> Option<wire::BestPair> {
        [0, 1].into_iter().find_map(|per| {
            if !group.iter().all(|column| self.is_fixed(*column, per)) {
                return None;
            }
            let is_key = |column: usize| {
                let (of, column) = self.place(column);
                self.keys[of].contains(&column)
            };
            let by_other = |column: usize| self.place(column).0 != per || is_key(column);
            let mut order = order_by.iter().map(|key| key.column as usize);
            let per_key = group.iter().all(|column| is_key(*column)) && order.all(by_other);
            // What is fixed does not tell the pairs of a row apart.
            let order_by: Vec<wire::SortKey> = order_by
                .iter()
                .filter(|key| !self.is_fixed(key.column as usize, per))
                .map(|key| wire::SortKey {
                    column: self.place(key.column as usize).1 as u32,
                    ..*key
                })
                .collect();
            (!order_by.is_empty()).then_some(wire::BestPair {
                per_right: per == 1,
                order_by,
                per_key,
            })
        })
    }
}

fn places(columns: &[u32]) -> Vec<usize> {
    columns.iter().map(|column| *column as usize).collect()
}
