//! EXPLAIN: every stage of a job's plan as text.

use std::fmt::Write as _;

use proto::plan::{Changelog, Node, Plan, input, node::Operator, partitioning, state_bound};

use crate::error::SqlError;
use crate::logical::{
    AggregateCall, Expr, JoinKind, LogicalPlan, OverFunction, Schema, SetOp, SortKey,
};
use crate::optimize::{optimize, plan as walk};
use crate::stream::{PlanOptions, SinkQuery, SinkTarget, describe_expression, plan_optimized};

/// The stages of a job: logical, optimised, stream plan, fragments, warnings.
///
/// # Errors
/// When a query has no streaming plan.
pub fn explain(queries: &[SinkQuery], options: &PlanOptions) -> Result<String, SqlError> {
    let optimized = queries
        .iter()
        .map(|query| {
            Ok(SinkQuery {
                plan: optimize(query.plan.clone())?,
                sink: query.sink.clone(),
            })
        })
        .collect::<Result<Vec<_>, SqlError>>()?;
    let plan = plan_optimized(&optimized, options)?;
    let mut text = String::from("== Logical ==\n");
    for query in queries {
        query_tree(&mut text, query);
    }
    text.push_str("\n== Optimized ==\n");
    for query in &optimized {
        query_tree(&mut text, query);
    }
    text.push('\n');
    text.push_str(&explain_plan(&plan));
    Ok(text)
}

/// The stages of a compiled plan: stream plan, fragments, warnings.
#[must_use]
pub fn explain_plan(plan: &Plan) -> String {
    let mut text = String::from("== Stream plan ==\n");
    for (f, fragment) in plan.fragments.iter().enumerate() {
        for (n, node) in fragment.nodes.iter().enumerate() {
            if matches!(node.operator, Some(Operator::Sink(_))) {
                stream_tree(&mut text, plan, (f, n), 0);
            }
        }
    }
    text.push_str("\n== Fragments ==\n");
    fragments(&mut text, plan);
    if !plan.warnings.is_empty() {
        text.push_str("\n== Warnings ==\n");
        for warning in &plan.warnings {
            line(&mut text, 0, &format!("- {warning}"));
        }
    }
    text
}

fn line(text: &mut String, depth: usize, content: &str) {
    writeln!(text, "{:1$}{content}", "", 2 * depth).expect("a String takes all text");
}

