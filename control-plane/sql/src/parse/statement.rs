//! The statements of the language, before names are resolved.

use std::sync::Arc;

use sqlparser::ast;

use super::TableHints;
use crate::error::Span;

/// A statement of a script.
#[derive(Clone, PartialEq, Debug)]
pub struct ParsedStatement {
    /// Where it stands in the script, without the final semicolon.
    pub span: Span,
    /// Its text.
    pub text: String,
    pub(crate) statement: Statement,
    pub(crate) hints: Arc<TableHints>,
}

/// What a statement says.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Statement {
    /// SELECT, WITH, VALUES at top level.
    Query(Box<ast::Query>),
    Insert(Insert),
    /// BEGIN STATEMENT SET … END: one job.
    Inserts(Vec<Insert>),
    CreateTable(CreateTable),
    CreateView(CreateView),
    /// CREATE TEMPORARY FUNCTION name AS 'class'.
    CreateFunction {
        name: ast::Ident,
        if_not_exists: bool,
    },
    Drop {
        kind: ObjectKind,
        temporary: bool,
        name: ast::ObjectName,
        if_exists: bool,
    },
    Show(ShowTarget),
    Describe(ast::ObjectName),
    /// SET, SET 'k' = 'v'
    Set(Option<(String, String, Span)>),
    /// RESET, RESET 'k'
    Reset(Option<(String, Span)>),
    Use(UseTarget),
    Explain {
        format: ExplainFormat,
        /// A query, an INSERT or a statement set.
        statement: Box<Statement>,
    },
}

/// INSERT INTO.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Insert {
    pub(crate) table: ast::ObjectName,
    pub(crate) columns: Option<Vec<ast::Ident>>,
    pub(crate) query: Box<ast::Query>,
    pub(crate) span: Span,
}

/// TABLE or VIEW.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ObjectKind {
    Table,
    View,
}

/// CREATE TABLE.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct CreateTable {
    pub(crate) name: ast::ObjectName,
    pub(crate) temporary: bool,
    pub(crate) if_not_exists: bool,
    pub(crate) columns: Vec<ColumnDef>,
    pub(crate) watermark: Option<WatermarkDef>,
    pub(crate) primary_key: Option<(Vec<ast::Ident>, Span)>,
    pub(crate) partitioned_by: Vec<ast::Ident>,
    pub(crate) comment: Option<String>,
    /// WITH, with the place of each option.
    pub(crate) options: Vec<(String, String, Span)>,
}

/// A column of CREATE TABLE.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct ColumnDef {
    pub(crate) name: ast::Ident,
    pub(crate) kind: ColumnDefKind,
    pub(crate) comment: Option<String>,
}

/// What a column of CREATE TABLE is.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum ColumnDefKind {
    Physical(proto::types::DataType, Span),
    Computed(Box<ast::Expr>),
}

/// WATERMARK FOR column AS expr.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct WatermarkDef {
    pub(crate) column: ast::Ident,
    pub(crate) expr: Box<ast::Expr>,
}

/// CREATE VIEW.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct CreateView {
    pub(crate) name: ast::ObjectName,
    pub(crate) temporary: bool,
    pub(crate) if_not_exists: bool,
    pub(crate) columns: Option<Vec<ast::Ident>>,
    pub(crate) comment: Option<String>,
    pub(crate) query: Box<ast::Query>,
    /// The query as written.
    pub(crate) text: String,
}

/// SHOW.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum ShowTarget {
    Tables,
    Views,
    Functions,
    Catalogs,
    Databases,
    CurrentCatalog,
    CurrentDatabase,
    UserFunctions,
    CreateTable(ast::ObjectName),
    CreateView(ast::ObjectName),
    Columns(ast::ObjectName),
    /// [NOT] LIKE 'pattern'
    Like {
        target: Box<ShowTarget>,
        negated: bool,
        pattern: String,
    },
}

/// USE.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum UseTarget {
    Catalog(ast::Ident),
    Database(ast::ObjectName),
}

/// What EXPLAIN shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ExplainFormat {
    /// Every stage as text.
    Text,
    /// The compiled plan as JSON.
    Json,
}
