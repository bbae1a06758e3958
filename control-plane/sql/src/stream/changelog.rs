//! Decides which changes flow on every edge.
//!
//! Going up, a node's [`Changes`] follow from its inputs'. Old rows of updates (`-U`) are sent
//! only where a consumer needs them; that is decided here, going down from the sinks.

use proto::plan::Changelog;

use super::calc::is_on_key;
use super::node::{Graph, Node, Op};
use super::sink::{Accepts, accepts};

/// The changelog of every node's output. Sets `emit_update_before` where a node may choose, and
/// takes out DropUpdateBefore nodes that have nothing to drop.
pub(crate) fn infer(graph: &mut Graph) -> Vec<Changelog> {
    let live = graph.live();
    let mut needed = vec![false; graph.nodes.len()];
    for id in (0..graph.nodes.len()).rev() {
        if !live[id] {
            continue;
        }
        let node = graph.node(id);
        for input in node.inputs.clone() {
            let below = graph.node(input);
            needed[input] |= below.changes.update && needs_old_rows(node, needed[id], below);
        }
    }
    let mut sent = vec![false; graph.nodes.len()];
    for id in 0..graph.nodes.len() {
        let by_input = graph.node(id).inputs.iter().any(|input| sent[*input]);
        let node = &mut graph.nodes[id];
        let updates = node.changes.update;
        sent[id] = match &mut node.op {
            Op::GroupAggregate(op) => {
                op.emit_update_before = needed[id] && updates;
                op.emit_update_before
            }
            Op::Rank(op) => {
                op.emit_update_before = needed[id] && updates;
                op.emit_update_before
            }
            Op::Deduplicate(op) => {
                op.emit_update_before = needed[id] && updates;
                op.emit_update_before
            }
            Op::OverAggregate(op) => {
                op.emit_update_before = needed[id] && updates;
                op.emit_update_before
            }
            Op::Source(_) => updates,
            Op::DropUpdateBefore => false,
            _ => updates && by_input,
        };
    }
    bypass_drops(graph, &sent);
    graph
        .nodes
        .iter()
        .zip(sent)
        .map(|(node, update_before)| Changelog {
            insert: true,
            update_before,
            update_after: node.changes.update,
            delete: node.changes.delete,
        })
        .collect()
}

/// Whether a consumer must see the old rows of an updating input.
fn needs_old_rows(consumer: &Node, asked: bool, input: &Node) -> bool {
    match &consumer.op {
        Op::Calc {
            condition: Some(condition),
            ..
        } => asked || !is_on_key(condition, &input.keys),
        Op::Calc { .. } | Op::Union => asked,
        Op::DropUpdateBefore | Op::LateRows(_) => false,
        Op::Sink(sink) => sink
            .connector
            .as_ref()
            .is_none_or(|spec| accepts(spec) != Accepts::Upsert),
        _ => true,
    }
}

fn bypass_drops(graph: &mut Graph, sent: &[bool]) {
    for id in 0..graph.nodes.len() {
        let node = graph.node(id);
        if node.op != Op::DropUpdateBefore || sent[node.inputs[0]] {
            continue;
        }
        let input = node.inputs[0];
        for consumer in &mut graph.nodes[id + 1..] {
            for slot in &mut consumer.inputs {
                if *slot == id {
                    *slot = input;
                }
            }
        }
    }
}
