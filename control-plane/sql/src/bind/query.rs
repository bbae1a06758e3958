//! Queries: WITH, the body, VALUES, and what stands after the body.

use std::collections::BTreeSet;
use std::sync::Arc;

use proto::types::DataType;
use sqlparser::ast::{self, Spanned as _};

use super::coerce::coerce;
use super::expr::ExprBinder;
use super::from::Source;
use super::join::all_columns;
use super::order::{Tail, tail};
use super::refuse::{refuse_all, unsupported};
use super::scope::{Env, Scope};
use super::set_operation::sort_output;
use super::types::least_restrictive;
use super::{Binder, Cte};
use crate::error::SqlError;
use crate::logical::{Expr, LogicalField, LogicalPlan, Schema};

impl Binder<'_> {
    /// A query. `outer` are the queries whose columns it may use.
    pub(crate) fn query(
        &self,
        query: &ast::Query,
        outer: Option<&Env<'_>>,
    ) -> Result<LogicalPlan, SqlError> {
        let ast::Query {
            with,
            body,
            order_by: _,
            limit_clause: _,
            fetch: _,
            locks,
            for_clause,
            settings,
            format_clause,
            pipe_operators,
        } = query;
        refuse_all(
            &[
                (!locks.is_empty(), "FOR UPDATE or FOR SHARE"),
                (for_clause.is_some(), "FOR XML, JSON or BROWSE"),
                (settings.is_some(), "SETTINGS"),
                (format_clause.is_some(), "FORMAT"),
                (!pipe_operators.is_empty(), "the pipe operator `|>`"),
            ],
            query.span(),
        )?;
        let tail = tail(query)?;
        match with {
            None => self.set_expr(body, &tail, outer),
            Some(with) => self.with_queries(with, outer)?.set_expr(body, &tail, outer),
        }
    }

    /// The binder that knows the queries of a WITH.
    fn with_queries(&self, with: &ast::With, outer: Option<&Env<'_>>) -> Result<Self, SqlError> {
        let ast::With {
            with_token,
            recursive,
            cte_tables,
        } = with;
        if *recursive {
            return Err(SqlError::plan("WITH RECURSIVE is not supported")
                .at_parser(with_token.0.span)
                .hint("a stream has no fixed point"));
        }
        let mut binder = self.clone();
        for cte in cte_tables {
            let ast::Cte {
                alias,
                query,
                from,
                materialized,
                closing_paren_token: _,
            } = cte;
            refuse_all(
                &[
                    (from.is_some(), "FROM in WITH"),
                    (materialized.is_some(), "MATERIALIZED in WITH"),
                    (alias.at.is_some(), "AT in an alias"),
                ],
                alias.name.span,
            )?;
            let before = self.parts.get();
            let plan = binder.query(query, outer)?;
            let source = super::from::aliased(Source::new(plan), Some(alias))?;
            let plan = renamed(source.plan, source.scope.fields);
            binder.ctes.push(Cte {
                name: alias.name.value.clone(),
                plan: Arc::new(plan),
                parts: self.parts.get() - before,
            });
        }
        Ok(binder)
    }

    /// The body of a query.
    pub(crate) fn set_expr(
        &self,
        body: &ast::SetExpr,
        tail: &Tail<'_>,
        outer: Option<&Env<'_>>,
    ) -> Result<LogicalPlan, SqlError> {
        let plan = match body {
            ast::SetExpr::Select(select) => {
                self.add_parts(1, select.select_token.0.span)?;
                return self.select(select, tail, outer);
            }
            ast::SetExpr::Query(query) => self.query(query, outer)?,
            ast::SetExpr::SetOperation { .. } => self.set_operation(body, outer)?,
            ast::SetExpr::Values(values) => self.values(values, outer)?,
            ast::SetExpr::Table(_) => {
                return Err(unsupported("`TABLE name` as a query", body.span())
                    .hint("write SELECT * FROM name"));
            }
            ast::SetExpr::Insert(_)
            | ast::SetExpr::Update(_)
            | ast::SetExpr::Delete(_)
            | ast::SetExpr::Merge(_) => {
                return Err(unsupported(
                    "a statement that changes data inside a query",
                    body.span(),
                ));
            }
        };
        let scope = Scope::new(plan.schema().clone());
        let env = Env {
            scope: &scope,
            outer,
        };
        sort_output(&ExprBinder::new(self, &env, "ORDER BY"), plan, tail)
    }

    fn values(
        &self,
        values: &ast::Values,
        outer: Option<&Env<'_>>,
    ) -> Result<LogicalPlan, SqlError> {
        let ast::Values {
            explicit_row: _,
            value_keyword,
            rows,
        } = values;
        refuse_all(&[(*value_keyword, "VALUE for VALUES")], values.span())?;
        let scope = Scope::new(Schema::from([]));
        let env = Env {
            scope: &scope,
            outer,
        };
        let binder = ExprBinder::new(self, &env, "VALUES");
        let mut bound: Vec<Vec<Expr>> = Vec::with_capacity(rows.len());
        for row in rows {
            let row = &row.content;
            let exprs = values_row(&binder, row)?;
            if let Some(first) = bound.first()
                && first.len() != exprs.len()
            {
                let span = row.first().map_or(values.span(), |expr| expr.span());
                return Err(SqlError::validate(format!(
                    "the rows of VALUES have {} and {} columns",
                    first.len(),
                    exprs.len()
                ))
                .at_parser(span));
            }
            bound.push(exprs);
        }
        let width = bound.first().map_or(0, Vec::len);
        let mut types: Vec<DataType> = Vec::with_capacity(width);
        for column in 0..width {
            let mix: Vec<DataType> = bound
                .iter()
                .map(|row| row[column].data_type.clone())
                .collect();
            types.push(least_restrictive(&mix).ok_or_else(|| {
                SqlError::validate(format!(
                    "column {} of VALUES has no common type",
                    column + 1
                ))
                .at_parser(values.span())
            })?);
        }
        let cast = |row: Vec<Expr>| {
            row.into_iter()
                .zip(&types)
                .map(|(expr, t)| coerce(expr, &t.logical))
                .collect()
        };
        let rows = bound.into_iter().map(cast).collect();
        let schema: Schema = types
            .iter()
            .enumerate()
            .map(|(index, data_type)| LogicalField {
                qualifier: None,
                name: format!("EXPR${index}"),
                data_type: data_type.clone(),
                time: None,
            })
            .collect();
        Ok(LogicalPlan::Values { rows, schema })
    }
}