fn query_tree(text: &mut String, query: &SinkQuery) {
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
    let texts: Vec<String> = exprs.iter().map(|e| describe_expression(e, names)).collect();
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
        LogicalPlan::Project { exprs, schema, .. } => {
            let texts: Vec<String> = exprs
                .iter()
                .zip(schema.iter())
                .map(|(e, field)| {
                    let text = describe_expression(e, &below);
                    if text == field.name {
                        text
                    } else {
                        format!("{text} AS {}", field.name)
                    }
                })
                .collect();
            format!("Project({})", texts.join(", "))
        }
        LogicalPlan::Filter { predicate, .. } => {
            format!("Filter({})", describe_expression(predicate, &below))
        }
        LogicalPlan::Join {
            kind, condition, ..
        } => {
            let on = condition
                .as_ref()
                .map_or_else(|| "TRUE".to_owned(), |c| describe_expression(c, &below));
            format!("Join(type=[{}], on=[{on}])", join_kind(*kind))
        }
        LogicalPlan::TemporalJoin {
            kind, condition, ..
        } => format!(
            "TemporalJoin(type=[{}], on=[{}])",
            join_kind(*kind),
            describe_expression(condition, &below)
        ),
        LogicalPlan::Aggregate {
            keys,
            calls,
            grouping_sets,
            ..
        } => {
            let calls: Vec<String> = calls.iter().map(|c| aggregate_call(c, &below)).collect();
            let sets = grouping_sets
                .as_ref()
                .map(|sets| format!(", sets=[{sets:?}]"))
                .unwrap_or_default();
            format!(
                "Aggregate(groupBy=[{}]{sets}, select=[{}])",
                list(keys, &below),
                calls.join(", ")
            )
        }
        LogicalPlan::Window { function, .. } => format!(
            "Window({}, time=[{}], size=[{} ms], step=[{} ms], offset=[{} ms])",
            function.kind.as_str_name(),
            below.get(function.time_column).map_or("?", |name| name),
            function.size_ms,
            function.step_ms,
            function.offset_ms
        ),
        LogicalPlan::Over { calls, .. } => {
            let texts: Vec<String> = calls
                .iter()
                .map(|call| {
                    let function = match &call.function {
                        OverFunction::RowNumber => "ROW_NUMBER()".to_owned(),
                        OverFunction::Rank => "RANK()".to_owned(),
                        OverFunction::DenseRank => "DENSE_RANK()".to_owned(),
                        OverFunction::Lag { args } => format!("LAG({})", list(args, &below)),
                        OverFunction::Aggregate(call) => aggregate_call(call, &below),
                    };
                    format!(
                        "{function} OVER (PARTITION BY {} ORDER BY {})",
                        list(&call.partition_by, &below),
                        sort_keys(&call.order_by, &below)
                    )
                })
                .collect();
            format!("Over({})", texts.join(", "))
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

fn stream_tree(text: &mut String, plan: &Plan, (f, n): (usize, usize), depth: usize) {
    let Some(node) = plan.fragments.get(f).and_then(|f| f.nodes.get(n)) else {
        return;
    };
    line(
        text,
        depth,
        &format!("{}{}", node.description, properties(node)),
    );
    for input in &node.inputs {
        match input.from {
            Some(input::From::Node(below)) => {
                stream_tree(text, plan, (f, below as usize), depth + 1);
            }
            Some(input::From::Exchange(id)) => {
                let Some(exchange) = plan.exchanges.get(id as usize) else {
                    continue;
                };
                line(
                    text,
                    depth + 1,
                    &format!("Exchange({})", partitioning_text(plan, id as usize)),
                );
                let sender = (exchange.from_fragment as usize, exchange.from_node as usize);
                stream_tree(text, plan, sender, depth + 2);
            }
            None => {}
        }
    }
}

fn properties(node: &Node) -> String {
    let mut text = String::new();
    if let Some(changelog) = &node.changelog {
        write!(text, ", changelogMode=[{}]", kinds(changelog)).expect("a String takes all text");
    }
    let is_append = node.changelog.as_ref().is_none_or(Changelog::is_append);
    if !node.upsert_keys.is_empty() && !is_append {
        let fields = node.output.as_ref().map_or(&[][..], |row| &row.fields);
        let keys: Vec<String> = node
            .upsert_keys
            .iter()
            .map(|key| {
                let names: Vec<&str> = key
                    .columns
                    .iter()
                    .filter_map(|c| fields.get(*c as usize))
                    .map(|field| field.name.as_str())
                    .collect();
                format!("({})", names.join(", "))
            })
            .collect();
        write!(text, ", upsertKeys=[{}]", keys.join(", ")).expect("a String takes all text");
    }
    let state = match node.state_bound.as_ref().and_then(|b| b.kind.as_ref()) {
        Some(state_bound::Kind::Window(_)) => Some("until the window closes".to_owned()),
        Some(state_bound::Kind::TtlMs(ms)) => Some(format!("ttl {ms} ms")),
        Some(state_bound::Kind::Unbounded(u)) => Some(format!("unbounded: one {}", u.per)),
        Some(state_bound::Kind::Constant(_)) => Some("constant".to_owned()),
        _ => None,
    };
    if let Some(state) = state {
        write!(text, ", state=[{state}]").expect("a String takes all text");
    }
    text
}

fn kinds(changelog: &Changelog) -> String {
    let all = [
        (changelog.insert, "I"),
        (changelog.update_before, "UB"),
        (changelog.update_after, "UA"),
        (changelog.delete, "D"),
    ];
    let present: Vec<&str> = all
        .iter()
        .filter(|(has, _)| *has)
        .map(|(_, n)| *n)
        .collect();
    present.join(",")
}

fn partitioning_text(plan: &Plan, exchange: usize) -> String {
    let exchange = &plan.exchanges[exchange];
    let fields = plan
        .fragments
        .get(exchange.from_fragment as usize)
        .and_then(|f| f.nodes.get(exchange.from_node as usize))
        .and_then(|node| node.output.as_ref())
        .map_or(&[][..], |row| &row.fields);
    match exchange.partitioning.as_ref().and_then(|p| p.kind.as_ref()) {
        Some(partitioning::Kind::Hash(hash)) => {
            let names: Vec<&str> = hash
                .columns
                .iter()
                .filter_map(|c| fields.get(*c as usize))
                .map(|field| field.name.as_str())
                .collect();
            format!("hash[{}]", names.join(", "))
        }
        Some(partitioning::Kind::Single(_)) => "single".to_owned(),
        Some(partitioning::Kind::Rebalance(_)) => "rebalance".to_owned(),
        Some(partitioning::Kind::Broadcast(_)) => "broadcast".to_owned(),
        None => "?".to_owned(),
    }
}

fn fragments(text: &mut String, plan: &Plan) {
    for (f, fragment) in plan.fragments.iter().enumerate() {
        let singleton = if fragment.singleton {
            " (singleton)"
        } else {
            ""
        };
        line(text, 0, &format!("Fragment {f}{singleton}"));
        for (n, node) in fragment.nodes.iter().enumerate() {
            let inputs: Vec<String> = node
                .inputs
                .iter()
                .map(|input| match input.from {
                    Some(input::From::Node(n)) => format!("node {n}"),
                    Some(input::From::Exchange(e)) => format!("exchange {e}"),
                    None => "?".to_owned(),
                })
                .collect();
            let inputs = if inputs.is_empty() {
                String::new()
            } else {
                format!(" <- {}", inputs.join(", "))
            };
            line(text, 1, &format!("{n}: {}{inputs}", node.id));
        }
    }
    for (e, exchange) in plan.exchanges.iter().enumerate() {
        let content = format!(
            "Exchange {e}: fragment {} node {} -> fragment {}, {}",
            exchange.from_fragment,
            exchange.from_node,
            exchange.to_fragment,
            partitioning_text(plan, e)
        );
        line(text, 0, &content);
    }
}
