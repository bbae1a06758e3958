//! SQL text to statements. Queries and expressions are sqlparser's AST, made by a dialect of ours;
//! everything around them is parsed here.

mod hints;
mod statement;

pub(crate) use hints::{TableHint, TableHints};
pub use statement::ParsedStatement;
pub(crate) use statement::{
    ColumnDef, ColumnDefKind, CreateTable, CreateView, ExplainFormat, Insert, ObjectKind,
    ShowTarget, Statement, UseTarget, WatermarkDef,
};
