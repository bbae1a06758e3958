//! Pulls the conditions that mention the enclosing query up out of a subquery, so that they can
//! become the condition of a join.
//!
//! The result keeps the subquery's columns where they were and appends those that the pulled
//! conditions need. A condition passes an aggregate only as an equality: its inner side becomes
//! one more key.

use proto::plan::ScalarFunction;

use crate::error::SqlError;
use crate::logical::{Expr, ExprKind, JoinKind, LogicalPlan};

use super::expr::{self, as_column, conjuncts, has_outer, remap};
use super::plan;

/// A subquery without references to the enclosing query, and the conditions that had them:
/// `Column` for the plan's output, `OuterColumn` of depth 1 for the enclosing query.
pub(crate) struct Pulled {
    pub(crate) plan: LogicalPlan,
    pub(crate) conditions: Vec<Expr>,
}

/// Whether anything in the plan reads beyond it.
pub(crate) fn is_correlated(tree: &LogicalPlan) -> bool {
    plan::any_expr(tree, &mut has_outer)
}

/// Takes a subquery apart.
///
/// # Errors
/// When a condition stands where it cannot be pulled from.
pub(crate) fn pull(tree: LogicalPlan) -> Result<Pulled, SqlError> {
    if !is_correlated(&tree) {
        return Ok(Pulled {
            plan: tree,
            conditions: Vec::new(),
        });
    }
    match tree {
        LogicalPlan::Filter { input, predicate } => pull_filter(*input, predicate),
        LogicalPlan::Project {
            input,
            exprs,
            schema,
        } => pull_project(*input, exprs, &schema),
        LogicalPlan::Aggregate { .. } => pull_aggregate(tree),
        LogicalPlan::Join { .. } => pull_join(tree),
        LogicalPlan::Window { .. } => pull_window(tree),
        LogicalPlan::Distinct { input } => {
            let pulled = pull(*input)?;
            Ok(Pulled {
                plan: LogicalPlan::Distinct {
                    input: Box::new(pulled.plan),
                },
                conditions: pulled.conditions,
            })
        }
        LogicalPlan::Sort {
            input,
            limit: None,
            offset: 0,
            ..
        } => pull(*input),
        LogicalPlan::Sort { .. } => Err(unsupported("LIMIT")),
        LogicalPlan::SetOperation { .. } => Err(unsupported("a set operation")),
        LogicalPlan::Over { .. } => Err(unsupported("an OVER aggregate")),
        LogicalPlan::Unnest { .. } => Err(unsupported("UNNEST")),
        LogicalPlan::TemporalJoin { .. } => Err(unsupported("a temporal join")),
        LogicalPlan::Scan { .. } | LogicalPlan::Values { .. } => Err(unsupported("a VALUES list")),
    }
}

fn unsupported(below: &str) -> SqlError {
    SqlError::plan(format!(
        "a subquery that refers to the enclosing query below {below} is not supported"
    ))
    .hint("write it as a join")
}

fn pull_filter(input: LogicalPlan, predicate: Expr) -> Result<Pulled, SqlError> {
    let Pulled {
        plan: input,
        mut conditions,
    } = pull(input)?;
    let (outer, inner): (Vec<_>, Vec<_>) = conjuncts(predicate).into_iter().partition(has_outer);
    conditions.extend(outer);
    Ok(Pulled {
        plan: plan::filter(input, inner),
        conditions,
    })
}

fn pull_project(
    input: LogicalPlan,
    mut exprs: Vec<Expr>,
    schema: &crate::logical::Schema,
) -> Result<Pulled, SqlError> {
    if exprs.iter().any(has_outer) {
        return Err(SqlError::plan(
            "a column of the enclosing query in a subquery's SELECT list is not supported",
        )
        .hint("select it outside"));
    }
    let Pulled {
        plan: input,
        conditions,
    } = pull(input)?;
    let mut fields = schema.to_vec();
    let mut conditions = conditions;
    for condition in &mut conditions {
        let columns = expr::columns(condition);
        let mut positions = std::collections::BTreeMap::new();
        for index in columns {
            let known = exprs.iter().position(|e| as_column(e) == Some(index));
            let position = known.unwrap_or_else(|| {
                exprs.push(plan::column(input.schema(), index));
                fields.push(input.schema()[index].clone());
                exprs.len() - 1
            });
            positions.insert(index, position);
        }
        *condition = remap(condition.clone(), &|index| positions[&index]);
    }
    Ok(Pulled {
        plan: LogicalPlan::Project {
            input: Box::new(input),
            exprs,
            schema: fields.into(),
        },
        conditions,
    })
}

/// The two sides of `inner = outer`, the inner one first.
pub(super) fn equality(condition: &Expr) -> Option<(ScalarFunction, &Expr, &Expr)> {
    let ExprKind::Call { function, args } = &condition.kind else {
        return None;
    };
    if !matches!(
        function,
        ScalarFunction::Equal | ScalarFunction::IsNotDistinctFrom
    ) {
        return None;
    }
    let reads_only_outer = |e: &Expr| has_outer(e) && expr::columns(e).is_empty();
    match args.as_slice() {
        [inner, outer] if !has_outer(inner) && reads_only_outer(outer) => {
            Some((*function, inner, outer))
        }
        [outer, inner] if !has_outer(inner) && reads_only_outer(outer) => {
            Some((*function, inner, outer))
        }
        _ => None,
    }
}

