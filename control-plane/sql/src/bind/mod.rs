//! Binds sqlparser's AST to typed expressions and relational nodes: names, types, scopes.
//!
//! Every part of the AST that is not bound is refused with an error that names it; nothing is
//! dropped. What can run as a stream is not decided here.

mod access;
mod aggregate;
mod calendar;
mod coerce;
mod expr;
mod from;
mod function;
mod group_by;
mod group_window;
mod interval;
mod join;
mod literal;
mod operator;
mod order;
mod over;
mod query;
mod refuse;
mod rewrite;
mod scope;
mod select;
mod select_list;
mod set_operation;
mod sink;
mod special;
mod special_json;
mod special_time;
mod state_ttl;
mod table;
mod temporal;
#[cfg(test)]
mod tests;
mod types;
mod unnest;
mod window_function;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use proto::types::DataType;
use sqlparser::ast;
use sqlparser::tokenizer::Span;

use crate::caps::QUERY_PARTS_MAX;
use crate::catalog::{Catalog, View};
use crate::error::SqlError;
use crate::logical::{Expr, LogicalPlan, Schema};
use crate::parse::TableHints;
use expr::ExprBinder;
pub(crate) use function::names as function_names;
use scope::{Env, Scope};
pub(crate) use sink::cast_to_sink;
use state_ttl::StateTtls;

/// What a statement gives beside its AST.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BindContext<'a> {
    /// Table hints of the statement.
    pub(crate) hints: &'a TableHints,
}

/// What all parts of one query share.
#[derive(Clone, Debug)]
struct Binder<'a> {
    catalog: &'a Catalog,
    context: BindContext<'a>,
    /// WITH queries that can be named here, innermost last.
    ctes: Vec<Cte>,
    /// How many views deep.
    views: usize,
    /// Tables and SELECTs bound so far.
    parts: Rc<Cell<usize>>,
    /// How long the state of the present SELECT's relations is kept.
    state_ttl: Rc<StateTtls>,
}

/// A query of a WITH.
#[derive(Clone, Debug)]
struct Cte {
    name: String,
    plan: Arc<LogicalPlan>,
    /// Tables and SELECTs in it: every use is a copy of them.
    parts: usize,
}

impl Binder<'_> {
    /// Takes note that the query has so many more parts.
    ///
    /// # Errors
    /// When it has too many. A few lines can name so many, each WITH query or view the one before
    /// it twice, that they are not planned in a lifetime.
    fn add_parts(&self, parts: usize, span: Span) -> Result<(), SqlError> {
        let parts = self.parts.get().saturating_add(parts);
        self.parts.set(parts);
        if parts <= QUERY_PARTS_MAX {
            return Ok(());
        }
        Err(SqlError::plan(format!(
            "the query has more than {QUERY_PARTS_MAX} parts once its views and WITH queries are put in"
        ))
        .at_parser(span)
        .hint("each use of a view or of a WITH query is planned anew; use them less often"))
    }
}

/// Binds a query. Output columns have distinct names.
pub(crate) fn bind_query(
    query: &ast::Query,
    catalog: &Catalog,
    context: &BindContext<'_>,
) -> Result<LogicalPlan, SqlError> {
    let binder = Binder {
        catalog,
        context: *context,
        ctes: Vec::new(),
        views: 0,
        parts: Rc::default(),
        state_ttl: Rc::default(),
    };
    binder.query(query, None).map(query::with_distinct_names)
}

/// Binds the query of a view, with the view's columns.
pub(crate) fn bind_view(view: &View, catalog: &Catalog) -> Result<LogicalPlan, SqlError> {
    let binder = Binder {
        catalog,
        context: BindContext { hints: &view.hints },
        ctes: Vec::new(),
        views: 0,
        parts: Rc::default(),
        state_ttl: Rc::default(),
    };
    binder.view(view, sqlparser::tokenizer::Span::empty())
}

/// Binds an expression over columns: computed columns, watermarks.
pub(crate) fn bind_scalar(
    expr: &ast::Expr,
    schema: &Schema,
    catalog: &Catalog,
    context: &BindContext<'_>,
) -> Result<Expr, SqlError> {
    let binder = Binder {
        catalog,
        context: *context,
        ctes: Vec::new(),
        views: 0,
        parts: Rc::default(),
        state_ttl: Rc::default(),
    };
    let scope = Scope::new(schema.clone());
    let env = Env {
        scope: &scope,
        outer: None,
    };
    ExprBinder::new(&binder, &env, "a column's definition").bind(expr)
}

/// The type that a CAST or a typed literal names.
fn types_of_ast(data_type: &ast::DataType) -> Result<DataType, SqlError> {
    let (text, span) = match data_type {
        ast::DataType::Custom(ast::ObjectName(parts), _) => match parts.as_slice() {
            [ast::ObjectNamePart::Identifier(ident)] => (ident.value.clone(), Some(ident.span)),
            _ => (data_type.to_string(), None),
        },
        other => (other.to_string(), None),
    };
    text.parse::<DataType>().map_err(|error| {
        let error =
            SqlError::validate(format!("type `{text}` is not supported: {}", error.message));
        match span {
            Some(span) => error.at_parser(span),
            None => error,
        }
    })
}
