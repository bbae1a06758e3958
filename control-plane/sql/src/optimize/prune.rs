//! Keeps only the columns that somebody reads, down to the scans.
//!
//! Contract of every function here: the result has exactly the required columns, in their old
//! order; where none is required, one cheap column stays, because a batch needs one.

use std::collections::BTreeSet;

use proto::types::LogicalType;

use crate::error::SqlError;
use crate::logical::{
    AggregateCall, Expr, JoinKind, LogicalField, LogicalPlan, OverCall, OverFunction, Schema,
    SortKey,
};

use super::expr::{collect_columns, remap};
use super::plan::{self, rank_in};

type Columns = BTreeSet<usize>;

/// Prunes a whole query, all of whose columns are wanted.
///
/// # Errors
/// Never; the signature is that of all rules.
pub(crate) fn prune_columns(tree: LogicalPlan) -> Result<LogicalPlan, SqlError> {
    let all = (0..tree.schema().len()).collect();
    Ok(prune(tree, &all))
}

fn prune(tree: LogicalPlan, required: &Columns) -> LogicalPlan {
    let required = &at_least_one(required, tree.schema());
    match tree {
        LogicalPlan::Scan { .. } => keep(tree, required),
        LogicalPlan::Values { rows, schema } => LogicalPlan::Values {
            rows: rows.into_iter().map(|row| pick(row, required)).collect(),
            schema: pick_fields(&schema, required),
        },
        LogicalPlan::Project {
            input,
            exprs,
            schema,
        } => {
            let exprs = pick(exprs, required);
            let needed = columns_of(exprs.iter());
            let input = prune(*input, &needed);
            LogicalPlan::Project {
                exprs: renumber(exprs, &needed),
                input: Box::new(input),
                schema: pick_fields(&schema, required),
            }
        }
        LogicalPlan::Filter { input, predicate } => {
            let mut needed = required.clone();
            collect_columns(&predicate, &mut needed);
            let input = prune(*input, &needed);
            let filtered = LogicalPlan::Filter {
                input: Box::new(input),
                predicate: renumber_one(predicate, &needed),
            };
            narrow(filtered, &needed, required)
        }
        LogicalPlan::Join { .. } => prune_join(tree, required),
        LogicalPlan::TemporalJoin { .. } => prune_temporal(tree, required),
        LogicalPlan::Aggregate { .. } => prune_aggregate(tree, required),
        LogicalPlan::Window { .. } => prune_window(tree, required),
        LogicalPlan::Over { .. } => prune_over(tree, required),
        LogicalPlan::SetOperation {
            op,
            all: true,
            left,
            right,
            schema,
        } if op == crate::logical::SetOp::Union => LogicalPlan::SetOperation {
            op,
            all: true,
            left: Box::new(prune(*left, required)),
            right: Box::new(prune(*right, required)),
            schema: pick_fields(&schema, required),
        },
        LogicalPlan::Unnest { .. } => prune_unnest(tree, required),
        LogicalPlan::Sort { .. } => prune_sort(tree, required),
        // These need all of their input; what is not wanted goes above them.
        LogicalPlan::Distinct { .. } | LogicalPlan::SetOperation { .. } => {
            keep(prune_inputs(tree), required)
        }
    }
}

fn prune_inputs(tree: LogicalPlan) -> LogicalPlan {
    plan::map_inputs(tree, &mut prune_columns).expect("pruning never fails")
}

/// The required columns, or a cheap one where there is none.
fn at_least_one(required: &Columns, schema: &Schema) -> Columns {
    if !required.is_empty() {
        return required.clone();
    }
    let cost = |field: &LogicalField| match &field.data_type.logical {
        LogicalType::Row(_) | LogicalType::Array(_) | LogicalType::Map(..) => 3,
        logical if logical.is_character() || logical.is_binary() => 2,
        LogicalType::Decimal { .. } => 1,
        _ => 0,
    };
    (0..schema.len())
        .min_by_key(|i| cost(&schema[*i]))
        .into_iter()
        .collect()
}

fn keep(tree: LogicalPlan, required: &Columns) -> LogicalPlan {
    let columns: Vec<usize> = required.iter().copied().collect();
    plan::select(tree, &columns)
}

/// Of a node that has the columns `present`, the `required` ones.
fn narrow(tree: LogicalPlan, present: &Columns, required: &Columns) -> LogicalPlan {
    let columns: Vec<usize> = required.iter().map(|i| rank_in(present, *i)).collect();
    plan::select(tree, &columns)
}

fn pick<T>(items: Vec<T>, required: &Columns) -> Vec<T> {
    items
        .into_iter()
        .enumerate()
        .filter(|(i, _)| required.contains(i))
        .map(|(_, item)| item)
        .collect()
}

