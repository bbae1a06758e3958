//! Walking and rewriting expressions. Knows nothing of plans: expressions that hold subqueries
//! are taken apart by [`super::subquery`] before any other rule sees them.

use std::collections::BTreeSet;

use proto::plan::ScalarFunction;
use proto::types::{DataType, LogicalType};

use crate::logical::{Expr, ExprKind, Literal, LogicalPlan};

/// `BOOLEAN`, nullable.
pub(crate) fn boolean() -> DataType {
    LogicalType::Boolean.nullable()
}

/// The constant TRUE or FALSE.
pub(crate) fn truth(value: bool) -> Expr {
    Expr::literal(Literal::Boolean(value), LogicalType::Boolean.not_null())
}

/// A typed NULL.
pub(crate) fn null(data_type: &DataType) -> Expr {
    Expr::literal(Literal::Null, data_type.clone().with_nullable(true))
}

/// A BIGINT constant.
pub(crate) fn bigint(value: i64) -> Expr {
    Expr::literal(Literal::Integer(value), LogicalType::BigInt.not_null())
}

/// A call that gives a BOOLEAN.
pub(crate) fn predicate(function: ScalarFunction, args: Vec<Expr>) -> Expr {
    let nullable = args.iter().any(|arg| arg.data_type.nullable);
    Expr::call(function, args, boolean().with_nullable(nullable))
}

/// Whether the expression is the constant TRUE (or FALSE).
pub(crate) fn is_truth(expr: &Expr, value: bool) -> bool {
    expr.kind == ExprKind::Literal(Literal::Boolean(value))
}

/// The direct parts of an expression; subquery plans are not among them.
pub(crate) fn children(expr: &Expr) -> Vec<&Expr> {
    match &expr.kind {
        ExprKind::Column(_)
        | ExprKind::OuterColumn { .. }
        | ExprKind::Literal(_)
        | ExprKind::ScalarSubquery(_)
        | ExprKind::Exists(_) => Vec::new(),
        ExprKind::Call { args, .. } => args.iter().collect(),
        ExprKind::Cast { input, .. } | ExprKind::Field { input, .. } => vec![input],
        ExprKind::Case {
            branches,
            otherwise,
        } => branches
            .iter()
            .flat_map(|(condition, result)| [condition, result])
            .chain([&**otherwise])
            .collect(),
        ExprKind::InSubquery { exprs, .. } => exprs.iter().collect(),
    }
}

/// Calls `visit` for the expression and everything in it, outside in.
pub(crate) fn walk<'a>(expr: &'a Expr, visit: &mut dyn FnMut(&'a Expr)) {
    visit(expr);
    for child in children(expr) {
        walk(child, visit);
    }
}

/// Rebuilds an expression inside out.
pub(crate) fn transform(expr: Expr, rewrite: &mut dyn FnMut(Expr) -> Expr) -> Expr {
    let Expr { kind, data_type } = expr;
    let kind = match kind {
        ExprKind::Call { function, args } => ExprKind::Call {
            function,
            args: transform_all(args, rewrite),
        },
        ExprKind::Cast { input, r#try } => ExprKind::Cast {
            input: Box::new(transform(*input, rewrite)),
            r#try,
        },
        ExprKind::Field { input, index } => ExprKind::Field {
            input: Box::new(transform(*input, rewrite)),
            index,
        },
        ExprKind::Case {
            branches,
            otherwise,
        } => ExprKind::Case {
            branches: branches
                .into_iter()
                .map(|(condition, result)| {
                    (transform(condition, rewrite), transform(result, rewrite))
                })
                .collect(),
            otherwise: Box::new(transform(*otherwise, rewrite)),
        },
        ExprKind::InSubquery { exprs, plan } => ExprKind::InSubquery {
            exprs: transform_all(exprs, rewrite),
            plan,
        },
        leaf => leaf,
    };
    rewrite(Expr { kind, data_type })
}

/// [`transform`] of each.
pub(crate) fn transform_all(exprs: Vec<Expr>, rewrite: &mut dyn FnMut(Expr) -> Expr) -> Vec<Expr> {
    exprs
        .into_iter()
        .map(|expr| transform(expr, rewrite))
        .collect()
}

/// Adds the columns that an expression reads.
pub(crate) fn collect_columns(expr: &Expr, columns: &mut BTreeSet<usize>) {
    walk(expr, &mut |part| {
        if let ExprKind::Column(index) = part.kind {
            columns.insert(index);
        }
    });
}

/// The columns that an expression reads.
pub(crate) fn columns(expr: &Expr) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    collect_columns(expr, &mut found);
    found
}

/// Moves every column reference.
pub(crate) fn remap(expr: Expr, position: &dyn Fn(usize) -> usize) -> Expr {
    transform(expr, &mut |part| match part.kind {
        ExprKind::Column(index) => Expr::column(position(index), part.data_type),
        _ => part,
    })
}

