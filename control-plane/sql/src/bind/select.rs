//! SELECT: FROM → WHERE → GROUP BY → HAVING → OVER → QUALIFY → the list → DISTINCT → ORDER BY.

use std::cell::RefCell;
use std::rc::Rc;

use proto::plan::ScalarFunction;
use sqlparser::ast::{self, Spanned as _};

use super::Binder;
use super::aggregate::{AfterAggregate, Calls, after_over};
use super::expr::ExprBinder;
use super::from::Source;
use super::group_by::{self, GroupBy};
use super::group_window::{self, is_group_window};
use super::order::{Tail, sort_key};
use super::over::named_windows;
use super::refuse::refuse_all;
use super::scope::Env;
use super::select_list::{Item, OrderTarget, order_target, select_item};
use super::set_operation::window_time_survives;
use super::state_ttl::StateTtls;
use crate::error::SqlError;
use crate::logical::{AggregateCall, Expr, ExprKind, LogicalField, LogicalPlan, Schema, SortKey};

/// The bound expressions of a SELECT, before they are put over their nodes.
struct Parts {
    items: Vec<Item>,
    having: Option<Expr>,
    qualify: Option<Expr>,
    order: Vec<OrderTarget>,
}

impl Binder<'_> {
    /// A SELECT with what stands after it.
    pub(crate) fn select(
        &self,
        select: &ast::Select,
        tail: &Tail<'_>,
        outer: Option<&Env<'_>>,
    ) -> Result<LogicalPlan, SqlError> {
        refuse_extras(select)?;
        let select_span = select.select_token.0.span;
        let state_ttl = Rc::new(StateTtls::new(self.context.hints.state_ttl(select_span)));
        let from = Binder {
            state_ttl: Rc::clone(&state_ttl),
            ..self.clone()
        };
        let Source { mut plan, scope } = from.from(&select.from, outer)?;
        state_ttl.check_names(&scope.fields)?;
        let env = Env {
            scope: &scope,
            outer,
        };
        if let Some(condition) = &select.selection {
            let predicate = ExprBinder::new(self, &env, "WHERE").bind_condition(condition)?;
            plan = LogicalPlan::Filter {
                input: Box::new(plan),
                predicate,
            };
        }
        let calls = RefCell::new(Calls {
            windows: named_windows(&select.named_window)?,
            ..Calls::default()
        });
        let group_items = group_by::items(&select.group_by)
            .map_err(|error| error.at_parser(select.select_token.0.span))?;
        let (plan, group_by, node_keys) = self.group_by(plan, &env, group_items, &calls)?;
        let parts = self.select_parts(select, tail, &env, &calls)?;
        let calls = calls.into_inner();
        let aggregated =
            group_by.present || !calls.aggregates.is_empty() || select.having.is_some();
        let (plan, parts, overs) = if aggregated {
            let ttl_ms = state_ttl.of(&scope.fields);
            aggregate(
                plan,
                (&scope.fields, ttl_ms),
                &group_by,
                node_keys,
                calls,
                parts,
            )?
        } else {
            (plan, parts, calls.overs)
        };
        state_ttl.check_used()?;
        finish(plan, parts, overs, select.distinct.is_some(), tail)
    }

    /// GROUP BY, with the Window node of a group window. Returns the keys of the Aggregate node,
    /// which differ from the bound ones where they had to become columns first.
    fn group_by(
        &self,
        plan: LogicalPlan,
        env: &Env<'_>,
        items: &[ast::Expr],
        calls: &RefCell<Calls>,
    ) -> Result<(LogicalPlan, GroupBy, Vec<Expr>), SqlError> {
        let binder = ExprBinder::new(self, env, "GROUP BY");
        let (windows, keys): (Vec<&ast::Expr>, Vec<&ast::Expr>) =
            items.iter().partition(|item| is_group_window(item));
        let mut group_by = group_by::bind(&binder, &keys)?;
        let (plan, node_keys) = match windows.as_slice() {
            [] => {
                let node_keys = group_by.keys.clone();
                (plan, node_keys)
            }
            [window] => {
                let window = binder.group_window(window)?;
                let count = group_by.keys.len();
                let (plan, window, node_keys) =
                    group_window::apply(plan, window, group_by.keys.clone())?;
                calls.borrow_mut().group_window = Some(window);
                group_by.present = true;
                group_by.keys.extend_from_slice(&node_keys[count..]);
                for set in group_by.sets.iter_mut().flatten() {
                    set.extend(count..node_keys.len());
                }
                (plan, node_keys)
            }
            [_, second, ..] => {
                return Err(
                    SqlError::validate("GROUP BY takes one group window").at_parser(second.span())
                );
            }
        };
        let mut calls = calls.borrow_mut();
        calls.keys.clone_from(&group_by.keys);
        calls.grouping_sets.clone_from(&group_by.sets);
        Ok((plan, group_by, node_keys))
    }

    fn select_parts(
        &self,
        select: &ast::Select,
        tail: &Tail<'_>,
        env: &Env<'_>,
        calls: &RefCell<Calls>,
    ) -> Result<Parts, SqlError> {
        let binder = |clause| ExprBinder::new(self, env, clause).with_calls(calls);
        let list = binder("the SELECT list");
        let mut items = Vec::new();
        for item in &select.projection {
            select_item(&list, item, &mut items)?;
        }
        let having = select.having.as_ref();
        let having = having
            .map(|having| binder("HAVING").bind_condition(having))
            .transpose()?;
        let qualify = select.qualify.as_ref();
        let qualify = qualify
            .map(|q| binder("QUALIFY").bind_condition(q))
            .transpose()?;
        let order_binder = binder("ORDER BY");
        let order = tail
            .order_by
            .iter()
            .map(|key| order_target(&order_binder, key, &items))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Parts {
            items,
            having,
            qualify,
            order,
        })
    }
}

