//! UNION, INTERSECT, EXCEPT: columns by position, in their common types.

use proto::types::DataType;
use sqlparser::ast::{self, Spanned as _};

use super::Binder;
use super::coerce::coerce;
use super::order::{Tail, sort_key};
use super::scope::Env;
use super::scope::column;
use super::types::least_restrictive;
use crate::error::SqlError;
use crate::logical::{Expr, ExprKind, LogicalField, LogicalPlan, Schema, SetOp};

impl Binder<'_> {
    /// `left op right`; a chain of one side is bound without recursion.
    pub(crate) fn set_operation(
        &self,
        body: &ast::SetExpr,
        outer: Option<&Env<'_>>,
    ) -> Result<LogicalPlan, SqlError> {
        let mut pending = Vec::new();
        let mut first = body;
        while let ast::SetExpr::SetOperation {
            left,
            op,
            set_quantifier,
            right,
        } = first
        {
            pending.push((*op, *set_quantifier, right.as_ref()));
            first = left;
        }
        let mut plan = self.set_expr(first, &NO_TAIL, outer)?;
        while let Some((op, quantifier, right)) = pending.pop() {
            let other = self.set_expr(right, &NO_TAIL, outer)?;
            plan = combine(op, quantifier, plan, other)
                .map_err(|error| error.at_parser(right.span()))?;
        }
        Ok(plan)
    }
}

/// Inside a set operation there is no ORDER BY but in parentheses.
const NO_TAIL: Tail<'static> = Tail {
    order_by: &[],
    offset: 0,
    limit: None,
};

fn combine(
    op: ast::SetOperator,
    quantifier: ast::SetQuantifier,
    left: LogicalPlan,
    right: LogicalPlan,
) -> Result<LogicalPlan, SqlError> {
    let kind = match op {
        ast::SetOperator::Union => SetOp::Union,
        ast::SetOperator::Intersect => SetOp::Intersect,
        ast::SetOperator::Except => SetOp::Except,
        ast::SetOperator::Minus => {
            return Err(SqlError::validate("MINUS is not supported").hint("write EXCEPT"));
        }
    };
    let all = match quantifier {
        ast::SetQuantifier::All => true,
        ast::SetQuantifier::None | ast::SetQuantifier::Distinct => false,
        other => return Err(SqlError::validate(format!("{op} {other} is not supported"))),
    };
    let shown = format!("{op}{}", if all { " ALL" } else { "" });
    let (own, other) = (left.schema().clone(), right.schema().clone());
    if own.len() != other.len() {
        return Err(SqlError::validate(format!(
            "the sides of {shown} have {} and {} columns",
            own.len(),
            other.len()
        )));
    }
    let mut types = Vec::with_capacity(own.len());
    let mut fields = Vec::with_capacity(own.len());
    for (position, (a, b)) in own.iter().zip(other.iter()).enumerate() {
        let pair = [a.data_type.clone(), b.data_type.clone()];
        let data_type = least_restrictive(&pair).ok_or_else(|| {
            SqlError::validate(format!(
                "column {} of {shown} is {} on one side and {} on the other",
                position + 1,
                a.data_type.logical,
                b.data_type.logical
            ))
            .hint("cast one of them")
        })?;
        let time = a
            .time
            .filter(|time| kind == SetOp::Union && all && b.time == Some(*time));
        fields.push(LogicalField {
            qualifier: None,
            name: a.name.clone(),
            data_type: data_type.clone(),
            time,
        });
        types.push(data_type);
    }
    Ok(LogicalPlan::SetOperation {
        op: kind,
        all,
        left: Box::new(cast_columns(left, &types)),
        right: Box::new(cast_columns(right, &types)),
        schema: fields.into(),
    })
}

/// The plan with its columns cast; itself where they have the types.
pub(crate) fn cast_columns(plan: LogicalPlan, types: &[DataType]) -> LogicalPlan {
    let schema = plan.schema().clone();
    let exprs: Vec<Expr> = schema
        .iter()
        .enumerate()
        .zip(types)
        .map(|((index, field), wanted)| coerce(column(index, field), &wanted.logical))
        .collect();
    if exprs
        .iter()
        .all(|expr| matches!(expr.kind, ExprKind::Column(_)))
    {
        return plan;
    }
    let fields: Schema = schema
        .iter()
        .zip(&exprs)
        .map(|(field, expr)| LogicalField {
            data_type: expr.data_type.clone(),
            time: field
                .time
                .filter(|_| matches!(expr.kind, ExprKind::Column(_))),
            ..field.clone()
        })
        .collect();
    LogicalPlan::Project {
        input: Box::new(plan),
        exprs,
        schema: fields,
    }
}

/// Sorts a plan by its own columns.
pub(crate) fn sort_output(
    binder: &super::expr::ExprBinder<'_>,
    plan: LogicalPlan,
    tail: &Tail<'_>,
) -> Result<LogicalPlan, SqlError> {
    if tail.is_empty() {
        return Ok(plan);
    }
    let schema = plan.schema().clone();
    let mut keys = Vec::with_capacity(tail.order_by.len());
    for key in tail.order_by {
        let bound = binder.bind(&key.expr)?;
        let bound = match bound.kind {
            ExprKind::Literal(crate::logical::Literal::Integer(ordinal)) => {
                let index = usize::try_from(ordinal).ok().and_then(|n| n.checked_sub(1));
                let index = index.filter(|index| *index < schema.len()).ok_or_else(|| {
                    SqlError::validate(format!(
                        "ORDER BY {ordinal}: there are {} columns",
                        schema.len()
                    ))
                    .at_parser(key.expr.span())
                })?;
                column(index, &schema[index])
            }
            _ => bound,
        };
        keys.push(sort_key(key, bound)?);
    }
    let (offset, limit) = (tail.offset, tail.limit);
    Ok(LogicalPlan::Sort {
        input: Box::new(plan),
        keys,
        offset,
        limit,
    })
}

/// Whether a grouped column is a window's time: the only time attribute that survives an
/// aggregate.
pub(crate) fn window_time_survives(plan: &LogicalPlan, index: usize) -> bool {
    match plan {
        LogicalPlan::Window { input, .. } => index == input.schema().len() + 2,
        LogicalPlan::Project { input, exprs, .. } => match exprs[index].kind {
            ExprKind::Column(index) => window_time_survives(input, index),
            _ => false,
        },
        LogicalPlan::Aggregate { input, keys, .. } => match keys.get(index).map(|key| &key.kind) {
            Some(ExprKind::Column(index)) => window_time_survives(input, *index),
            _ => false,
        },
        LogicalPlan::Filter { input, .. }
        | LogicalPlan::Distinct { input }
        | LogicalPlan::Sort { input, .. } => window_time_survives(input, index),
        LogicalPlan::Over { input, .. } | LogicalPlan::Unnest { input, .. } => {
            index < input.schema().len() && window_time_survives(input, index)
        }
        LogicalPlan::Join { left, right, .. } | LogicalPlan::TemporalJoin { left, right, .. } => {
            match index.checked_sub(left.schema().len()) {
                None => window_time_survives(left, index),
                Some(index) => window_time_survives(right, index),
            }
        }
        LogicalPlan::SetOperation { left, right, .. } => {
            window_time_survives(left, index) && window_time_survives(right, index)
        }
        LogicalPlan::Scan { .. } | LogicalPlan::Values { .. } => false,
    }
}
