//! Filters and projections: one Calc each, merged with the Calc below.

use proto::types::Field;

use crate::logical::Expr;
use crate::optimize::expr::{and, as_column, columns, conjuncts, is_deterministic, substitute};
use crate::optimize::may_merge;
use crate::optimize::simplify::simplify;

use super::node::{Bound, Distribution, Graph, Node, NodeId, Op, Windowed, tidy_keys};

/// Adds `SELECT projections WHERE condition` over a node. Columns are named by `names`.
pub(crate) fn calc(
    graph: &mut Graph,
    input: NodeId,
    condition: Option<Expr>,
    projections: Vec<Expr>,
    names: Vec<String>,
) -> NodeId {
    let (input, condition, mut projections) = merge(graph, input, condition, projections);
    let mut names = names;
    if projections.is_empty() {
        // A batch needs a column to have rows.
        projections.push(crate::optimize::expr::truth(true));
        names.push("$row".to_owned());
    }
    if condition.is_none() && is_identity(graph.node(input), &projections) {
        return input;
    }
    let below = graph.node(input);
    let position = |column: usize| {
        projections
            .iter()
            .position(|e| as_column(e) == Some(column))
    };
    let all = |columns: &[usize]| -> Option<Vec<usize>> {
        columns.iter().map(|c| position(*c)).collect()
    };
    let distribution = match &below.distribution {
        Distribution::Hash(columns) => all(columns).map_or(Distribution::Any, Distribution::Hash),
        other => other.clone(),
    };
    let windowed = below.windowed.and_then(|w| {
        Some(Windowed {
            start: position(w.start)?,
            end: position(w.end)?,
            time: w.time.and_then(position),
            by: w.by.and_then(position),
            ..w
        })
    });
    let rowtime = projections
        .iter()
        .enumerate()
        .filter(|(_, e)| as_column(e).is_some_and(|c| below.rowtime.contains(&c)))
        .map(|(i, _)| i)
        .collect();
    let fields = projections
        .iter()
        .zip(names)
        .map(|(e, name)| Field::new(name, e.data_type.clone()))
        .collect();
    let node = Node {
        required: vec![Distribution::Any],
        changes: below.changes,
        distribution,
        keys: tidy_keys(below.keys.iter().filter_map(|key| all(key)).collect()),
        rowtime,
        windowed,
        bound: Bound::Stateless,
        ..Node::new(
            Op::Calc {
                condition,
                projections,
            },
            vec![input],
            fields,
        )
    };
    graph.add(node)
}

/// Only the condition.
pub(crate) fn filter(graph: &mut Graph, input: NodeId, condition: Option<Expr>) -> NodeId {
    if condition.is_none() {
        return input;
    }
    let (projections, names) = all_columns(graph.node(input));
    calc(graph, input, condition, projections, names)
}

/// Only some columns, in the given order.
pub(crate) fn select(graph: &mut Graph, input: NodeId, columns: &[usize]) -> NodeId {
    let (all, names) = all_columns(graph.node(input));
    let projections = columns.iter().map(|c| all[*c].clone()).collect();
    let names = columns.iter().map(|c| names[*c].clone()).collect();
    calc(graph, input, None, projections, names)
}

/// References to all columns of a node, and their names.
pub(crate) fn all_columns(node: &Node) -> (Vec<Expr>, Vec<String>) {
    let column = |(i, field): (usize, &Field)| Expr::column(i, field.data_type.clone());
    (
        node.fields.iter().enumerate().map(column).collect(),
        node.fields.iter().map(|field| field.name.clone()).collect(),
    )
}

fn is_identity(node: &Node, projections: &[Expr]) -> bool {
    // A source's columns are pruned by looking at the Calc that reads them.
    !matches!(node.op, Op::Source(_))
        && projections.len() == node.fields.len()
        && projections
            .iter()
            .enumerate()
            .all(|(i, e)| as_column(e) == Some(i))
}

fn merge(
    graph: &Graph,
    input: NodeId,
    condition: Option<Expr>,
    projections: Vec<Expr>,
) -> (NodeId, Option<Expr>, Vec<Expr>) {
    let Op::Calc {
        condition: inner_condition,
        projections: inner,
    } = &graph.node(input).op
    else {
        return (input, condition, projections);
    };
    let mut outer: Vec<Expr> = projections.clone();
    outer.extend(condition.clone());
    let random_filter = inner_condition.iter().any(|c| !is_deterministic(c));
    if random_filter || !may_merge(&outer, inner) {
        return (input, condition, projections);
    }
    // What is a constant below may decide a CASE above.
    let inlined = |e: Expr| simplify(substitute(e, inner));
    let mut all = inner_condition.clone().map(conjuncts).unwrap_or_default();
    let outer = condition.map(conjuncts).unwrap_or_default();
    all.extend(outer.into_iter().map(inlined));
    let projections = projections.into_iter().map(inlined).collect();
    (graph.node(input).inputs[0], and(all), projections)
}

/// Whether a filter decides the same for all versions of a row: it reads only key columns.
pub(crate) fn is_on_key(condition: &Expr, keys: &[Vec<usize>]) -> bool {
    let read = columns(condition);
    keys.iter()
        .any(|key| read.iter().all(|column| key.contains(column)))
}
