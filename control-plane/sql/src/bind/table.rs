//! What a name in FROM stands for: WITH queries, views, tables with their hints.

use std::rc::Rc;
use std::sync::Arc;

use proto::plan::ScalarFunction;
use sqlparser::ast::{self, Spanned as _};
use sqlparser::tokenizer::Span;

use super::from::Source;
use super::scope::{Scope, column};
use super::{BindContext, Binder};
use crate::catalog::{ColumnKind, Relation, Table, View};
use crate::connector;
use crate::error::SqlError;
use crate::logical::{ExprKind, LogicalField, LogicalPlan, Schema, TimeAttribute};

/// How deep views may stand on views.
const VIEW_DEPTH_MAX: usize = 64;

impl Binder<'_> {
    /// A name in FROM; its columns take the name as qualifier.
    pub(crate) fn named_table(&self, name: &ast::ObjectName) -> Result<Source, SqlError> {
        if let [ast::ObjectNamePart::Identifier(ident)] = name.0.as_slice()
            && let Some(cte) = self.ctes.iter().rev().find(|cte| cte.name == ident.value)
        {
            self.add_parts(cte.parts, ident.span)?;
            return Ok(qualified(cte.plan.as_ref().clone(), &ident.value));
        }
        self.add_parts(1, name.span())?;
        let hint = self.context.hints.for_table(name.span());
        let relation = self.catalog.resolve(name)?;
        let plan = match relation {
            Relation::Table(table) => {
                connector::check_source(table).map_err(|error| error.at_parser(name.span()))?;
                match hint {
                    Some(hint) => scan(Arc::new(connector::with_hint(table, hint)?)),
                    None => scan(table.clone()),
                }
            }
            Relation::View(view) => {
                if let Some(hint) = hint {
                    return Err(SqlError::validate(format!(
                        "OPTIONS cannot be given for the view `{}`",
                        view.name
                    ))
                    .at(hint.span)
                    .hint("give them for a table"));
                }
                self.view(view, name.span())?
            }
        };
        Ok(qualified(plan, relation.name()))
    }

    pub(super) fn view(&self, view: &View, span: Span) -> Result<LogicalPlan, SqlError> {
        if self.views >= VIEW_DEPTH_MAX {
            return Err(SqlError::validate(format!(
                "view `{}` stands on too many views",
                view.name
            ))
            .at_parser(span));
        }
        let binder = Binder {
            catalog: self.catalog,
            context: BindContext { hints: &view.hints },
            ctes: Vec::new(),
            views: self.views + 1,
            parts: self.parts.clone(),
            state_ttl: Rc::default(),
        };
        // A position inside the view's own text would mislead here.
        let plan = binder.query(&view.query, None).map_err(|error| {
            let message = format!("view `{}` is no longer valid: {}", view.name, error.message);
            let outer = SqlError::validate(message).at_parser(span);
            match error.hint {
                Some(hint) => outer.hint(hint),
                None => outer,
            }
        })?;
        let plan = super::query::with_distinct_names(plan);
        let plan = as_created(plan, view).map_err(|error| error.at_parser(span))?;
        let Some(names) = &view.columns else {
            return Ok(plan);
        };
        let schema: Schema = plan
            .schema()
            .iter()
            .zip(names)
            .map(|(field, name)| LogicalField {
                name: name.clone(),
                ..field.clone()
            })
            .collect();
        Ok(super::query::renamed(plan, schema))
    }
}

/// The columns that a view's query had when the view was made; `*` may give others by now.
fn as_created(plan: LogicalPlan, view: &View) -> Result<LogicalPlan, SqlError> {
    let fields = plan.schema().clone();
    if fields.iter().map(|field| &field.name).eq(&view.fields) {
        return Ok(plan);
    }
    let mut exprs = Vec::with_capacity(view.fields.len());
    let mut kept = Vec::with_capacity(view.fields.len());
    for name in &view.fields {
        let found = fields.iter().enumerate().find(|(_, f)| f.name == *name);
        let (position, field) = found.ok_or_else(|| {
            SqlError::validate(format!(
                "view `{}` is no longer valid: its column `{name}` does not exist any more",
                view.name
            ))
            .hint("DROP the view and create it again")
        })?;
        exprs.push(column(position, field));
        kept.push(field.clone());
    }
    Ok(LogicalPlan::Project {
        input: Box::new(plan),
        exprs,
        schema: kept.into(),
    })
}

/// All columns of a table.
fn scan(table: Arc<Table>) -> LogicalPlan {
    let schema: Schema = table
        .columns
        .iter()
        .enumerate()
        .map(|(index, column)| LogicalField {
            qualifier: Some(table.name.clone()),
            name: column.name.clone(),
            data_type: column.data_type.clone(),
            time: time_of(&table, index),
        })
        .collect();
    LogicalPlan::Scan { table, schema }
}

fn time_of(table: &Table, index: usize) -> Option<TimeAttribute> {
    if table
        .watermark
        .as_ref()
        .is_some_and(|watermark| watermark.column == index)
    {
        return Some(TimeAttribute::Rowtime);
    }
    match &table.columns[index].kind {
        ColumnKind::Computed(expr) => match expr.kind {
            ExprKind::Call {
                function: ScalarFunction::Proctime,
                ..
            } => Some(TimeAttribute::Proctime),
            _ => None,
        },
        ColumnKind::Physical => None,
    }
}

/// A plan whose columns have a qualifier.
pub(crate) fn qualified(plan: LogicalPlan, qualifier: &str) -> Source {
    let fields: Schema = plan
        .schema()
        .iter()
        .map(|field| LogicalField {
            qualifier: Some(qualifier.to_owned()),
            ..field.clone()
        })
        .collect();
    Source {
        plan,
        scope: Scope::new(fields),
    }
}
