//! Turns subqueries in expressions into joins.
//!
//! | subquery | plan |
//! |---|---|
//! | `IN`, `EXISTS` as a conjunct of WHERE | SEMI join |
//! | `NOT EXISTS` | ANTI join |
//! | `NOT IN` | ANTI join whose pairs also match where the comparison is NULL |
//! | scalar, anywhere | LEFT join; a SINGLE_VALUE aggregate unless one row at most is certain |
//! | `EXISTS` and `IN` anywhere else | LEFT join with the distinct keys, tested for NULL |
//! | any over an aggregate that has a row for no rows | LEFT join: see [`super::one_row`] |
//!
//! The joined columns come behind the input's, so that positions, and the references of other
//! subqueries to them, stay.

use proto::plan::{AggregateFunction, ScalarFunction};
use proto::types::LogicalType;

use crate::error::SqlError;
use crate::logical::{AggregateCall, Expr, ExprKind, JoinKind, Literal, LogicalPlan};

use super::decorrelate::Pulled;
use super::exists::{exists_value, in_condition, in_value, inner_key, mark};
use super::expr::{self, conjuncts, has_subquery, predicate, transform, truth};
use super::one_row::{OneRow, take_apart};
use super::plan;

/// Removes every subquery.
///
/// # Errors
/// When one stands where it has no plan.
pub(crate) fn remove_subqueries(tree: LogicalPlan) -> Result<LogicalPlan, SqlError> {
    let tree = plan::map_inputs(tree, &mut remove_subqueries)?;
    if !plan::exprs(&tree).into_iter().any(has_subquery) {
        return Ok(tree);
    }
    match tree {
        LogicalPlan::Filter { input, predicate } => in_filter(*input, predicate),
        LogicalPlan::Project {
            input,
            exprs,
            schema,
        } => {
            let (input, exprs) = as_values(*input, exprs)?;
            Ok(LogicalPlan::Project {
                input: Box::new(input),
                exprs,
                schema,
            })
        }
        LogicalPlan::Aggregate {
            input,
            keys,
            grouping_sets,
            mut calls,
            schema,
            ttl_ms,
        } => {
            let (mut input, keys) = as_values(*input, keys)?;
            for call in &mut calls {
                (input, call.args) = as_values(input, std::mem::take(&mut call.args))?;
                if let Some(filter) = call.filter.take() {
                    let (next, filter) = as_value(input, filter)?;
                    input = next;
                    call.filter = Some(filter);
                }
            }
            Ok(LogicalPlan::Aggregate {
                input: Box::new(input),
                keys,
                grouping_sets,
                calls,
                schema,
                ttl_ms,
            })
        }
        other => Err(
            SqlError::plan(format!("a subquery in {} is not supported", place(&other)))
                .hint("move it to WHERE or to the SELECT list"),
        ),
    }
}

fn in_filter(mut input: LogicalPlan, predicate: Expr) -> Result<LogicalPlan, SqlError> {
    let columns: Vec<usize> = (0..input.schema().len()).collect();
    let mut kept = Vec::new();
    for conjunct in conjuncts(predicate) {
        input = match conjunct_join(input, conjunct)? {
            Joined::Done(input) => input,
            Joined::Left(input, conjunct) => {
                kept.push(conjunct);
                input
            }
        };
    }
    Ok(plan::select(plan::filter(input, kept), &columns))
}

fn place(tree: &LogicalPlan) -> &'static str {
    match tree {
        LogicalPlan::Join { .. } | LogicalPlan::TemporalJoin { .. } => "ON",
        LogicalPlan::Sort { .. } => "ORDER BY",
        LogicalPlan::Over { .. } => "OVER",
        LogicalPlan::Values { .. } => "VALUES",
        LogicalPlan::Unnest { .. } => "UNNEST",
        _ => "this place",
    }
}

enum Joined {
    /// The conjunct has become a join.
    Done(LogicalPlan),
    /// The conjunct's subqueries have; it still is to be tested.
    Left(LogicalPlan, Expr),
}