fn pick_fields(schema: &Schema, required: &Columns) -> Schema {
    pick(schema.to_vec(), required).into()
}

fn columns_of<'a>(exprs: impl Iterator<Item = &'a Expr>) -> Columns {
    let mut found = Columns::new();
    exprs.for_each(|e| collect_columns(e, &mut found));
    found
}

fn renumber_one(expr: Expr, present: &Columns) -> Expr {
    remap(expr, &|i| rank_in(present, i))
}

fn renumber(exprs: Vec<Expr>, present: &Columns) -> Vec<Expr> {
    exprs
        .into_iter()
        .map(|e| renumber_one(e, present))
        .collect()
}

fn renumber_keys(keys: Vec<SortKey>, present: &Columns) -> Vec<SortKey> {
    keys.into_iter()
        .map(|key| SortKey {
            expr: renumber_one(key.expr, present),
            ..key
        })
        .collect()
}

fn renumber_call(call: AggregateCall, present: &Columns) -> AggregateCall {
    AggregateCall {
        args: renumber(call.args, present),
        filter: call.filter.map(|f| renumber_one(f, present)),
        ..call
    }
}

fn prune_sort(tree: LogicalPlan, required: &Columns) -> LogicalPlan {
    let LogicalPlan::Sort {
        input,
        keys,
        offset,
        limit,
    } = tree
    else {
        return tree;
    };
    let mut needed = required.clone();
    for key in &keys {
        collect_columns(&key.expr, &mut needed);
    }
    let sorted = LogicalPlan::Sort {
        input: Box::new(prune(*input, &needed)),
        keys: renumber_keys(keys, &needed),
        offset,
        limit,
    };
    narrow(sorted, &needed, required)
}

fn prune_join(tree: LogicalPlan, required: &Columns) -> LogicalPlan {
    let LogicalPlan::Join {
        left,
        right,
        kind,
        condition,
        schema,
        ttl_ms,
    } = tree
    else {
        return tree;
    };
    let width = left.schema().len();
    let mut needed = required.clone();
    condition
        .iter()
        .for_each(|c| collect_columns(c, &mut needed));
    let left_needed = at_least_one(&needed.range(..width).copied().collect(), left.schema());
    let right_needed = needed.range(width..).map(|i| i - width).collect();
    let right_needed = at_least_one(&right_needed, right.schema());
    let left = prune(*left, &left_needed);
    let right = prune(*right, &right_needed);
    let present: Columns = left_needed
        .iter()
        .copied()
        .chain(right_needed.iter().map(|i| i + width))
        .collect();
    let semi = matches!(kind, JoinKind::Semi | JoinKind::Anti);
    let output: Columns = if semi { left_needed } else { present.clone() };
    let joined = LogicalPlan::Join {
        left: Box::new(left),
        right: Box::new(right),
        kind,
        condition: condition.map(|c| renumber_one(c, &present)),
        schema: pick_fields(&schema, &output),
        ttl_ms,
    };
    narrow(joined, &output, required)
}

/// As a join, but event times stay though nobody reads them: rows are joined by them.
fn prune_temporal(tree: LogicalPlan, required: &Columns) -> LogicalPlan {
    let LogicalPlan::TemporalJoin {
        left,
        right,
        kind,
        time_column,
        condition,
        schema,
    } = tree
    else {
        return tree;
    };
    let width = left.schema().len();
    let mut needed = required.clone();
    collect_columns(&condition, &mut needed);
    if let Some(time_column) = time_column {
        needed.insert(time_column);
        let is_time = |i: &usize| right.schema()[*i].time.is_some();
        needed.extend((0..right.schema().len()).filter(is_time).map(|i| i + width));
    }
    let left_needed: Columns = needed.range(..width).copied().collect();
    let left_needed = at_least_one(&left_needed, left.schema());
    let right_needed = needed.range(width..).map(|i| i - width).collect();
    let right_needed = at_least_one(&right_needed, right.schema());
    let right_present = right_needed.iter().map(|i| i + width);
    let present: Columns = left_needed.iter().copied().chain(right_present).collect();
    let joined = LogicalPlan::TemporalJoin {
        left: Box::new(prune(*left, &left_needed)),
        right: Box::new(prune(*right, &right_needed)),
        kind,
        time_column: time_column.map(|column| rank_in(&left_needed, column)),
        condition: renumber_one(condition, &present),
        schema: pick_fields(&schema, &present),
    };
    narrow(joined, &present, required)
}

