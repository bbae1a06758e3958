//! Walks bound expressions and the plans inside them.

use crate::error::SqlError;
use crate::logical::{AggregateCall, Expr, ExprKind, LogicalPlan, OverCall, OverFunction};

/// Rebuilds an expression with its direct children replaced. Plans of subqueries stay as they are.
pub(crate) fn map_children(
    expr: Expr,
    map: &mut dyn FnMut(Expr) -> Result<Expr, SqlError>,
) -> Result<Expr, SqlError> {
    let Expr { kind, data_type } = expr;
    let kind = match kind {
        ExprKind::Call { function, args } => ExprKind::Call {
            function,
            args: args.into_iter().map(map).collect::<Result<_, _>>()?,
        },
        ExprKind::Cast { input, r#try } => ExprKind::Cast {
            input: Box::new(map(*input)?),
            r#try,
        },
        ExprKind::Case {
            branches,
            otherwise,
        } => {
            let branches = branches
                .into_iter()
                .map(|(condition, result)| Ok((map(condition)?, map(result)?)))
                .collect::<Result<_, SqlError>>()?;
            ExprKind::Case {
                branches,
                otherwise: Box::new(map(*otherwise)?),
            }
        }
        ExprKind::Field { input, index } => ExprKind::Field {
            input: Box::new(map(*input)?),
            index,
        },
        ExprKind::InSubquery { exprs, plan } => ExprKind::InSubquery {
            exprs: exprs.into_iter().map(map).collect::<Result<_, _>>()?,
            plan,
        },
        leaf @ (ExprKind::Column(_)
        | ExprKind::OuterColumn { .. }
        | ExprKind::Literal(_)
        | ExprKind::ScalarSubquery(_)
        | ExprKind::Exists(_)) => leaf,
    };
    Ok(Expr { kind, data_type })
}

/// The plan of a subquery expression.
pub(crate) fn subquery_mut(expr: &mut Expr) -> Option<&mut LogicalPlan> {
    match &mut expr.kind {
        ExprKind::ScalarSubquery(plan)
        | ExprKind::Exists(plan)
        | ExprKind::InSubquery { plan, .. } => Some(plan),
        _ => None,
    }
}

/// Visits every reference of a subquery's plan to a column of the query `depth` levels out.
pub(crate) fn for_each_outer(
    plan: &mut LogicalPlan,
    depth: usize,
    visit: &mut dyn FnMut(&mut usize) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    for_each_expr(plan, &mut |expr| outer_in_expr(expr, depth, visit))
}

fn outer_in_expr(
    expr: &mut Expr,
    depth: usize,
    visit: &mut dyn FnMut(&mut usize) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    if let ExprKind::OuterColumn { depth: own, index } = &mut expr.kind
        && *own == depth
    {
        return visit(index);
    }
    for child in children_mut(expr) {
        outer_in_expr(child, depth, visit)?;
    }
    match subquery_mut(expr) {
        Some(plan) => for_each_outer(plan, depth + 1, visit),
        None => Ok(()),
    }
}

/// Direct children of an expression.
pub(crate) fn children_mut(expr: &mut Expr) -> Vec<&mut Expr> {
    match &mut expr.kind {
        ExprKind::Call { args, .. } => args.iter_mut().collect(),
        ExprKind::Cast { input, .. } | ExprKind::Field { input, .. } => vec![input],
        ExprKind::Case {
            branches,
            otherwise,
        } => branches
            .iter_mut()
            .flat_map(|(condition, result)| [condition, result])
            .chain([otherwise.as_mut()])
            .collect(),
        ExprKind::InSubquery { exprs, .. } => exprs.iter_mut().collect(),
        ExprKind::Column(_)
        | ExprKind::OuterColumn { .. }
        | ExprKind::Literal(_)
        | ExprKind::ScalarSubquery(_)
        | ExprKind::Exists(_) => Vec::new(),
    }
}

/// Visits every expression of every node of a plan.
fn for_each_expr(
    plan: &mut LogicalPlan,
    visit: &mut dyn FnMut(&mut Expr) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    match plan {
        LogicalPlan::Scan { .. } => Ok(()),
        LogicalPlan::Values { rows, .. } => rows.iter_mut().flatten().try_for_each(visit),
        LogicalPlan::Project { input, exprs, .. } => {
            exprs.iter_mut().try_for_each(&mut *visit)?;
            for_each_expr(input, visit)
        }
        LogicalPlan::Filter { input, predicate } => {
            visit(predicate)?;
            for_each_expr(input, visit)
        }
        LogicalPlan::Join {
            left,
            right,
            condition,
            ..
        } => {
            condition.iter_mut().try_for_each(&mut *visit)?;
            for_each_expr(left, visit)?;
            for_each_expr(right, visit)
        }
        LogicalPlan::TemporalJoin {
            left,
            right,
            condition,
            ..
        } => {
            visit(condition)?;
            for_each_expr(left, visit)?;
            for_each_expr(right, visit)
        }
        LogicalPlan::Aggregate {
            input, keys, calls, ..
        } => {
            keys.iter_mut().try_for_each(&mut *visit)?;
            calls
                .iter_mut()
                .try_for_each(|call| in_aggregate(call, visit))?;
            for_each_expr(input, visit)
        }
        LogicalPlan::Over { input, calls, .. } => {
            calls.iter_mut().try_for_each(|call| in_over(call, visit))?;
            for_each_expr(input, visit)
        }
        LogicalPlan::SetOperation { left, right, .. } => {
            for_each_expr(left, visit)?;
            for_each_expr(right, visit)
        }
        LogicalPlan::Unnest {
            input, collection, ..
        } => {
            visit(collection)?;
            for_each_expr(input, visit)
        }
        LogicalPlan::Sort { input, keys, .. } => {
            keys.iter_mut().try_for_each(|key| visit(&mut key.expr))?;
            for_each_expr(input, visit)
        }
        LogicalPlan::Window { input, .. } | LogicalPlan::Distinct { input } => {
            for_each_expr(input, visit)
        }
    }
}

fn in_aggregate(
    call: &mut AggregateCall,
    visit: &mut dyn FnMut(&mut Expr) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    call.args
        .iter_mut()
        .chain(call.filter.as_mut())
        .try_for_each(visit)
}

fn in_over(
    call: &mut OverCall,
    visit: &mut dyn FnMut(&mut Expr) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    match &mut call.function {
        OverFunction::Lag { args } => args.iter_mut().try_for_each(&mut *visit)?,
        OverFunction::Aggregate(aggregate) => in_aggregate(aggregate, visit)?,
        OverFunction::RowNumber | OverFunction::Rank | OverFunction::DenseRank => {}
    }
    call.partition_by.iter_mut().try_for_each(&mut *visit)?;
    call.order_by
        .iter_mut()
        .try_for_each(|key| visit(&mut key.expr))
}
