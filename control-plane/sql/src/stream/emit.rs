//! Writes the wire form of a plan: indices within fragments, exchanges, state tables.

use proto::plan::{self as wire, Changelog, node::Operator, state_bound::Kind};

use crate::logical::Expr;

use super::PlanOptions;
use super::describe;
use super::expression::to_wire;
use super::fragment::Fragments;
use super::node::{Bound, Distribution, Graph, JoinOn, LookupTable, Node, NodeId, Op, SourceOp};
use super::rank::wire_columns;
use super::state_ttl;
use super::until::RowTime;

/// Version of the key hash function that plans are made for.
const HASH_VERSION: u32 = 1;

/// The plan of a graph whose fragments are cut.
pub(crate) fn emit(
    graph: &Graph,
    ids: &[String],
    changelogs: &[Changelog],
    cut: &Fragments,
    mut warnings: Vec<String>,
    options: &PlanOptions,
) -> wire::Plan {
    let mut exchanges = Vec::new();
    let mut fragments: Vec<wire::Fragment> = Vec::new();
    let mut next_table = 1;
    for (fragment_id, fragment) in cut.fragments.iter().enumerate() {
        let mut nodes = Vec::new();
        for id in &fragment.nodes {
            let node = graph.node(*id);
            let inputs = (0..node.inputs.len())
                .map(|i| input(graph, cut, (*id, i), fragment_id, &mut exchanges))
                .collect();
            let description = describe::node(graph, *id);
            let bound = state_bound(node, options);
            if let (Some(Kind::Ttl(ttl)), Bound::Unbounded(per)) = (&bound.kind, &node.bound)
                && let Some(input) = ttl.input_ms.iter().position(|ms| *ms == 0)
            {
                let side = if input == 0 { "left" } else { "right" };
                warnings.push(format!(
                    "the state of {description} may grow for ever: of its {per}, that of the {side} one does not expire"
                ));
            }
            if let Some(Kind::Unbounded(wire::UnboundedState { per })) = &bound.kind {
                warnings.push(format!(
                    "the state of {description} may grow for ever: it holds one {per}"
                ));
            }
            nodes.push(wire::Node {
                id: ids[*id].clone(),
                description,
                inputs,
                output: Some(wire::row_type(&node.fields)),
                changelog: Some(changelogs[*id]),
                state_bound: Some(bound),
                upsert_keys: node
                    .keys
                    .iter()
                    .map(|key| wire::ColumnSet {
                        columns: wire_columns(key),
                    })
                    .collect(),
                tables: state_tables(node, &mut next_table),
                rowtime_columns: wire_columns(&node.rowtime),
                operator: Some(operator(graph, node, options)),
            });
        }
        fragments.push(wire::Fragment {
            id: fragment_id as u32,
            nodes,
            singleton: fragment.singleton,
        });
    }
    wire::Plan {
        version: wire::PLAN_VERSION,
        key_groups: options.key_groups,
        hash_version: HASH_VERSION,
        fragments,
        exchanges,
        warnings,
    }
}

/// Input `i` of a node: a node of the same fragment, or a new exchange.
fn input(
    graph: &Graph,
    cut: &Fragments,
    (id, i): (NodeId, usize),
    fragment: usize,
    exchanges: &mut Vec<wire::Exchange>,
) -> wire::Input {
    let from = graph.node(id).inputs[i];
    let position = |fragment: usize| {
        let nodes = &cut.fragments[fragment].nodes;
        nodes.iter().position(|n| *n == from).unwrap_or_default() as u32
    };
    let Some(distribution) = cut.exchanges.get(&(id, i)) else {
        return wire::Input {
            from: Some(wire::input::From::Node(position(fragment))),
        };
    };
    use wire::partitioning::Kind;
    let kind = match distribution {
        Distribution::Hash(columns) => Kind::Hash(wire::HashPartitioning {
            columns: wire_columns(columns),
        }),
        Distribution::Single => Kind::Single(wire::SinglePartitioning {}),
        Distribution::Any => Kind::Rebalance(wire::RebalancePartitioning {}),
    };
    let exchange = exchanges.len() as u32;
    let sender = cut.of(from);
    exchanges.push(wire::Exchange {
        id: exchange,
        from_fragment: sender as u32,
        from_node: position(sender),
        to_fragment: fragment as u32,
        partitioning: Some(wire::Partitioning { kind: Some(kind) }),
    });
    wire::Input {
        from: Some(wire::input::From::Exchange(exchange)),
    }
}

