//! Subqueries over an aggregate without GROUP BY that refer to the enclosing query: whatever row of the
//! enclosing query it is, the aggregate has a row for it, over no rows if there are none. Taken apart,
//! it is one that groups by what the enclosing query is compared with, and has no group there; so what
//! it gives over no rows is put in where that can be told.

use proto::plan::{AggregateFunction, ScalarFunction as F};

use crate::error::SqlError;
use crate::logical::{Expr, ExprKind, JoinKind, Literal, LogicalPlan};

use super::decorrelate::{Pulled, is_correlated, pull};
use super::expr::{and, conjuncts, is_truth, null, predicate, substitute, transform, truth};
use super::null_rejecting::propagates_null;
use super::plan;
use super::simplify::simplify;
use super::subquery::join_conditions;

/// What such a subquery makes of the aggregate's row.
pub(super) struct OneRow {
    aggregate: LogicalPlan,
    /// The subquery's columns, over those of the aggregate.
    values: Vec<Expr>,
    /// What must hold for there to be a row: HAVING, and conditions around that.
    conditions: Vec<Expr>,
}

impl OneRow {
    /// The subquery, if it is one.
    pub(super) fn of(tree: &LogicalPlan) -> Option<OneRow> {
        if is_global(tree) {
            return is_correlated(tree).then(|| OneRow {
                values: plan::all_columns(tree.schema()),
                aggregate: tree.clone(),
                conditions: Vec::new(),
            });
        }
        let mut row = OneRow::of(below(tree)?)?;
        match tree {
            LogicalPlan::Project { exprs, .. } => {
                let over = |e: &Expr| substitute(e.clone(), &row.values);
                row.values = exprs.iter().map(over).collect();
            }
            LogicalPlan::Filter { predicate, .. } => {
                let over = |e: Expr| substitute(e, &row.values);
                let more: Vec<Expr> = conjuncts(predicate.clone()).into_iter().map(over).collect();
                row.conditions.extend(more);
            }
            _ => {}
        }
        Some(row)
    }

    /// Whether there is certainly no row where there are no rows to aggregate.
    pub(super) fn lacks_empty(&self) -> bool {
        let fails = |c: &Expr| {
            let value = self.over_nothing(c);
            is_truth(&value, false) || is_null(&value)
        };
        self.conditions.iter().any(fails)
    }

    /// Whether it makes no difference to `IN` as a condition that there may be no group: nothing equals
    /// NULL.
    pub(super) fn equals_nothing_if_empty(&self) -> bool {
        let mut columns = 0..self.values.len();
        self.lacks_empty() || columns.any(|column| self.is_null_if_empty(column))
    }

    /// Whether its first column is as NULL as where there is no group.
    pub(super) fn is_no_value_if_empty(&self) -> bool {
        self.lacks_empty() || self.is_null_if_empty(0)
    }

    /// Whether that row has NULL in a column.
    fn is_null_if_empty(&self, column: usize) -> bool {
        is_null(&self.over_nothing(&self.values[column]))
    }

    /// The input, and TRUE where there is a row, else FALSE.
    pub(super) fn exists(self, input: LogicalPlan) -> Result<(LogicalPlan, Expr), SqlError> {
        if self.conditions.is_empty() {
            return Ok((input, truth(true)));
        }
        let (input, _, there) = self.join(input)?;
        Ok((input, there))
    }

    /// The input, and whether `left` is the row: TRUE, FALSE or NULL, as IN says.
    pub(super) fn contains(
        self,
        input: LogicalPlan,
        left: Vec<Expr>,
    ) -> Result<(LogicalPlan, Expr), SqlError> {
        let (input, values, there) = self.join(input)?;
        let pairs = left.into_iter().zip(values);
        let equal = pairs.map(|(left, value)| predicate(F::Equal, vec![left, value]));
        let all: Vec<Expr> = [there].into_iter().chain(equal).collect();
        Ok((input, predicate(F::And, all)))
    }

    /// The input, and the row's first column; NULL where there is no row.
    pub(super) fn value(self, input: LogicalPlan) -> Result<(LogicalPlan, Expr), SqlError> {
        let certain = self.conditions.is_empty();
        let (input, values, there) = self.join(input)?;
        let Some(value) = values.into_iter().next() else {
            return Err(SqlError::plan("a subquery without columns"));
        };
        let data_type = value.data_type.clone().with_nullable(true);
        let kind = match certain {
            true => value.kind,
            false => ExprKind::Case {
                branches: vec![(there, value)],
                otherwise: Box::new(null(&data_type)),
            },
        };
        Ok((input, Expr { kind, data_type }))
    }

    /// An expression over the aggregate's columns where there are no rows to aggregate, as far as it
    /// is known.
    fn over_nothing(&self, expr: &Expr) -> Expr {
        transform(
            substitute(expr.clone(), &of_nothing(&self.aggregate)),
            &mut |part| simplify(fold(part)),
        )
    }