/// Refuses the parts of a SELECT that the language does not have.
fn refuse_extras(select: &ast::Select) -> Result<(), SqlError> {
    let ast::Select {
        select_token,
        optimizer_hints: _,
        distinct,
        select_modifiers,
        top,
        top_before_distinct: _,
        projection: _,
        exclude,
        into,
        from: _,
        lateral_views,
        prewhere,
        selection: _,
        connect_by,
        group_by: _,
        cluster_by,
        distribute_by,
        sort_by,
        having: _,
        named_window: _,
        qualify: _,
        window_before_qualify: _,
        value_table_mode,
        flavor,
    } = select;
    refuse_all(
        &[
            (
                matches!(distinct, Some(ast::Distinct::On(_))),
                "DISTINCT ON",
            ),
            (select_modifiers.is_some(), "a SELECT modifier"),
            (top.is_some(), "TOP"),
            (exclude.is_some(), "EXCLUDE"),
            (into.is_some(), "SELECT INTO"),
            (!lateral_views.is_empty(), "LATERAL VIEW"),
            (prewhere.is_some(), "PREWHERE"),
            (!connect_by.is_empty(), "CONNECT BY"),
            (!cluster_by.is_empty(), "CLUSTER BY"),
            (!distribute_by.is_empty(), "DISTRIBUTE BY"),
            (!sort_by.is_empty(), "SORT BY"),
            (value_table_mode.is_some(), "SELECT AS STRUCT or VALUE"),
            (*flavor != ast::SelectFlavor::Standard, "FROM before SELECT"),
        ],
        select_token.0.span,
    )
}

/// Puts the Aggregate node in, and rewrites everything above it.
fn aggregate(
    plan: LogicalPlan,
    (input, ttl_ms): (&Schema, Option<u64>),
    group_by: &GroupBy,
    node_keys: Vec<Expr>,
    calls: Calls,
    parts: Parts,
) -> Result<(LogicalPlan, Parts, Vec<crate::logical::OverCall>), SqlError> {
    let schema = aggregate_schema(&plan, group_by, &node_keys, &calls.aggregates);
    let after = AfterAggregate {
        keys: &group_by.keys,
        schema: &schema,
        input,
        calls: calls.aggregates.len(),
    };
    let rewrite = |expr: Expr| after.rewrite(expr);
    let items = parts
        .items
        .into_iter()
        .map(|item| {
            let expr = rewrite(item.expr).map_err(|error| error.at_parser(item.span))?;
            Ok(Item { expr, ..item })
        })
        .collect::<Result<Vec<_>, SqlError>>()?;
    let order = parts
        .order
        .into_iter()
        .map(|target| {
            Ok(match target {
                OrderTarget::Hidden(expr) => OrderTarget::Hidden(rewrite(expr)?),
                output @ OrderTarget::Output(_) => output,
            })
        })
        .collect::<Result<Vec<_>, SqlError>>()?;
    let having = parts.having.map(rewrite).transpose()?;
    let qualify = parts.qualify.map(rewrite).transpose()?;
    let overs = calls
        .overs
        .into_iter()
        .map(|call| super::over::map_over(call, &rewrite))
        .collect::<Result<Vec<_>, SqlError>>()?;
    let mut plan = LogicalPlan::Aggregate {
        input: Box::new(plan),
        keys: node_keys,
        grouping_sets: group_by.sets.clone(),
        calls: calls.aggregates,
        schema: schema.clone(),
        ttl_ms,
    };
    if let Some(predicate) = having {
        plan = LogicalPlan::Filter {
            input: Box::new(plan),
            predicate,
        };
    }
    Ok((
        plan,
        Parts {
            items,
            having: None,
            qualify,
            order,
        },
        overs,
    ))
}