fn state_tables(node: &Node, next: &mut u32) -> Vec<wire::StateTable> {
    node.tables
        .iter()
        .map(|name| {
            let id = *next;
            *next += 1;
            wire::StateTable {
                id,
                name: (*name).to_owned(),
            }
        })
        .collect()
}

fn state_bound(node: &Node, options: &PlanOptions) -> wire::StateBound {
    if let Some(ttl) = state_ttl::of(node, options) {
        return wire::StateBound {
            kind: Some(Kind::Ttl(ttl)),
        };
    }
    let kind = match &node.bound {
        Bound::Stateless => Kind::Stateless(wire::Stateless {}),
        Bound::Window => Kind::Window(wire::WindowBound {}),
        Bound::Constant => Kind::Constant(wire::ConstantState {}),
        Bound::Unbounded(per) => Kind::Unbounded(wire::UnboundedState { per: per.clone() }),
    };
    wire::StateBound { kind: Some(kind) }
}

fn operator(graph: &Graph, node: &Node, options: &PlanOptions) -> Operator {
    match &node.op {
        Op::Source(source) => Operator::Source(source_operator(source, node, options)),
        Op::Values(rows) => Operator::Values(values(rows)),
        Op::Calc {
            condition,
            projections,
        } => Operator::Calc(wire::Calc {
            condition: condition.as_ref().map(to_wire),
            projections: projections.iter().map(to_wire).collect(),
        }),
        Op::GroupAggregate(op) => Operator::GroupAggregate(op.clone()),
        Op::LocalAggregate(op) => Operator::LocalAggregate(op.clone()),
        Op::WindowAssign(spec) => Operator::WindowAssign(wire::WindowAssign {
            window: Some(spec.clone()),
        }),
        Op::WindowAggregate(op) => Operator::WindowAggregate(op.clone()),
        Op::Join { .. } => Operator::Join(join(&node.op, |input| {
            unique_key(graph, node.inputs[input])
        })),
        Op::MultiJoin {
            keys,
            null_safe,
            columns,
            spread: _,
        } => multi_join(keys, null_safe, columns),
        Op::WindowJoin {
            kind,
            left_keys,
            right_keys,
            null_safe,
            condition,
            left_window,
            right_window,
        } => Operator::WindowJoin(wire::WindowJoin {
            r#type: *kind as i32,
            left_keys: wire_columns(left_keys),
            right_keys: wire_columns(right_keys),
            null_safe: null_safe.clone(),
            condition: condition.as_ref().map(to_wire),
            left_window: Some(*left_window),
            right_window: Some(*right_window),
        }),
        Op::IntervalJoin {
            on,
            left_time,
            right_time,
            lower_ms,
            upper_ms,
        } => interval_join(on, (*left_time, *right_time), (*lower_ms, *upper_ms)),
        Op::TemporalJoin {
            on,
            left_time,
            right_time,
        } => temporal_join(on, *left_time, *right_time),
        Op::LookupJoin { on, table } => lookup_join(on, table),
        Op::Union => Operator::Union(wire::Union {}),
        Op::Unnest(op) => Operator::Unnest(*op),
        Op::Expand(op) => Operator::Expand(op.clone()),
        Op::Rank(op) => Operator::Rank(op.clone()),
        Op::Deduplicate(op) => Operator::Deduplicate(op.clone()),
        Op::OverAggregate(op) => Operator::OverAggregate(op.clone()),
        Op::Sort(op) => Operator::Sort(op.clone()),
        Op::DropUpdateBefore => Operator::DropUpdateBefore(wire::DropUpdateBefore {}),
        Op::TieFilter(op) => Operator::TieFilter(op.clone()),
        Op::LateRows(op) => Operator::LateRows(*op),
        Op::Sink(op) => Operator::Sink(op.clone()),
    }
}

fn values(rows: &[Vec<Expr>]) -> wire::Values {
    let row = |row: &Vec<Expr>| wire::ValuesRow {
        values: row.iter().map(to_wire).collect(),
    };
    wire::Values {
        rows: rows.iter().map(row).collect(),
    }
}

