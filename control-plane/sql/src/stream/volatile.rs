//! Refuses expressions that give another value each time where the same row must come out twice:
//! what takes a row back would not equal the row that was sent, and the result would be wrong
//! without anyone noticing.

use proto::plan::Changelog;

use crate::error::SqlError;
use crate::logical::Expr;
use crate::optimize::expr::volatile_function;

use super::describe::updating_operator;
use super::node::{Graph, Node, NodeId, Op};
use super::sink::{Accepts, accepts};

/// Checks every node whose input takes rows back.
pub(crate) fn check(graph: &Graph, changelogs: &[Changelog]) -> Result<(), SqlError> {
    let live = graph.live();
    let exact = read_exactly(graph, &live);
    for id in (0..graph.nodes.len()).filter(|id| live[*id]) {
        let node = graph.node(id);
        let Some(name) = culprit(graph, node, id, changelogs, exact[id]) else {
            continue;
        };
        let updating = updating_operator(graph, id);
        return Err(SqlError::plan(format!(
            "{name} gives another value each time, so that what the updates of {updating} take back \
             would not equal what was sent"
        ))
        .hint(format!(
            "call {name} on rows that are only inserted, or leave it to who reads the result"
        )));
    }
    Ok(())
}

/// Nodes of which some consumer needs taken back rows to equal the rows that were sent. A sink
/// that goes by key does not.
fn read_exactly(graph: &Graph, live: &[bool]) -> Vec<bool> {
    let mut exact = vec![false; graph.nodes.len()];
    for id in (0..graph.nodes.len()).rev().filter(|id| live[*id]) {
        let node = graph.node(id);
        let asks = match &node.op {
            Op::Sink(sink) => sink
                .connector
                .as_ref()
                .is_none_or(|spec| accepts(spec) != Accepts::Upsert),
            Op::Calc { .. } | Op::Union | Op::DropUpdateBefore | Op::TieFilter(_) => exact[id],
            // It does not read its input's output.
            Op::LateRows(_) => false,
            _ => true,
        };
        node.inputs.iter().for_each(|input| exact[*input] |= asks);
    }
    exact
}

/// The function that makes a node's output unequal to itself.
fn culprit(
    graph: &Graph,
    node: &Node,
    id: NodeId,
    changelogs: &[Changelog],
    exact: bool,
) -> Option<&'static str> {
    let takes_back = |id: NodeId| changelogs[id].update_before || changelogs[id].delete;
    let any = |exprs: &[Expr]| exprs.iter().find_map(volatile_function);
    match &node.op {
        Op::Source(source) if exact && takes_back(id) => {
            any(source.pruned.as_ref()?.calc.as_ref()?)
        }
        Op::Calc {
            condition,
            projections,
        } => {
            let updates = !graph.node(node.inputs[0]).changes.is_append();
            // A filter of an update decides whether its key is there at all.
            let filter = condition.as_ref().filter(|_| updates);
            let filter = filter.and_then(volatile_function);
            let projected = exact && takes_back(node.inputs[0]);
            filter.or_else(|| projected.then(|| any(projections)).flatten())
        }
        Op::Join {
            condition: Some(condition),
            ..
        } if node.inputs.iter().any(|input| takes_back(*input)) => volatile_function(condition),
        _ => None,
    }
}