fn conjunct_join(input: LogicalPlan, conjunct: Expr) -> Result<Joined, SqlError> {
    if !has_subquery(&conjunct) {
        return Ok(Joined::Left(input, conjunct));
    }
    let (negated, inner) = match conjunct.kind {
        ExprKind::Call {
            function: ScalarFunction::Not,
            mut args,
        } if args.len() == 1 => (true, args.remove(0)),
        kind => (
            false,
            Expr {
                kind,
                data_type: conjunct.data_type.clone(),
            },
        ),
    };
    match inner.kind {
        ExprKind::Exists(subquery) => {
            let subquery = strip_projection(remove_subqueries(without_order(*subquery))?);
            if let Some(row) = OneRow::of(&subquery).filter(|row| !row.lacks_empty()) {
                let (input, there) = row.exists(input)?;
                return Ok(Joined::Left(input, unless(negated, there)));
            }
            let pulled = take_apart(subquery)?;
            let kind = semi_or_anti(negated);
            Ok(Joined::Done(semi_join(input, pulled, Vec::new(), kind)))
        }
        ExprKind::InSubquery { exprs, plan } => in_join(input, exprs, *plan, negated),
        kind => {
            let inner = Expr {
                kind,
                data_type: inner.data_type,
            };
            let (input, value) = as_condition(input, unless(negated, inner))?;
            Ok(Joined::Left(input, value))
        }
    }
}

/// A conjunct that is IN, or NOT IN.
fn in_join(
    input: LogicalPlan,
    exprs: Vec<Expr>,
    subquery: LogicalPlan,
    negated: bool,
) -> Result<Joined, SqlError> {
    let width = input.schema().len();
    let (input, left) = as_values(input, exprs)?;
    let subquery = remove_subqueries(subquery)?;
    let same = |row: &OneRow| match negated {
        true => row.lacks_empty(),
        false => row.equals_nothing_if_empty(),
    };
    if let Some(row) = OneRow::of(&subquery).filter(|row| !same(row)) {
        let (input, contains) = row.contains(input, left)?;
        return Ok(Joined::Left(input, unless(negated, contains)));
    }
    let pulled = take_apart(subquery)?;
    let offset = input.schema().len();
    let pairs = left
        .into_iter()
        .enumerate()
        .map(|(i, l)| in_condition(l, plan::column(pulled.plan.schema(), i), offset + i))
        .map(|(equal, nullable)| {
            if negated && nullable {
                predicate(ScalarFunction::IsNotFalse, vec![equal])
            } else {
                equal
            }
        })
        .collect();
    let columns: Vec<usize> = (0..width).collect();
    let joined = semi_join(input, pulled, pairs, semi_or_anti(negated));
    Ok(Joined::Done(plan::select(joined, &columns)))
}

fn semi_or_anti(negated: bool) -> JoinKind {
    match negated {
        true => JoinKind::Anti,
        false => JoinKind::Semi,
    }
}

fn unless(negated: bool, condition: Expr) -> Expr {
    match negated {
        true => predicate(ScalarFunction::Not, vec![condition]),
        false => condition,
    }
}

/// Conditions over the joined columns, once the subquery's output stands behind `offset` columns.
pub(super) fn join_conditions(conditions: Vec<Expr>, offset: usize) -> Vec<Expr> {
    let place = |part: Expr| match part.kind {
        ExprKind::Column(index) => Expr::column(index + offset, part.data_type),
        ExprKind::OuterColumn { depth: 1, index } => Expr::column(index, part.data_type),
        ExprKind::OuterColumn { depth, index } => Expr {
            kind: ExprKind::OuterColumn {
                depth: depth - 1,
                index,
            },
            data_type: part.data_type,
        },
        _ => part,
    };
    conditions
        .into_iter()
        .map(|condition| transform(condition, &mut { place }))
        .collect()
}

fn semi_join(
    input: LogicalPlan,
    pulled: Pulled,
    mut pairs: Vec<Expr>,
    kind: JoinKind,
) -> LogicalPlan {
    let offset = input.schema().len();
    pairs.extend(join_conditions(pulled.conditions, offset));
    plan::join(input, pulled.plan, kind, pairs)
}

/// What EXISTS selects does not matter; constants would otherwise stand in the way of pulling.
fn strip_projection(tree: LogicalPlan) -> LogicalPlan {
    match tree {
        LogicalPlan::Project { input, .. } => strip_projection(*input),
        LogicalPlan::Distinct { input } => strip_projection(*input),
        other => other,
    }
}

/// A subquery's row order means nothing; `EXISTS (… LIMIT n)` is `EXISTS` for n > 0.
fn without_order(tree: LogicalPlan) -> LogicalPlan {
    match tree {
        LogicalPlan::Sort {
            input,
            offset: 0,
            limit,
            ..
        } if limit != Some(0) => *input,
        other => other,
    }
}

