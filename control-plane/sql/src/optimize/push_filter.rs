//! Moves conditions as far down as they go, and makes outer joins inner where a condition above
//! drops the rows that the join would pad with NULL.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::error::SqlError;
use crate::logical::{Expr, JoinKind, LogicalPlan, OverCall, SetOp};
use proto::plan::WindowKind;

use super::expr::{self, as_column, columns, conjuncts, is_deterministic, remap, substitute};
use super::null_rejecting::rejects_null;
use super::plan;

/// Pushes every filter of the plan.
///
/// # Errors
/// Never; the signature is that of all rules.
pub(crate) fn push_filters(tree: LogicalPlan) -> Result<LogicalPlan, SqlError> {
    Ok(push(tree, Vec::new()))
}

/// The plan with `conditions` (over its output) applied as deep as possible.
fn push(tree: LogicalPlan, conditions: Vec<Expr>) -> LogicalPlan {
    let (conditions, fixed): (Vec<_>, Vec<_>) = conditions.into_iter().partition(is_deterministic);
    plan::filter(push_into(tree, conditions), fixed)
}

fn push_into(tree: LogicalPlan, mut conditions: Vec<Expr>) -> LogicalPlan {
    match tree {
        LogicalPlan::Filter { input, predicate } => {
            let mut all = conjuncts(predicate);
            all.append(&mut conditions);
            push(*input, all)
        }
        LogicalPlan::Project {
            input,
            exprs,
            schema,
        } => {
            let movable = exprs.iter().all(is_deterministic);
            let (down, stay) = split(conditions, &|_| movable);
            let down = down.into_iter().map(|c| substitute(c, &exprs)).collect();
            let project = LogicalPlan::Project {
                input: Box::new(push(*input, down)),
                exprs,
                schema,
            };
            plan::filter(project, stay)
        }
        LogicalPlan::Join { .. } => push_join(tree, conditions),
        LogicalPlan::Aggregate { .. } => push_aggregate(tree, conditions),
        LogicalPlan::SetOperation {
            op: SetOp::Union, ..
        }
        | LogicalPlan::Distinct { .. }
        | LogicalPlan::Sort {
            offset: 0,
            limit: None,
            ..
        } => push_through(tree, &conditions),
        LogicalPlan::Window { .. }
        | LogicalPlan::Over { .. }
        | LogicalPlan::Unnest { .. }
        | LogicalPlan::TemporalJoin { .. } => push_below_appended(tree, conditions),
        LogicalPlan::SetOperation { .. }
        | LogicalPlan::Sort { .. }
        | LogicalPlan::Scan { .. }
        | LogicalPlan::Values { .. } => plan::filter(push_through(tree, &[]), conditions),
    }
}

/// All conditions to all inputs, whose columns are the node's own.
fn push_through(tree: LogicalPlan, conditions: &[Expr]) -> LogicalPlan {
    plan::map_inputs(tree, &mut |input| Ok(push(input, conditions.to_vec())))
        .expect("pushing never fails")
}

/// Nodes that append columns to those of their first input: conditions on columns that are there
/// before, and do not decide what is appended, go below.
fn push_below_appended(tree: LogicalPlan, conditions: Vec<Expr>) -> LogicalPlan {
    let width = plan::inputs(&tree)[0].schema().len();
    let passes = |column: usize| match &tree {
        // A session is made of the rows that are there: only whole partitions may go.
        LogicalPlan::Window { function, .. } if function.kind == WindowKind::Session => {
            function.partition_by.contains(&column)
        }
        LogicalPlan::Over { calls, .. } => is_partition(calls, column),
        _ => column < width,
    };
    let (down, stay) = split(conditions, &|c| columns(c).into_iter().all(passes));
    let mut down = Some(down);
    let tree = plan::map_inputs(tree, &mut |input| {
        Ok(push(input, down.take().unwrap_or_default()))
    })
    .expect("pushing never fails");
    plan::filter(tree, stay)
}

fn split(conditions: Vec<Expr>, goes_down: &dyn Fn(&Expr) -> bool) -> (Vec<Expr>, Vec<Expr>) {
    conditions.into_iter().partition(|c| goes_down(c))
}

fn reads_only(condition: &Expr, range: &Range<usize>) -> bool {
    columns(condition).iter().all(|i| range.contains(i))
}

fn is_partition(calls: &[OverCall], column: usize) -> bool {
    calls.iter().all(|call| {
        call.partition_by
            .iter()
            .any(|key| as_column(key) == Some(column))
    })
}