fn pull_aggregate(tree: LogicalPlan) -> Result<Pulled, SqlError> {
    let LogicalPlan::Aggregate {
        input,
        mut keys,
        grouping_sets,
        calls,
        schema,
        ttl_ms,
    } = tree
    else {
        return Err(unsupported("an aggregate"));
    };
    if keys.iter().any(has_outer)
        || calls
            .iter()
            .any(|c| c.args.iter().chain(&c.filter).any(has_outer))
        || grouping_sets.is_some()
    {
        return Err(unsupported("GROUP BY"));
    }
    let old_keys = keys.len();
    let Pulled {
        plan: input,
        conditions,
    } = pull(*input)?;
    let mut pairs = Vec::new();
    for condition in &conditions {
        let Some((function, inner, outer)) = equality(condition) else {
            return Err(SqlError::plan(
                "a subquery with an aggregate may compare with the enclosing query by `=` only",
            ));
        };
        let position = keys.iter().position(|k| k == inner).unwrap_or_else(|| {
            keys.push(inner.clone());
            keys.len() - 1
        });
        pairs.push((function, position, outer.clone()));
    }
    let mut fields = schema[..old_keys].to_vec();
    for (i, key) in keys[old_keys..].iter().enumerate() {
        fields.push(plan::field(format!("$key{i}"), key));
    }
    fields.extend_from_slice(&schema[old_keys..]);
    let new_keys = keys.len() - old_keys;
    let aggregate = LogicalPlan::Aggregate {
        input: Box::new(input),
        keys: keys.clone(),
        grouping_sets: None,
        calls,
        schema: fields.into(),
        ttl_ms,
    };
    // Old columns where they were, new keys behind them.
    let order: Vec<usize> = (0..old_keys)
        .chain(old_keys + new_keys..schema.len() + new_keys)
        .chain(old_keys..old_keys + new_keys)
        .collect();
    let conditions = pairs
        .into_iter()
        .map(|(function, key, outer)| {
            let at = order.iter().position(|c| *c == key).unwrap_or(key);
            let inner = Expr::column(at, keys[key].data_type.clone());
            expr::predicate(function, vec![inner, outer])
        })
        .collect();
    Ok(Pulled {
        plan: plan::select(aggregate, &order),
        conditions,
    })
}

fn pull_join(tree: LogicalPlan) -> Result<Pulled, SqlError> {
    let LogicalPlan::Join {
        left,
        right,
        kind,
        condition,
        ..
    } = tree
    else {
        return Err(unsupported("a join"));
    };
    let may_pull_right = kind == JoinKind::Inner;
    if !may_pull_right && is_correlated(&right) || matches!(kind, JoinKind::Right | JoinKind::Full)
    {
        return Err(unsupported("an outer join"));
    }
    let (old_left, old_right) = (left.schema().len(), right.schema().len());
    let left = pull(*left)?;
    let right = pull(*right)?;
    let (new_left, new_right) = (left.plan.schema().len(), right.plan.schema().len());
    let widen = |e: Expr| {
        remap(e, &|i| {
            if i < old_left {
                i
            } else {
                i - old_left + new_left
            }
        })
    };
    let on: Vec<Expr> = condition
        .map(conjuncts)
        .unwrap_or_default()
        .into_iter()
        .map(widen)
        .collect();
    let (outer, inner): (Vec<_>, Vec<_>) = on.into_iter().partition(has_outer);
    if !outer.is_empty() && !may_pull_right {
        return Err(unsupported("an outer join"));
    }
    let mut conditions = left.conditions;
    conditions.extend(
        right
            .conditions
            .into_iter()
            .map(|c| remap(c, &|i| i + new_left)),
    );
    conditions.extend(outer);
    let joined = plan::join(left.plan, right.plan, kind, inner);
    let order: Vec<usize> = if matches!(kind, JoinKind::Semi | JoinKind::Anti) {
        (0..new_left).collect()
    } else {
        (0..old_left)
            .chain(new_left..new_left + old_right)
            .chain(old_left..new_left)
            .chain(new_left + old_right..new_left + new_right)
            .collect()
    };
    Ok(reorder(joined, conditions, &order))
}

fn pull_window(tree: LogicalPlan) -> Result<Pulled, SqlError> {
    let LogicalPlan::Window {
        input,
        function,
        schema,
    } = tree
    else {
        return Err(unsupported("a window"));
    };
    let old = input.schema().len();
    let Pulled {
        plan: input,
        conditions,
    } = pull(*input)?;
    let new = input.schema().len();
    let fields = input
        .schema()
        .iter()
        .chain(&schema[old..])
        .cloned()
        .collect();
    let window = LogicalPlan::Window {
        input: Box::new(input),
        function,
        schema: fields,
    };
    let order: Vec<usize> = (0..old)
        .chain(new..new + schema.len() - old)
        .chain(old..new)
        .collect();
    Ok(reorder(window, conditions, &order))
}

fn reorder(tree: LogicalPlan, conditions: Vec<Expr>, order: &[usize]) -> Pulled {
    let position = |index: usize| order.iter().position(|c| *c == index).unwrap_or(index);
    Pulled {
        plan: plan::select(tree, order),
        conditions: conditions
            .into_iter()
            .map(|c| remap(c, &position))
            .collect(),
    }
}
