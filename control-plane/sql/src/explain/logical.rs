//! Bound and optimised queries as trees.

use crate::logical::{
    AggregateCall, Expr, GroupingSet, JoinKind, LogicalPlan, OverCall, OverFunction, Schema, SetOp,
    SortKey, WindowFunction,
};
use crate::optimize::plan as walk;
use crate::stream::{SinkQuery, SinkTarget, describe_expression};

use super::stages::line;

/// A query with its sink on top.
pub(super) fn query_tree(text: &mut String, query: &SinkQuery) {
    let name = match &query.sink {
        SinkTarget::Collect => "collect",
        SinkTarget::Table(table) => &table.name,
    };
    line(text, 0, &format!("Sink(table=[{name}])"));
    logical_tree(text, &query.plan, 1);
}

fn logical_tree(text: &mut String, plan: &LogicalPlan, depth: usize) {
    line(text, depth, &logical_node(plan));
    for input in walk::inputs(plan) {
        logical_tree(text, input, depth + 1);
    }
}

fn names(schema: &Schema) -> Vec<String> {
    schema.iter().map(|field| field.name.clone()).collect()
}

/// Names of what a node's expressions refer to: its inputs' columns, side by side.
fn input_names(plan: &LogicalPlan) -> Vec<String> {
    walk::inputs(plan)
        .into_iter()
        .flat_map(|input| names(input.schema()))
        .collect()
}

fn list(exprs: &[Expr], names: &[String]) -> String {
    let texts: Vec<String> = exprs
        .iter()
        .map(|e| describe_expression(e, names))
        .collect();
    texts.join(", ")
}

fn aggregate_call(call: &AggregateCall, names: &[String]) -> String {
    let args = if call.args.is_empty() {
        "*".to_owned()
    } else {
        list(&call.args, names)
    };
    let distinct = if call.distinct { "DISTINCT " } else { "" };
    let filter = call
        .filter
        .as_ref()
        .map(|f| format!(" FILTER (WHERE {})", describe_expression(f, names)))
        .unwrap_or_default();
    format!(
        "{}({distinct}{args}){filter} AS {}",
        call.function, call.name
    )
}

fn sort_keys(keys: &[SortKey], names: &[String]) -> String {
    let texts: Vec<String> = keys
        .iter()
        .map(|key| {
            let direction = if key.descending { "DESC" } else { "ASC" };
            format!("{} {direction}", describe_expression(&key.expr, names))
        })
        .collect();
    texts.join(", ")
}

fn logical_node(plan: &LogicalPlan) -> String {
    let below = input_names(plan);
    match plan {
        LogicalPlan::Scan { table, .. } => format!("Scan(table=[{}])", table.name),
        LogicalPlan::Values { rows, .. } => format!("Values(rows=[{}])", rows.len()),
        LogicalPlan::Project { exprs, schema, .. } => project(exprs, schema, &below),
        LogicalPlan::Filter { predicate, .. } => {
            format!("Filter({})", describe_expression(predicate, &below))
        }
        LogicalPlan::Join {
            kind, condition, ..
        } => join("Join", *kind, condition.as_ref(), &below),
        LogicalPlan::TemporalJoin {
            kind,
            condition,
            time_column,
            ..
        } => {
            let name = time_column.map_or("LookupJoin", |_| "TemporalJoin");
            join(name, *kind, Some(condition), &below)
        }
        LogicalPlan::Aggregate {
            keys,
            calls,
            grouping_sets,
            ..
        } => aggregate(keys, calls, grouping_sets.as_deref(), &below),
        LogicalPlan::Window { function, .. } => window(function, &below),
        LogicalPlan::Over { calls, .. } => {
            let calls: Vec<String> = calls.iter().map(|call| over_call(call, &below)).collect();
            format!("Over({})", calls.join(", "))
        }
        LogicalPlan::Distinct { .. } => "Distinct".to_owned(),
        LogicalPlan::SetOperation { op, all, .. } => {
            let name = match op {
                SetOp::Union => "UNION",
                SetOp::Intersect => "INTERSECT",
                SetOp::Except => "EXCEPT",
            };
            let all = if *all { " ALL" } else { "" };
            format!("SetOperation({name}{all})")
        }
        LogicalPlan::Unnest {
            collection,
            left,
            with_ordinality,
            ..
        } => format!(
            "Unnest(of=[{}], left=[{left}], ordinality=[{with_ordinality}])",
            describe_expression(collection, &below)
        ),
        LogicalPlan::Sort {
            keys,
            offset,
            limit,
            ..
        } => {
            let limit = limit.map_or_else(|| "none".to_owned(), |n| n.to_string());
            format!(
                "Sort(orderBy=[{}], offset=[{offset}], limit=[{limit}])",
                sort_keys(keys, &below)
            )
        }
    }
}

fn aggregate(
    keys: &[Expr],
    calls: &[AggregateCall],
    grouping_sets: Option<&[GroupingSet]>,
    below: &[String],
) -> String {
    let calls: Vec<String> = calls.iter().map(|c| aggregate_call(c, below)).collect();
    let sets = grouping_sets
        .map(|sets| format!(", sets=[{sets:?}]"))
        .unwrap_or_default();
    format!(
        "Aggregate(groupBy=[{}]{sets}, select=[{}])",
        list(keys, below),
        calls.join(", ")
    )
}

fn project(exprs: &[Expr], schema: &Schema, below: &[String]) -> String {
    let texts: Vec<String> = exprs
        .iter()
        .zip(schema.iter())
        .map(|(e, field)| {
            let text = describe_expression(e, below);
            if text == field.name {
                text
            } else {
                format!("{text} AS {}", field.name)
            }
        })
        .collect();
    format!("Project({})", texts.join(", "))
}

fn join(name: &str, kind: JoinKind, condition: Option<&Expr>, below: &[String]) -> String {
    let on = condition.map_or_else(|| "TRUE".to_owned(), |c| describe_expression(c, below));
    format!("{name}(type=[{}], on=[{on}])", join_kind(kind))
}

fn window(function: &WindowFunction, below: &[String]) -> String {
    format!(
        "Window({}, time=[{}], size=[{} ms], step=[{} ms], offset=[{} ms])",
        function.kind.as_str_name(),
        below.get(function.time_column).map_or("?", |name| name),
        function.size_ms,
        function.step_ms,
        function.offset_ms
    )
}

fn over_call(call: &OverCall, below: &[String]) -> String {
    let function = match &call.function {
        OverFunction::RowNumber => "ROW_NUMBER()".to_owned(),
        OverFunction::Rank => "RANK()".to_owned(),
        OverFunction::DenseRank => "DENSE_RANK()".to_owned(),
        OverFunction::Lag { args } => format!("LAG({})", list(args, below)),
        OverFunction::Aggregate(call) => aggregate_call(call, below),
    };
    format!(
        "{function} OVER (PARTITION BY {} ORDER BY {})",
        list(&call.partition_by, below),
        sort_keys(&call.order_by, below)
    )
}

fn join_kind(kind: JoinKind) -> &'static str {
    match kind {
        JoinKind::Inner => "INNER",
        JoinKind::Left => "LEFT",
        JoinKind::Right => "RIGHT",
        JoinKind::Full => "FULL",
        JoinKind::Semi => "SEMI",
        JoinKind::Anti => "ANTI",
    }
}
