//! Node ids that stay when other parts of the job change: a hash of what a node does and of the
//! ids of its inputs. FNV-1a, because the id is persisted and std's hashers may change.

use std::collections::BTreeMap;

use prost::Message as _;
use proto::plan as wire;

use super::describe::expression;
use super::node::{Graph, JoinOn, LookupTable, Op};
use super::until::RowTime;
use crate::logical::Expr;

/// The id of every node. What differs only by pruning has the same id, so that a second reader
/// of a source does not change the ids of the first.
pub(crate) fn stable_ids(graph: &Graph) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    for node in &graph.nodes {
        if let Some(known_as) = node.known_as {
            ids.push(ids[known_as].clone());
            continue;
        }
        let (name, own) = seed(&node.op);
        let mut hash = Fnv::new();
        hash.write(&own);
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

/// A readable start of the id, and what the hash is made of: what is in the plan as it is there, since
/// fields that the plan gets later leave no trace where they are not used.
fn seed(op: &Op) -> (&'static str, Vec<u8>) {
    let texts = |exprs: &mut dyn Iterator<Item = &Expr>| {
        let texts: Vec<String> = exprs.map(|e| expression(e, &[])).collect();
        texts.join("; ")
    };
    let bytes = match op {
        // Not its columns: those depend on who else reads it.
        Op::Source(source) => {
            let mut bytes = source.connector.encode_to_vec();
            bytes.extend_from_slice(source.table.name.to_string().as_bytes());
            bytes
        }
        Op::Sink(sink) => sink.table.clone().into_bytes(),
        Op::Values(rows) => {
            let rows: Vec<String> = rows.iter().map(|row| texts(&mut row.iter())).collect();
            rows.join("\n").into_bytes()
        }
        Op::Calc {
            condition,
            projections,
        } => {
            let texts = texts(&mut projections.iter().chain(condition));
            format!("{} {texts}", condition.is_some()).into_bytes()
        }
        // Not whether old rows are sent, which depends on who reads.
        Op::GroupAggregate(op) => wire::GroupAggregate {
            keys: op.keys.clone(),
            calls: op.calls.clone(),
            ..wire::GroupAggregate::default()
        }
        .encode_to_vec(),
        // Whatever the query calls its calls.
        Op::OverAggregate(op) => wire::OverAggregate {
            calls: op.calls.iter().cloned().map(nameless).collect(),
            emit_update_before: false,
            ..op.clone()
        }
        .encode_to_vec(),
        Op::LocalAggregate(op) => op.encode_to_vec(),
        Op::WindowAssign(op) => op.encode_to_vec(),
        Op::WindowAggregate(op) => op.encode_to_vec(),
        // All of it: which joins it is made of is not seen in its inputs.
        Op::MultiJoin {
            keys,
            null_safe,
            columns,
            spread,
        } => format!("{keys:?} {null_safe:?} {columns:?} {spread:?}").into_bytes(),
        Op::Join { .. }
        | Op::WindowJoin { .. }
        | Op::IntervalJoin { .. }
        | Op::TemporalJoin { .. }
        | Op::LookupJoin { .. } => join_seed(op),
        Op::Union | Op::DropUpdateBefore => Vec::new(),
        Op::Unnest(op) => op.encode_to_vec(),
        Op::Expand(op) => op.encode_to_vec(),
        Op::Rank(op) => op.encode_to_vec(),
        Op::Deduplicate(op) => op.encode_to_vec(),
        Op::Sort(op) => op.encode_to_vec(),
        Op::TieFilter(op) => op.encode_to_vec(),
        Op::LateRows(op) => op.encode_to_vec(),
    };
    (name(op), bytes)
}

/// What the hash of a join is made of.
fn join_seed(op: &Op) -> Vec<u8> {
    let keyed = |kind: &wire::JoinType,
                 keys: [&[usize]; 2],
                 null_safe: &[bool],
                 condition: &Option<Expr>| {
        let condition = condition.as_ref().map(|e| expression(e, &[]));
        let condition = condition.unwrap_or_default();
        let text = format!("{} {keys:?} {null_safe:?} {condition}", kind.as_str_name());
        text.into_bytes()
    };
    let of_on = |on: &JoinOn| {
        let keys: [&[usize]; 2] = [&on.left_keys, &on.right_keys];
        keyed(&on.kind, keys, &on.null_safe, &on.condition)
    };
    match op {
        Op::Join {
            kind,
            left_keys,
            right_keys,
            null_safe,
            condition,
            until,
            // What is left out depends on who reads.
            best: _,
        } => {
            let mut bytes = keyed(kind, [left_keys, right_keys], null_safe, condition);
            bytes.extend(until_seed(until).into_bytes());
            bytes
        }
        Op::WindowJoin {
            kind,
            left_keys,
            right_keys,
            null_safe,
            condition,
            left_window,
            right_window,
        } => {
            let mut bytes = keyed(kind, [left_keys, right_keys], null_safe, condition);
            bytes.extend(left_window.encode_to_vec());
            bytes.extend(right_window.encode_to_vec());
            bytes
        }
        Op::IntervalJoin {
            on,
            left_time,
            right_time,
            lower_ms,
            upper_ms,
        } => {
            let mut bytes = of_on(on);
            let bounds = format!(" {left_time} {right_time} {lower_ms} {upper_ms}");
            bytes.extend(bounds.into_bytes());
            bytes
        }
        Op::TemporalJoin {
            on,
            left_time,
            right_time,
        } => {
            let mut bytes = of_on(on);
            bytes.extend(format!(" {left_time} {right_time}").into_bytes());
            bytes
        }
        Op::LookupJoin { on, table } => {
            let mut bytes = of_on(on);
            bytes.extend(what_is_read(table).into_bytes());
            bytes
        }
        _ => Vec::new(),
    }
}

/// Nothing where rows stay, so that such joins have the ids that they had before rows went.
fn until_seed(until: &[Vec<RowTime>; 2]) -> String {
    let time = |time: &RowTime| format!("{} {}", expression(&time.time, &[]), time.plus_ms);
    let sides = until.iter().enumerate().filter(|(_, t)| !t.is_empty());
    let sides = sides.map(|(side, times)| {
        let times: Vec<String> = times.iter().map(time).collect();
        format!(" until {side} {}", times.join("; "))
    });
    sides.collect()
}

fn what_is_read(table: &LookupTable) -> String {
    let read = table.projections.iter().chain(&table.condition);
    let read: Vec<String> = read.map(|e| expression(e, &[])).collect();
    format!(" {} {}", table.table.name, read.join("; "))
}

/// What a call computes, whatever the query calls it.
fn nameless(call: wire::OverCall) -> wire::OverCall {
    use wire::over_call::Function;
    let function = call.function.map(|function| match function {
        Function::Aggregate(call) => Function::Aggregate(wire::AggregateCall {
            name: String::new(),
            ..call
        }),
        other => other,
    });
    wire::OverCall {
        function,
        name: String::new(),
        ..call
    }
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
        Op::MultiJoin { .. } => "multi-join",
        Op::WindowJoin { .. } => "window-join",
        Op::IntervalJoin { .. } => "interval-join",
        Op::TemporalJoin { .. } => "temporal-join",
        Op::LookupJoin { .. } => "lookup-join",
        Op::Union => "union",
        Op::Unnest(_) => "unnest",
        Op::Expand(_) => "expand",
        Op::Rank(_) => "rank",
        Op::Deduplicate(_) => "deduplicate",
        Op::OverAggregate(_) => "over-aggregate",
        Op::Sort(_) => "sort",
        Op::DropUpdateBefore => "drop-update-before",
        Op::TieFilter(_) => "tie-filter",
        Op::LateRows(_) => "late-rows",
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
