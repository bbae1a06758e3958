//! EXISTS and IN with a subquery as values: a LEFT join with the distinct keys of the subquery, and a
//! marker that is NULL where there is none.

use proto::plan::{AggregateFunction, ScalarFunction};
use proto::types::LogicalType;

use crate::error::SqlError;
use crate::logical::{AggregateCall, Expr, ExprKind, JoinKind, LogicalPlan};

use super::decorrelate::{Pulled, equality};
use super::expr::{self, boolean, null, predicate, truth};
use super::plan;
use super::subquery::join_conditions;

/// TRUE where the subquery has a row that meets its conditions and whose first columns equal
/// `left`; else FALSE.
pub(super) fn exists_value(
    input: LogicalPlan,
    pulled: Pulled,
    left: Vec<Expr>,
) -> Result<(LogicalPlan, Expr), SqlError> {
    let keys: Option<Vec<usize>> = pulled.conditions.iter().map(inner_key).collect();
    let Some(mut keys) = keys else {
        return Err(SqlError::plan(
            "EXISTS outside of a plain AND may compare with the enclosing query by `=` only",
        ));
    };
    keys.extend(0..left.len());
    keys.sort_unstable();
    keys.dedup();
    let distinct = distinct_keys(pulled.plan, &keys);
    let width = distinct.schema().len();
    let offset = input.schema().len();
    let position = |index: usize| keys.iter().position(|k| *k == index).unwrap_or_default();
    let conditions = pulled
        .conditions
        .into_iter()
        .map(|c| expr::remap(c, &position))
        .collect();
    let mut conditions = join_conditions(conditions, offset);
    for (i, value) in left.into_iter().enumerate() {
        let column = plan::column(distinct.schema(), position(i));
        conditions.push(in_condition(value, column, offset + position(i)).0);
    }
    let joined = plan::join(input, mark(distinct), JoinKind::Left, conditions);
    let marker = Expr::column(offset + width, LogicalType::Boolean.nullable());
    Ok((joined, predicate(ScalarFunction::IsNotNull, vec![marker])))
}

/// With TRUE as the first column: distinct values of it are there or not, where a count of rows would
/// change with each of them, and all that is joined to it.
fn with_constant(input: LogicalPlan, conditions: &[Expr]) -> Pulled {
    let schema = input.schema().clone();
    let constant = truth(true);
    let fields = [plan::field("$any", &constant)].into_iter();
    let moved = |c: &Expr| expr::remap(c.clone(), &|index| index + 1);
    Pulled {
        conditions: conditions.iter().map(moved).collect(),
        plan: LogicalPlan::Project {
            schema: fields.chain(schema.iter().cloned()).collect(),
            exprs: [constant]
                .into_iter()
                .chain(plan::all_columns(&schema))
                .collect(),
            input: Box::new(input),
        },
    }
}

/// One row for each value of the keys; without keys one row, if there is any.
fn distinct_keys(input: LogicalPlan, keys: &[usize]) -> LogicalPlan {
    let schema = input.schema().clone();
    let mut fields: Vec<_> = keys.iter().map(|k| schema[*k].clone()).collect();
    let mut calls = Vec::new();
    if keys.is_empty() {
        // An aggregate must have a call to have a column at all.
        calls.push(AggregateCall {
            function: AggregateFunction::Count,
            args: Vec::new(),
            distinct: false,
            filter: None,
            data_type: LogicalType::BigInt.not_null(),
            name: "$count".to_owned(),
        });
        fields.push(plan::field("$count", &expr::bigint(0)));
    }
    LogicalPlan::Aggregate {
        input: Box::new(input),
        keys: keys.iter().map(|k| plan::column(&schema, *k)).collect(),
        grouping_sets: None,
        calls,
        schema: fields.into(),
        ttl_ms: None,
    }
}

/// Whether a row of the subquery that meets its conditions equals `left`: TRUE, FALSE or NULL, as IN says.
pub(super) fn in_value(
    input: LogicalPlan,
    pulled: Pulled,
    left: Vec<Expr>,
) -> Result<(LogicalPlan, Expr), SqlError> {
    let column = |index: usize| plan::column(pulled.plan.schema(), index);
    let left_nullable = left.iter().any(|e| e.data_type.nullable);
    let right_nullable = (0..left.len()).any(|i| column(i).data_type.nullable);
    if left.len() > 1 && (left_nullable || right_nullable) {
        return Err(SqlError::plan(
            "IN of several columns that may be NULL is supported only as a condition that is joined to \
             others by AND and OR",
        )
        .hint("use EXISTS, or a join"));
    }
    // It is unknown where nothing is equal and NULL is on one of the sides.
    let of = |plan: LogicalPlan| with_constant(plan, &pulled.conditions);
    let nulls = right_nullable.then(|| {
        let is_null = predicate(ScalarFunction::IsNull, vec![column(0)]);
        of(plan::filter(pulled.plan.clone(), vec![is_null]))
    });
    let any = left_nullable.then(|| of(pulled.plan.clone()));
    let mut unknown = Vec::new();
    let (mut input, found) = exists_value(input, pulled, left.clone())?;
    if let Some(nulls) = nulls {
        let (next, has_null) = exists_value(input, nulls, vec![truth(true)])?;
        input = next;
        unknown.push(has_null);
    }
    if let Some(any) = any {
        let (next, has_any) = exists_value(input, any, vec![truth(true)])?;
        input = next;
        let is_null = predicate(ScalarFunction::IsNull, left);
        unknown.push(predicate(ScalarFunction::And, vec![is_null, has_any]));
    }
    if unknown.is_empty() {
        return Ok((input, found));
    }
    let mut branches = vec![(found, truth(true))];
    branches.extend(unknown.into_iter().map(|c| (c, null(&boolean()))));
    let kind = ExprKind::Case {
        branches,
        otherwise: Box::new(truth(false)),
    };
    let data_type = boolean();
    Ok((input, Expr { kind, data_type }))
}

pub(super) fn in_condition(left: Expr, right: Expr, position: usize) -> (Expr, bool) {
    let nullable = left.data_type.nullable || right.data_type.nullable;
    let right = Expr::column(position, right.data_type);
    (
        predicate(ScalarFunction::Equal, vec![left, right]),
        nullable,
    )
}

/// The subquery's column that a condition compares by `=` with what the enclosing query gives alone.
pub(super) fn inner_key(condition: &Expr) -> Option<usize> {
    let (_, inner, _) = equality(condition)?;
    expr::as_column(inner)
}

/// Appends the constant TRUE.
pub(super) fn mark(right: LogicalPlan) -> LogicalPlan {
    let schema = right.schema().clone();
    let mut exprs = plan::all_columns(&schema);
    let mut fields = schema.to_vec();
    exprs.push(truth(true));
    fields.push(plan::field("$found", &truth(true)));
    LogicalPlan::Project {
        input: Box::new(right),
        exprs,
        schema: fields.into(),
    }
}