/// A row of VALUES: `(a, b)` or `ROW(a, b)`.
fn values_row(binder: &ExprBinder<'_>, row: &[ast::Expr]) -> Result<Vec<Expr>, SqlError> {
    match row {
        [ast::Expr::Tuple(items)] => binder.bind_all(items),
        [ast::Expr::Function(call)] if is_row(call) => {
            let args = super::special::positional(&call.args, call.span())?;
            args.iter().map(|arg| binder.bind(arg)).collect()
        }
        items => binder.bind_all(items),
    }
}

fn is_row(call: &ast::Function) -> bool {
    super::special::function_name(&call.name).is_ok_and(|name| name == "ROW")
}

/// The plan with other names for its columns.
pub(crate) fn renamed(plan: LogicalPlan, fields: Schema) -> LogicalPlan {
    let same = plan
        .schema()
        .iter()
        .zip(fields.iter())
        .all(|(a, b)| a.name == b.name);
    if same {
        return plan;
    }
    let exprs = all_columns(plan.schema());
    LogicalPlan::Project {
        input: Box::new(plan),
        exprs,
        schema: fields,
    }
}

/// `SELECT *` of a relation.
pub(crate) fn star_of(source: Source) -> LogicalPlan {
    let mut exprs = Vec::new();
    let mut fields = Vec::new();
    for (name, expr) in source.scope.star() {
        let time = match expr.kind {
            crate::logical::ExprKind::Column(index) => source.scope.fields[index].time,
            _ => None,
        };
        fields.push(LogicalField {
            qualifier: None,
            name,
            data_type: expr.data_type.clone(),
            time,
        });
        exprs.push(expr);
    }
    LogicalPlan::Project {
        input: Box::new(source.plan),
        exprs,
        schema: fields.into(),
    }
}

/// The plan with distinct column names: a second `a` becomes `a0`.
pub(crate) fn with_distinct_names(plan: LogicalPlan) -> LogicalPlan {
    let mut used: BTreeSet<String> = BTreeSet::new();
    let mut fields: Vec<LogicalField> = Vec::with_capacity(plan.schema().len());
    for field in plan.schema().iter() {
        let mut name = field.name.clone();
        let mut number = 0;
        while !used.insert(name.clone()) {
            name = format!("{}{number}", field.name);
            number += 1;
        }
        fields.push(LogicalField {
            name,
            ..field.clone()
        });
    }
    match plan {
        LogicalPlan::Project { input, exprs, .. } => LogicalPlan::Project {
            input,
            exprs,
            schema: fields.into(),
        },
        other => renamed(other, fields.into()),
    }
}