/// An updating join; `unique` gives the unique key of an input.
fn join(op: &Op, unique: impl Fn(usize) -> Option<wire::ColumnSet>) -> wire::Join {
    let Op::Join {
        kind,
        left_keys,
        right_keys,
        null_safe,
        condition,
        until: [left_until, right_until],
        best,
    } = op
    else {
        return wire::Join::default();
    };
    wire::Join {
        r#type: *kind as i32,
        left_keys: wire_columns(left_keys),
        right_keys: wire_columns(right_keys),
        null_safe: null_safe.clone(),
        condition: condition.as_ref().map(to_wire),
        left_unique_key: unique(0),
        right_unique_key: unique(1),
        left_until: left_until.iter().map(row_time).collect(),
        right_until: right_until.iter().map(row_time).collect(),
        best_pair: best.clone(),
    }
}

fn row_time(time: &RowTime) -> wire::RowTime {
    wire::RowTime {
        time: Some(to_wire(&time.time)),
        plus_ms: time.plus_ms,
    }
}

fn multi_join(keys: &[Vec<usize>], null_safe: &[bool], columns: &[usize]) -> Operator {
    let input = |keys: &Vec<usize>| wire::MultiJoinInput {
        keys: wire_columns(keys),
    };
    Operator::MultiJoin(wire::MultiJoin {
        inputs: keys.iter().map(input).collect(),
        null_safe: null_safe.to_vec(),
        columns: wire_columns(columns),
    })
}

fn interval_join(
    on: &JoinOn,
    (left_time, right_time): (usize, usize),
    (lower_ms, upper_ms): (i64, i64),
) -> Operator {
    Operator::IntervalJoin(wire::IntervalJoin {
        r#type: on.kind as i32,
        left_keys: wire_columns(&on.left_keys),
        right_keys: wire_columns(&on.right_keys),
        null_safe: on.null_safe.clone(),
        condition: on.condition.as_ref().map(to_wire),
        left_time: left_time as u32,
        right_time: right_time as u32,
        lower_ms,
        upper_ms,
    })
}

fn temporal_join(on: &JoinOn, left_time: usize, right_time: usize) -> Operator {
    Operator::TemporalJoin(wire::TemporalJoin {
        r#type: on.kind as i32,
        left_keys: wire_columns(&on.left_keys),
        right_keys: wire_columns(&on.right_keys),
        null_safe: on.null_safe.clone(),
        condition: on.condition.as_ref().map(to_wire),
        left_time: left_time as u32,
        right_time: right_time as u32,
    })
}

fn lookup_join(on: &JoinOn, table: &LookupTable) -> Operator {
    Operator::LookupJoin(wire::LookupJoin {
        r#type: on.kind as i32,
        left_keys: wire_columns(&on.left_keys),
        right_keys: wire_columns(&on.right_keys),
        null_safe: on.null_safe.clone(),
        condition: on.condition.as_ref().map(to_wire),
        table: Some(wire::LookupTable {
            table: table.table.name.clone(),
            connector: Some(table.table.connector.clone()),
            produced: Some(wire::row_type(&table.produced)),
            calc: Some(wire::Calc {
                condition: table.condition.as_ref().map(to_wire),
                projections: table.projections.iter().map(to_wire).collect(),
            }),
            columns: Some(wire::row_type(&table.fields)),
        }),
    })
}

fn unique_key(graph: &Graph, node: NodeId) -> Option<wire::ColumnSet> {
    graph.node(node).keys.first().map(|key| wire::ColumnSet {
        columns: wire_columns(key),
    })
}

fn source_operator(source: &SourceOp, node: &Node, options: &PlanOptions) -> wire::Source {
    let pruned = source.pruned.as_deref();
    wire::Source {
        table: source.table.name.clone(),
        connector: Some(source.connector.clone()),
        produced: Some(wire::row_type(
            pruned.map_or(&node.fields, |pruned| &pruned.produced),
        )),
        calc: pruned
            .and_then(|pruned| pruned.calc.as_ref())
            .map(|exprs| wire::Calc {
                condition: None,
                projections: exprs.iter().map(to_wire).collect(),
            }),
        watermark: pruned
            .and_then(|pruned| pruned.watermark.as_ref())
            .map(|(column, expr)| wire::Watermark {
                column: *column as u32,
                expr: Some(to_wire(expr)),
                idle_timeout_ms: options.idle_timeout_ms,
            }),
    }
}
