//! Small constructors and walks over relational nodes.

use std::collections::BTreeSet;

use crate::error::SqlError;
use crate::logical::{Expr, JoinKind, LogicalField, LogicalPlan, OverFunction, Schema};

use super::expr;

/// Rebuilds a node with its inputs replaced, one by one from left to right.
pub(crate) fn map_inputs(
    plan: LogicalPlan,
    rewrite: &mut dyn FnMut(LogicalPlan) -> Result<LogicalPlan, SqlError>,
) -> Result<LogicalPlan, SqlError> {
    let mut plan = plan;
    for input in inputs_mut(&mut plan) {
        let taken = std::mem::replace(input, nothing());
        *input = rewrite(taken)?;
    }
    Ok(plan)
}

/// A relation without rows or columns, for the moment in which a node's input is taken out.
fn nothing() -> LogicalPlan {
    LogicalPlan::Values {
        rows: Vec::new(),
        schema: Vec::new().into(),
    }
}

/// The inputs of a node.
pub(crate) fn inputs(plan: &LogicalPlan) -> Vec<&LogicalPlan> {
    match plan {
        LogicalPlan::Scan { .. } | LogicalPlan::Values { .. } => Vec::new(),
        LogicalPlan::Project { input, .. }
        | LogicalPlan::Filter { input, .. }
        | LogicalPlan::Aggregate { input, .. }
        | LogicalPlan::Window { input, .. }
        | LogicalPlan::Over { input, .. }
        | LogicalPlan::Distinct { input }
        | LogicalPlan::Unnest { input, .. }
        | LogicalPlan::Sort { input, .. } => vec![input],
        LogicalPlan::Join { left, right, .. }
        | LogicalPlan::TemporalJoin { left, right, .. }
        | LogicalPlan::SetOperation { left, right, .. } => vec![left, right],
    }
}

fn inputs_mut(plan: &mut LogicalPlan) -> Vec<&mut LogicalPlan> {
    match plan {
        LogicalPlan::Scan { .. } | LogicalPlan::Values { .. } => Vec::new(),
        LogicalPlan::Project { input, .. }
        | LogicalPlan::Filter { input, .. }
        | LogicalPlan::Aggregate { input, .. }
        | LogicalPlan::Window { input, .. }
        | LogicalPlan::Over { input, .. }
        | LogicalPlan::Distinct { input }
        | LogicalPlan::Unnest { input, .. }
        | LogicalPlan::Sort { input, .. } => vec![input],
        LogicalPlan::Join { left, right, .. }
        | LogicalPlan::TemporalJoin { left, right, .. }
        | LogicalPlan::SetOperation { left, right, .. } => vec![left, right],
    }
}

/// The expressions that a node itself holds.
pub(crate) fn exprs(plan: &LogicalPlan) -> Vec<&Expr> {
    match plan {
        LogicalPlan::Scan { .. }
        | LogicalPlan::Window { .. }
        | LogicalPlan::Distinct { .. }
        | LogicalPlan::SetOperation { .. } => Vec::new(),
        LogicalPlan::Values { rows, .. } => rows.iter().flatten().collect(),
        LogicalPlan::Project { exprs, .. } => exprs.iter().collect(),
        LogicalPlan::Filter { predicate, .. } => vec![predicate],
        LogicalPlan::Join { condition, .. } => condition.iter().collect(),
        LogicalPlan::TemporalJoin { condition, .. } => vec![condition],
        LogicalPlan::Aggregate { keys, calls, .. } => keys
            .iter()
            .chain(
                calls
                    .iter()
                    .flat_map(|call| call.args.iter().chain(&call.filter)),
            )
            .collect(),
        LogicalPlan::Over { calls, .. } => calls
            .iter()
            .flat_map(|call| {
                let args: Vec<&Expr> = match &call.function {
                    OverFunction::Lag { args } => args.iter().collect(),
                    OverFunction::Aggregate(call) => call.args.iter().chain(&call.filter).collect(),
                    _ => Vec::new(),
                };
                args.into_iter()
                    .chain(&call.partition_by)
                    .chain(call.order_by.iter().map(|key| &key.expr))
            })
            .collect(),
        LogicalPlan::Unnest { collection, .. } => vec![collection],
        LogicalPlan::Sort { keys, .. } => keys.iter().map(|key| &key.expr).collect(),
    }
}

/// Whether `test` holds for an expression of the node or of any node below.
pub(crate) fn any_expr(plan: &LogicalPlan, test: &mut dyn FnMut(&Expr) -> bool) -> bool {
    exprs(plan).into_iter().any(&mut *test)
        || inputs(plan).into_iter().any(|input| any_expr(input, test))
}

/// `WHERE`; nothing for no conjunct.
pub(crate) fn filter(input: LogicalPlan, conjuncts: Vec<Expr>) -> LogicalPlan {
    match expr::and(conjuncts) {
        None => input,
        Some(predicate) => LogicalPlan::Filter {
            input: Box::new(input),
            predicate,
        },
    }
}

/// Some of the input's columns, in the given order; nothing when that is all of them.
pub(crate) fn select(input: LogicalPlan, columns: &[usize]) -> LogicalPlan {
    let schema = input.schema().clone();
    if columns.len() == schema.len() && columns.iter().enumerate().all(|(i, c)| i == *c) {
        return input;
    }
    let exprs = columns.iter().map(|c| column(&schema, *c)).collect();
    LogicalPlan::Project {
        input: Box::new(input),
        exprs,
        schema: columns.iter().map(|c| schema[*c].clone()).collect(),
    }
}

/// A reference to column `index` of a relation of this schema.
pub(crate) fn column(schema: &Schema, index: usize) -> Expr {
    Expr::column(index, schema[index].data_type.clone())
}

/// References to all columns.
pub(crate) fn all_columns(schema: &Schema) -> Vec<Expr> {
    (0..schema.len())
        .map(|index| column(schema, index))
        .collect()
}

/// A column that no user named.
pub(crate) fn field(name: impl Into<String>, expr: &Expr) -> LogicalField {
    LogicalField {
        qualifier: None,
        name: name.into(),
        data_type: expr.data_type.clone(),
        time: None,
    }
}

/// The schema of a join of these kinds of inputs.
pub(crate) fn join_schema(left: &LogicalPlan, right: &LogicalPlan, kind: JoinKind) -> Schema {
    let pad = |fields: &Schema, nullable: bool| {
        fields
            .iter()
            .cloned()
            .map(|mut field| {
                field.data_type.nullable |= nullable;
                field
            })
            .collect::<Vec<_>>()
    };
    let left = pad(
        left.schema(),
        matches!(kind, JoinKind::Right | JoinKind::Full),
    );
    if matches!(kind, JoinKind::Semi | JoinKind::Anti) {
        return left.into();
    }
    let right = pad(
        right.schema(),
        matches!(kind, JoinKind::Left | JoinKind::Full),
    );
    left.into_iter().chain(right).collect()
}

/// A join, its schema made from its inputs.
pub(crate) fn join(
    left: LogicalPlan,
    right: LogicalPlan,
    kind: JoinKind,
    conjuncts: Vec<Expr>,
) -> LogicalPlan {
    let schema = join_schema(&left, &right, kind);
    LogicalPlan::Join {
        left: Box::new(left),
        right: Box::new(right),
        kind,
        condition: expr::and(conjuncts),
        schema,
        ttl_ms: [None; 2],
    }
}

/// Positions of `columns` among themselves: what a reference to an old position becomes once
/// only these columns are left.
pub(crate) fn rank_in(columns: &BTreeSet<usize>, index: usize) -> usize {
    columns.range(..index).count()
}