fn push_aggregate(tree: LogicalPlan, conditions: Vec<Expr>) -> LogicalPlan {
    let LogicalPlan::Aggregate {
        input,
        keys,
        grouping_sets,
        calls,
        schema,
        ttl_ms,
    } = tree
    else {
        return plan::filter(tree, conditions);
    };
    let plain = grouping_sets.is_none() && keys.iter().all(is_deterministic);
    let of_window = window_keys(&input, &keys);
    // A constant condition must not go below a global aggregate: it decides over its one row.
    let (down, stay) = split(conditions, &|c| {
        let read = columns(c);
        let is_key = |column: &usize| *column < keys.len() && !of_window.contains(column);
        plain && !read.is_empty() && read.iter().all(is_key)
    });
    let down = down.into_iter().map(|c| substitute(c, &keys)).collect();
    let aggregate = LogicalPlan::Aggregate {
        input: Box::new(push(*input, down)),
        keys,
        grouping_sets,
        calls,
        schema,
        ttl_ms,
    };
    plan::filter(aggregate, stay)
}

/// The keys that are columns of the window which rows get right below, if it is grouped by the window:
/// a condition between the two would make them read what the aggregate need not know of each row.
fn window_keys(input: &LogicalPlan, keys: &[Expr]) -> BTreeSet<usize> {
    let columns = keys.iter().map(|key| window_column(input, as_column(key)?));
    let columns: Vec<Option<usize>> = columns.collect();
    let is_grouped_by = |column: usize| columns.contains(&Some(column));
    if !is_grouped_by(0) || !is_grouped_by(1) {
        return BTreeSet::new();
    }
    (0..keys.len())
        .filter(|at| columns[*at].is_some())
        .collect()
}

/// Which column of the window a column is: its start, its end or its time.
fn window_column(input: &LogicalPlan, column: usize) -> Option<usize> {
    match input {
        LogicalPlan::Window { input, .. } => column.checked_sub(input.schema().len()),
        LogicalPlan::Project { input, exprs, .. } => {
            window_column(input, as_column(&exprs[column])?)
        }
        LogicalPlan::Filter { input, .. } => window_column(input, column),
        _ => None,
    }
}

/// The kind of join that is left once rows padded with NULL on the rejected sides are dropped.
fn strengthen(kind: JoinKind, rejects_left: bool, rejects_right: bool) -> JoinKind {
    match (kind, rejects_left, rejects_right) {
        (JoinKind::Left, _, true) | (JoinKind::Right, true, _) | (JoinKind::Full, true, true) => {
            JoinKind::Inner
        }
        (JoinKind::Full, true, false) => JoinKind::Left,
        (JoinKind::Full, false, true) => JoinKind::Right,
        _ => kind,
    }
}

fn push_join(tree: LogicalPlan, conditions: Vec<Expr>) -> LogicalPlan {
    let LogicalPlan::Join {
        left,
        right,
        kind,
        condition,
        schema,
        ttl_ms,
    } = tree
    else {
        return plan::filter(tree, conditions);
    };
    let (l, r) = (left.schema().len(), right.schema().len());
    let (left_range, right_range) = (0..l, l..l + r);
    let rejects = |range: &Range<usize>| conditions.iter().any(|c| rejects_null(c, range));
    let kind = strengthen(kind, rejects(&left_range), rejects(&right_range));
    let mut on = condition.map(conjuncts).unwrap_or_default();
    let mut above = conditions;
    if kind == JoinKind::Inner {
        on.append(&mut above);
    }
    // Conditions of ON may go below the side that is not preserved, those above below the side
    // that is.
    let on_left = matches!(kind, JoinKind::Inner | JoinKind::Right | JoinKind::Semi);
    let on_right = !matches!(kind, JoinKind::Right | JoinKind::Full);
    let above_left = !matches!(kind, JoinKind::Right | JoinKind::Full);
    let above_right = matches!(kind, JoinKind::Right);
    let (mut to_left, on) = split(on, &|c| {
        on_left && is_deterministic(c) && reads_only(c, &left_range)
    });
    let (mut to_right, on) = split(on, &|c| {
        on_right && is_deterministic(c) && reads_only(c, &right_range)
    });
    let (more_left, above) = split(above, &|c| above_left && reads_only(c, &left_range));
    let (more_right, above) = split(above, &|c| above_right && reads_only(c, &right_range));
    to_left.extend(more_left);
    to_right.extend(more_right);
    let to_right = to_right.into_iter().map(|c| remap(c, &|i| i - l)).collect();
    let join = LogicalPlan::Join {
        left: Box::new(push(*left, to_left)),
        right: Box::new(push(*right, to_right)),
        kind,
        condition: expr::and(on),
        // The declared nullability stays, so that nothing above has to be typed again.
        schema,
        ttl_ms,
    };
    plan::filter(join, above)
}