    /// The input with the aggregate beside it, the subquery's columns over that, and whether there is a
    /// row: TRUE or FALSE.
    fn join(self, input: LogicalPlan) -> Result<(LogicalPlan, Vec<Expr>, Expr), SqlError> {
        let empty = of_nothing(&self.aggregate);
        let Pulled { plan, conditions } = take_apart(self.aggregate)?;
        let offset = input.schema().len();
        let columns = empty.into_iter().enumerate().map(|(index, empty)| {
            let data_type = empty.data_type.clone().with_nullable(true);
            let column = Expr::column(offset + index, data_type);
            match is_null(&empty) {
                true => column,
                false => Expr::call(F::Coalesce, vec![column, empty.clone()], empty.data_type),
            }
        });
        let columns: Vec<Expr> = columns.collect();
        let place = |e: Expr| outer_columns(substitute(e, &columns));
        let holds = |c: Expr| predicate(F::IsTrue, vec![place(c)]);
        let there = and(self.conditions.into_iter().map(holds).collect());
        let on = join_conditions(conditions, offset);
        Ok((
            plan::join(input, plan, JoinKind::Left, on),
            self.values.into_iter().map(place).collect(),
            there.unwrap_or_else(|| truth(true)),
        ))
    }
}

/// Takes a subquery apart in which nothing but the outermost aggregate may lose its row over no rows;
/// whether that one may has been seen to.
pub(super) fn take_apart(tree: LogicalPlan) -> Result<Pulled, SqlError> {
    check_parts(outermost(&tree))?;
    pull(tree)
}

fn outermost(tree: &LogicalPlan) -> &LogicalPlan {
    match below(tree) {
        Some(input) if !is_global(tree) => outermost(input),
        _ => tree,
    }
}

/// Refuses aggregates below the node that would lose a row.
fn check_parts(tree: &LogicalPlan) -> Result<(), SqlError> {
    for input in plan::inputs(tree) {
        if is_global(input) && is_correlated(input) {
            return Err(SqlError::plan(
                "an aggregate without GROUP BY that refers to the enclosing query is supported only as the \
                 outermost part of a subquery",
            )
            .hint("group by the column that is compared with the enclosing query, and join"));
        }
        check_parts(input)?;
    }
    Ok(())
}

fn is_global(tree: &LogicalPlan) -> bool {
    matches!(tree, LogicalPlan::Aggregate { keys, grouping_sets: None, .. } if keys.is_empty())
}

/// The input of a node that makes one row at most of each row.
fn below(tree: &LogicalPlan) -> Option<&LogicalPlan> {
    match tree {
        LogicalPlan::Project { input, .. }
        | LogicalPlan::Filter { input, .. }
        | LogicalPlan::Distinct { input }
        | LogicalPlan::Sort {
            input,
            offset: 0,
            limit: None | Some(1..),
            ..
        } => Some(input),
        _ => None,
    }
}

/// What the aggregates of a node give over no rows.
fn of_nothing(aggregate: &LogicalPlan) -> Vec<Expr> {
    let LogicalPlan::Aggregate { calls, .. } = aggregate else {
        return Vec::new();
    };
    let value = |call: &crate::logical::AggregateCall| match call.function {
        AggregateFunction::Count => Expr::literal(Literal::Integer(0), call.data_type.clone()),
        _ => null(&call.data_type),
    };
    calls.iter().map(value).collect()
}

/// NULL out of NULL, and comparisons of whole numbers.
fn fold(expr: Expr) -> Expr {
    let ExprKind::Call { function, args } = &expr.kind else {
        return expr;
    };
    if gives_null(*function) && args.iter().any(is_null) {
        return null(&expr.data_type);
    }
    let number = |e: &Expr| match e.kind {
        ExprKind::Literal(Literal::Integer(n)) if e.data_type.logical.is_integer() => Some(n),
        _ => None,
    };
    let [Some(a), Some(b)] = [args.first(), args.get(1)].map(|arg| arg.and_then(number)) else {
        return expr;
    };
    match function {
        F::Equal => truth(a == b),
        F::NotEqual => truth(a != b),
        F::Less => truth(a < b),
        F::LessOrEqual => truth(a <= b),
        F::Greater => truth(a > b),
        F::GreaterOrEqual => truth(a >= b),
        _ => expr,
    }
}

/// Functions whose result is NULL as soon as one argument is.
fn gives_null(function: F) -> bool {
    propagates_null(function)
        || matches!(
            function,
            F::Sign
                | F::Truncate
                | F::Sqrt
                | F::Cbrt
                | F::Ln
                | F::Log10
                | F::Log2
                | F::Exp
                | F::Power
                | F::Concat
                | F::Trim
                | F::Ltrim
                | F::Rtrim
                | F::Lpad
                | F::Rpad
                | F::Left
                | F::Right
                | F::Replace
                | F::Reverse
                | F::CeilTime
                | F::TimestampAdd
                | F::TimestampDiff
                | F::FromUnixtime
                | F::ToTimestampLtz
        )
}

fn is_null(expr: &Expr) -> bool {
    expr.kind == ExprKind::Literal(Literal::Null)
}

/// Columns of the enclosing query, whose input is the same now.
fn outer_columns(expr: Expr) -> Expr {
    transform(expr, &mut |part| match part.kind {
        ExprKind::OuterColumn { depth: 1, index } => Expr::column(index, part.data_type),
        ExprKind::OuterColumn { depth, index } => Expr {
            kind: ExprKind::OuterColumn {
                depth: depth - 1,
                index,
            },
            data_type: part.data_type,
        },
        _ => part,
    })
}