/// Puts `values[i]` where column i stands.
pub(crate) fn substitute(expr: Expr, values: &[Expr]) -> Expr {
    transform(expr, &mut |part| match part.kind {
        ExprKind::Column(index) => values[index].clone(),
        _ => part,
    })
}

/// The conjuncts of a condition, nested ANDs flattened, TRUE left out.
pub(crate) fn conjuncts(condition: Expr) -> Vec<Expr> {
    let mut found = Vec::new();
    add_conjuncts(condition, &mut found);
    found
}

fn add_conjuncts(condition: Expr, found: &mut Vec<Expr>) {
    match condition.kind {
        ExprKind::Call {
            function: ScalarFunction::And,
            args,
        } => {
            for arg in args {
                add_conjuncts(arg, found);
            }
        }
        _ if is_truth(&condition, true) => {}
        _ => found.push(condition),
    }
}

/// The conjunction; `None` for no conjunct.
pub(crate) fn and(mut conjuncts: Vec<Expr>) -> Option<Expr> {
    match conjuncts.len() {
        0 => None,
        1 => conjuncts.pop(),
        _ => Some(predicate(ScalarFunction::And, conjuncts)),
    }
}

/// Whether evaluating it again gives the same value.
pub(crate) fn is_deterministic(expr: &Expr) -> bool {
    volatile_function(expr).is_none()
}

/// SQL's name of a function in `expr` that gives another value each time.
pub(crate) fn volatile_function(expr: &Expr) -> Option<&'static str> {
    use ScalarFunction as F;
    let mut found = None;
    walk(expr, &mut |part| {
        let ExprKind::Call { function, .. } = &part.kind else {
            return;
        };
        let name = match function {
            F::Rand => "RAND",
            F::RandInteger => "RAND_INTEGER",
            F::Uuid => "UUID",
            F::Now => "CURRENT_TIMESTAMP",
            F::CurrentDate => "CURRENT_DATE",
            F::CurrentTime => "CURRENT_TIME",
            F::LocalTimestamp => "LOCALTIMESTAMP",
            F::Proctime => "PROCTIME",
            F::CurrentWatermark => "CURRENT_WATERMARK",
            F::UnixTimestamp if children(part).is_empty() => "UNIX_TIMESTAMP",
            _ => return,
        };
        found.get_or_insert(name);
    });
    found
}

/// Whether computing it again costs nothing: columns, fields of columns and constants.
pub(crate) fn is_trivial(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Column(_) | ExprKind::Literal(_) => true,
        ExprKind::Field { input, .. } => is_trivial(input),
        _ => false,
    }
}

/// The column, if the expression is nothing but one.
pub(crate) fn as_column(expr: &Expr) -> Option<usize> {
    match expr.kind {
        ExprKind::Column(index) => Some(index),
        _ => None,
    }
}

/// Whether a subquery stands anywhere in the expression.
pub(crate) fn has_subquery(expr: &Expr) -> bool {
    let mut found = false;
    walk(expr, &mut |part| {
        found |= matches!(
            part.kind,
            ExprKind::ScalarSubquery(_) | ExprKind::InSubquery { .. } | ExprKind::Exists(_)
        );
    });
    found
}

/// Whether the expression reads a column of an enclosing query.
pub(crate) fn has_outer(expr: &Expr) -> bool {
    let mut found = false;
    walk(expr, &mut |part| {
        found |= match &part.kind {
            ExprKind::OuterColumn { .. } => true,
            ExprKind::ScalarSubquery(plan) | ExprKind::Exists(plan) => escapes(plan),
            ExprKind::InSubquery { plan, .. } => escapes(plan),
            _ => false,
        };
    });
    found
}

/// Whether a subquery of this expression reads beyond it. Subqueries are removed inside out, so
/// what is left of depth 1 belongs to the expression's own input.
fn escapes(plan: &LogicalPlan) -> bool {
    super::plan::any_expr(plan, &mut |expr| {
        let mut found = false;
        walk(expr, &mut |part| {
            found |= matches!(part.kind, ExprKind::OuterColumn { depth, .. } if depth > 1);
        });
        found
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conjunctions_are_flattened_and_put_back() {
        let column = |index| Expr::column(index, boolean());
        let nested = predicate(
            ScalarFunction::And,
            vec![
                predicate(ScalarFunction::And, vec![column(0), truth(true)]),
                column(1),
            ],
        );
        let parts = conjuncts(nested);
        assert_eq!(parts, [column(0), column(1)]);
        assert_eq!(and(vec![column(0)]), Some(column(0)));
        assert_eq!(and(Vec::new()), None);
    }
}