/// As [`as_value`] for a condition that drops a row where it is NULL or FALSE alike: then IN may
/// say FALSE for NULL, as long as nothing but AND and OR is around it.
fn as_condition(input: LogicalPlan, value: Expr) -> Result<(LogicalPlan, Expr), SqlError> {
    match value.kind {
        ExprKind::Call {
            function: function @ (ScalarFunction::And | ScalarFunction::Or),
            args,
        } => {
            let mut input = input;
            let mut parts = Vec::new();
            for arg in args {
                let (next, part) = as_condition(input, arg)?;
                input = next;
                parts.push(part);
            }
            Ok((input, predicate(function, parts)))
        }
        ExprKind::InSubquery { exprs, plan } => {
            let (input, left) = as_values(input, exprs)?;
            let subquery = remove_subqueries(*plan)?;
            match OneRow::of(&subquery).filter(|row| !row.equals_nothing_if_empty()) {
                Some(row) => row.contains(input, left),
                None => exists_value(input, take_apart(subquery)?, left),
            }
        }
        kind => as_value(
            input,
            Expr {
                kind,
                data_type: value.data_type,
            },
        ),
    }
}

fn as_values(
    mut input: LogicalPlan,
    exprs: Vec<Expr>,
) -> Result<(LogicalPlan, Vec<Expr>), SqlError> {
    let mut values = Vec::new();
    for expr in exprs {
        let (next, value) = as_value(input, expr)?;
        input = next;
        values.push(value);
    }
    Ok((input, values))
}

/// Joins the subqueries of an expression to the input; the expression then reads their columns.
fn as_value(input: LogicalPlan, value: Expr) -> Result<(LogicalPlan, Expr), SqlError> {
    if !has_subquery(&value) {
        return Ok((input, value));
    }
    let mut state = Ok(input);
    let value = transform(value, &mut |part| {
        if !matches!(
            part.kind,
            ExprKind::ScalarSubquery(_) | ExprKind::Exists(_) | ExprKind::InSubquery { .. }
        ) {
            return part;
        }
        let taken = std::mem::replace(&mut state, Err(SqlError::plan("a subquery failed")));
        let fallback = truth(true);
        match taken.and_then(|input| one_value(input, part)) {
            Ok((input, value)) => {
                state = Ok(input);
                value
            }
            Err(error) => {
                state = Err(error);
                fallback
            }
        }
    });
    state.map(|input| (input, value))
}

fn one_value(input: LogicalPlan, part: Expr) -> Result<(LogicalPlan, Expr), SqlError> {
    match part.kind {
        ExprKind::ScalarSubquery(subquery) => scalar(input, *subquery),
        ExprKind::Exists(subquery) => {
            let subquery = strip_projection(remove_subqueries(without_order(*subquery))?);
            match OneRow::of(&subquery).filter(|row| !row.lacks_empty()) {
                Some(row) => row.exists(input),
                None => exists_value(input, take_apart(subquery)?, Vec::new()),
            }
        }
        ExprKind::InSubquery { exprs, plan } => {
            let subquery = remove_subqueries(*plan)?;
            match OneRow::of(&subquery) {
                Some(row) => row.contains(input, exprs),
                None => in_value(input, take_apart(subquery)?, exprs),
            }
        }
        kind => {
            let data_type = part.data_type;
            Ok((input, Expr { kind, data_type }))
        }
    }
}