fn prune_aggregate(tree: LogicalPlan, required: &Columns) -> LogicalPlan {
    let LogicalPlan::Aggregate {
        input,
        keys,
        grouping_sets,
        calls,
        schema,
        ttl_ms,
    } = tree
    else {
        return tree;
    };
    let (k, c) = (keys.len(), calls.len());
    let wanted: Columns = (0..c).filter(|i| required.contains(&(k + i))).collect();
    // A global aggregate without a call would have no column at all.
    let wanted = if wanted.is_empty() && k == 0 && c > 0 {
        Columns::from([0])
    } else {
        wanted
    };
    let calls = pick(calls, &wanted);
    let mut needed = columns_of(keys.iter());
    for call in &calls {
        needed.extend(columns_of(call.args.iter().chain(&call.filter)));
    }
    let needed = at_least_one(&needed, input.schema());
    let present: Columns = (0..k)
        .chain(wanted.iter().map(|i| k + i))
        .chain(k + c..schema.len())
        .collect();
    let aggregate = LogicalPlan::Aggregate {
        input: Box::new(prune(*input, &needed)),
        keys: renumber(keys, &needed),
        grouping_sets,
        calls: calls
            .into_iter()
            .map(|call| renumber_call(call, &needed))
            .collect(),
        schema: pick_fields(&schema, &present),
        ttl_ms,
    };
    narrow(aggregate, &present, required)
}

fn prune_window(tree: LogicalPlan, required: &Columns) -> LogicalPlan {
    let LogicalPlan::Window {
        input,
        mut function,
        schema,
    } = tree
    else {
        return tree;
    };
    let width = input.schema().len();
    let mut needed: Columns = required.range(..width).copied().collect();
    needed.insert(function.time_column);
    needed.extend(function.partition_by.iter().copied());
    function.time_column = rank_in(&needed, function.time_column);
    for column in &mut function.partition_by {
        *column = rank_in(&needed, *column);
    }
    let present: Columns = needed.iter().copied().chain(width..schema.len()).collect();
    let window = LogicalPlan::Window {
        input: Box::new(prune(*input, &needed)),
        function,
        schema: pick_fields(&schema, &present),
    };
    narrow(window, &present, required)
}

fn prune_over(tree: LogicalPlan, required: &Columns) -> LogicalPlan {
    let LogicalPlan::Over {
        input,
        calls,
        schema,
    } = tree
    else {
        return tree;
    };
    let width = input.schema().len();
    let wanted: Columns = (0..calls.len())
        .filter(|i| required.contains(&(width + i)))
        .collect();
    if wanted.is_empty() {
        return prune(*input, required);
    }
    let calls = pick(calls, &wanted);
    let mut needed: Columns = required.range(..width).copied().collect();
    for call in &calls {
        let args: Vec<&Expr> = match &call.function {
            OverFunction::Lag { args } => args.iter().collect(),
            OverFunction::Aggregate(call) => call.args.iter().chain(&call.filter).collect(),
            _ => Vec::new(),
        };
        needed.extend(columns_of(
            args.into_iter()
                .chain(&call.partition_by)
                .chain(call.order_by.iter().map(|key| &key.expr)),
        ));
    }
    let needed = at_least_one(&needed, input.schema());
    let calls = calls
        .into_iter()
        .map(|call| OverCall {
            function: match call.function {
                OverFunction::Lag { args } => OverFunction::Lag {
                    args: renumber(args, &needed),
                },
                OverFunction::Aggregate(call) => {
                    OverFunction::Aggregate(renumber_call(call, &needed))
                }
                other => other,
            },
            partition_by: renumber(call.partition_by, &needed),
            order_by: renumber_keys(call.order_by, &needed),
            ..call
        })
        .collect();
    let present: Columns = needed
        .iter()
        .copied()
        .chain(wanted.iter().map(|i| width + i))
        .collect();
    let over = LogicalPlan::Over {
        input: Box::new(prune(*input, &needed)),
        calls,
        schema: pick_fields(&schema, &present),
    };
    narrow(over, &present, required)
}

fn prune_unnest(tree: LogicalPlan, required: &Columns) -> LogicalPlan {
    let LogicalPlan::Unnest {
        input,
        collection,
        left,
        with_ordinality,
        schema,
    } = tree
    else {
        return tree;
    };
    let width = input.schema().len();
    let mut needed: Columns = required.range(..width).copied().collect();
    collect_columns(&collection, &mut needed);
    let needed = at_least_one(&needed, input.schema());
    let present: Columns = needed.iter().copied().chain(width..schema.len()).collect();
    let unnest = LogicalPlan::Unnest {
        input: Box::new(prune(*input, &needed)),
        collection: renumber_one(collection, &needed),
        left,
        with_ordinality,
        schema: pick_fields(&schema, &present),
    };
    narrow(unnest, &present, required)
}
