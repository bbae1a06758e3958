//! Node ids that stay when other parts of the job change: a hash of what a node does and of the
//! ids of its inputs. FNV-1a, because the id is persisted and std's hashers may change.

use std::collections::BTreeMap;

use super::describe::expression;
use super::node::{Graph, Op};

/// The id of every node. What differs only by pruning has the same id, so that a second reader
/// of a source does not change the ids of the first.
pub(crate) fn stable_ids(graph: &Graph) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    for node in &graph.nodes {
        let (name, own) = seed(&node.op);
        let mut hash = Fnv::new();
        hash.write(own.as_bytes());
        for input in &node.inputs {
            hash.write(b"/");
            hash.write(ids[*input].as_bytes());
        }
        let id = format!("{name}-{:016x}", hash.0);
        let count = taken.entry(id.clone()).or_insert(0);
        *count += 1;
        ids.push(if *count == 1 {
            id
        } else {
            format!("{id}-{count}")
        });
    }
    ids
}

/// A readable start of the id, and what the hash is made of.
fn seed(op: &Op) -> (&'static str, String) {
    let text = match op {
        Op::Source(source) => {
            // Not its columns: those depend on who else reads it.
            return (
                "source",
                format!("{} {:?}", source.table.name, source.connector),
            );
        }
        Op::Sink(sink) => return ("sink", sink.table.clone()),
        Op::Calc {
            condition,
            projections,
        } => {
            let texts: Vec<String> = projections
                .iter()
                .chain(condition)
                .map(|e| expression(e, &[]))
                .collect();
            format!("{} {}", condition.is_some(), texts.join("; "))
        }
        Op::GroupAggregate(op) => format!("{:?} {:?}", op.keys, op.calls),
        other => format!("{other:?}"),
    };
    (name(op), text)
}

fn name(op: &Op) -> &'static str {
    match op {
        Op::Source(_) => "source",
        Op::Values(_) => "values",
        Op::Calc { .. } => "calc",
        Op::GroupAggregate(_) => "group-aggregate",
        Op::LocalAggregate(_) => "local-aggregate",
        Op::WindowAssign(_) => "window-assign",
        Op::WindowAggregate(_) => "window-aggregate",
        Op::Join { .. } => "join",
        Op::WindowJoin { .. } => "window-join",
        Op::Union => "union",
        Op::Unnest(_) => "unnest",
        Op::Expand(_) => "expand",
        Op::Rank(_) => "rank",
        Op::Deduplicate(_) => "deduplicate",
        Op::Sort(_) => "sort",
        Op::DropUpdateBefore => "drop-update-before",
        Op::Sink(_) => "sink",
    }
}

struct Fnv(u64);

impl Fnv {
    fn new() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}