fn scalar(input: LogicalPlan, subquery: LogicalPlan) -> Result<(LogicalPlan, Expr), SqlError> {
    let subquery = remove_subqueries(subquery)?;
    let one_row_before = at_most_one_row(&subquery);
    let empty_value = value_of_empty(&subquery);
    let one_row = OneRow::of(&subquery).filter(|row| !row.is_no_value_if_empty());
    if let (None, Some(row)) = (&empty_value, one_row) {
        return row.value(input);
    }
    let Pulled {
        plan: mut right,
        conditions,
    } = take_apart(subquery)?;
    let keys: Option<Vec<usize>> = conditions.iter().map(inner_key).collect();
    let correlated = !conditions.is_empty();
    let mut conditions = conditions;
    if !one_row_before {
        let Some(keys) = keys else {
            return Err(SqlError::plan(
                "a scalar subquery without an aggregate may compare with the enclosing query by `=` only",
            ));
        };
        (right, conditions) = single_value(right, &keys, conditions);
    }
    let offset = input.schema().len();
    let width = right.schema().len();
    let data_type = right.schema()[0].data_type.clone().with_nullable(true);
    if let (true, Some(empty)) = (correlated, empty_value) {
        // COUNT of nothing is 0, not NULL: a marker tells "no group" from "a NULL value".
        let marked = mark(right);
        let joined = plan::join(
            input,
            marked,
            JoinKind::Left,
            join_conditions(conditions, offset),
        );
        let marker = Expr::column(offset + width, LogicalType::Boolean.nullable());
        let value = Expr {
            kind: ExprKind::Case {
                branches: vec![(predicate(ScalarFunction::IsNull, vec![marker]), empty)],
                otherwise: Box::new(Expr::column(offset, data_type.clone())),
            },
            data_type,
        };
        return Ok((joined, value));
    }
    let conditions = join_conditions(conditions, offset);
    let joined = plan::join(input, right, JoinKind::Left, conditions);
    Ok((joined, Expr::column(offset, data_type)))
}

/// One row per key, failing on a second.
fn single_value(
    right: LogicalPlan,
    keys: &[usize],
    conditions: Vec<Expr>,
) -> (LogicalPlan, Vec<Expr>) {
    let schema = right.schema().clone();
    let mut distinct: Vec<usize> = keys.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let value = plan::column(&schema, 0);
    let call = AggregateCall {
        function: AggregateFunction::SingleValue,
        data_type: value.data_type.clone().with_nullable(true),
        name: schema[0].name.clone(),
        args: vec![value],
        distinct: false,
        filter: None,
    };
    let mut fields: Vec<_> = distinct.iter().map(|k| schema[*k].clone()).collect();
    let mut value_field = schema[0].clone();
    value_field.data_type.nullable = true;
    fields.push(value_field);
    let aggregate = LogicalPlan::Aggregate {
        input: Box::new(right),
        keys: distinct.iter().map(|k| plan::column(&schema, *k)).collect(),
        grouping_sets: None,
        calls: vec![call],
        schema: fields.into(),
        ttl_ms: None,
    };
    // The value first again, keys behind it.
    let order: Vec<usize> = [distinct.len()]
        .into_iter()
        .chain(0..distinct.len())
        .collect();
    let position = |index: usize| {
        1 + distinct
            .iter()
            .position(|k| *k == index)
            .unwrap_or_default()
    };
    let conditions = conditions
        .into_iter()
        .map(|c| expr::remap(c, &position))
        .collect();
    (plan::select(aggregate, &order), conditions)
}

/// Whether the subquery gives one row at most for each row of the enclosing query.
fn at_most_one_row(tree: &LogicalPlan) -> bool {
    match tree {
        LogicalPlan::Aggregate {
            keys,
            grouping_sets,
            ..
        } => keys.is_empty() && grouping_sets.is_none(),
        LogicalPlan::Project { input, .. }
        | LogicalPlan::Filter { input, .. }
        | LogicalPlan::Distinct { input } => at_most_one_row(input),
        LogicalPlan::Sort { input, limit, .. } => {
            limit.is_some_and(|limit| limit <= 1) || at_most_one_row(input)
        }
        LogicalPlan::Values { rows, .. } => rows.len() <= 1,
        _ => false,
    }
}

/// The value of a global aggregate with a COUNT over no rows, right below; of others, [`OneRow`] knows.
fn value_of_empty(tree: &LogicalPlan) -> Option<Expr> {
    let (exprs, aggregate) = match tree {
        LogicalPlan::Project { input, exprs, .. } => (Some(exprs), &**input),
        other => (None, other),
    };
    let LogicalPlan::Aggregate { keys, calls, .. } = aggregate else {
        return None;
    };
    let counts = |call: &AggregateCall| call.function == AggregateFunction::Count;
    if !keys.is_empty() || !calls.iter().any(counts) {
        return None;
    }
    let values: Vec<Expr> = calls
        .iter()
        .map(|call| {
            if counts(call) {
                Expr::literal(Literal::Integer(0), call.data_type.clone())
            } else {
                expr::null(&call.data_type)
            }
        })
        .collect();
    let first = match exprs {
        Some(exprs) => expr::substitute(exprs[0].clone(), &values),
        None => values[0].clone(),
    };
    Some(super::simplify::simplify(first))
}