fn aggregate_schema(
    input: &LogicalPlan,
    group_by: &GroupBy,
    node_keys: &[Expr],
    calls: &[AggregateCall],
) -> Schema {
    let keys = node_keys.iter().enumerate().map(|(position, key)| {
        let (name, time) = match key.kind {
            ExprKind::Column(index) => {
                let field = &input.schema()[index];
                let time = field.time.filter(|_| window_time_survives(input, index));
                (field.name.clone(), time)
            }
            _ => (format!("EXPR${position}"), None),
        };
        let nullable = key.data_type.nullable || !group_by.in_all_sets(position);
        let data_type = key.data_type.clone().with_nullable(nullable);
        LogicalField {
            qualifier: None,
            name,
            data_type,
            time,
        }
    });
    let plain = |name: String, data_type| LogicalField {
        qualifier: None,
        name,
        data_type,
        time: None,
    };
    let results = calls
        .iter()
        .map(|call| plain(call.name.clone(), call.data_type.clone()));
    let id = group_by.sets.as_ref().map(|_| {
        plain(
            "$grouping_id".to_owned(),
            proto::types::LogicalType::BigInt.not_null(),
        )
    });
    keys.chain(results).chain(id).collect()
}

/// OVER, QUALIFY, the list, DISTINCT, ORDER BY and LIMIT.
fn finish(
    mut plan: LogicalPlan,
    parts: Parts,
    overs: Vec<crate::logical::OverCall>,
    distinct: bool,
    tail: &Tail<'_>,
) -> Result<LogicalPlan, SqlError> {
    let width = plan.schema().len();
    if !overs.is_empty() {
        let added = overs.iter().map(|call| LogicalField {
            qualifier: None,
            name: call.name.clone(),
            data_type: call.data_type.clone(),
            time: None,
        });
        let schema: Schema = plan.schema().iter().cloned().chain(added).collect();
        plan = LogicalPlan::Over {
            input: Box::new(plan),
            calls: overs,
            schema,
        };
    }
    if let Some(qualify) = parts.qualify {
        let predicate = after_over(qualify, width)?;
        plan = LogicalPlan::Filter {
            input: Box::new(plan),
            predicate,
        };
    }
    let mut exprs = Vec::with_capacity(parts.items.len());
    let mut fields = Vec::with_capacity(parts.items.len());
    for item in parts.items {
        let expr = after_over(item.expr, width)?;
        fields.push(field_of(&plan, item.name, &expr));
        exprs.push(expr);
    }
    let visible = exprs.len();
    let mut keys = Vec::with_capacity(parts.order.len());
    for (target, key) in parts.order.into_iter().zip(tail.order_by) {
        let index = match target {
            OrderTarget::Output(index) => index,
            OrderTarget::Hidden(_) if distinct => {
                return Err(SqlError::validate(
                    "ORDER BY of SELECT DISTINCT takes columns of its list",
                )
                .at_parser(key.expr.span()));
            }
            OrderTarget::Hidden(expr) => {
                let expr = after_over(expr, width)?;
                fields.push(field_of(&plan, format!("$order{}", exprs.len()), &expr));
                exprs.push(expr);
                exprs.len() - 1
            }
        };
        keys.push(sort_key(
            key,
            Expr::column(index, fields[index].data_type.clone()),
        )?);
    }
    let schema: Schema = fields.into();
    plan = LogicalPlan::Project {
        input: Box::new(plan),
        exprs,
        schema,
    };
    if distinct {
        plan = LogicalPlan::Distinct {
            input: Box::new(plan),
        };
    }
    Ok(sorted(plan, keys, visible, tail))
}

fn sorted(plan: LogicalPlan, keys: Vec<SortKey>, visible: usize, tail: &Tail<'_>) -> LogicalPlan {
    if tail.is_empty() {
        return plan;
    }
    let schema = plan.schema().clone();
    let plan = LogicalPlan::Sort {
        input: Box::new(plan),
        keys,
        offset: tail.offset,
        limit: tail.limit,
    };
    if visible == schema.len() {
        return plan;
    }
    let shown: Schema = schema.iter().take(visible).cloned().collect();
    let exprs = super::join::all_columns(&shown);
    LogicalPlan::Project {
        input: Box::new(plan),
        exprs,
        schema: shown,
    }
}

/// An output column. Time attributes survive a plain reference.
fn field_of(input: &LogicalPlan, name: String, expr: &Expr) -> LogicalField {
    let time = match &expr.kind {
        ExprKind::Column(index) => input.schema()[*index].time,
        ExprKind::Call {
            function: ScalarFunction::Proctime,
            ..
        } => Some(crate::logical::TimeAttribute::Proctime),
        _ => None,
    };
    LogicalField {
        qualifier: None,
        name,
        data_type: expr.data_type.clone(),
        time,
    }
}
