//! SQL text to statements. Queries and expressions are sqlparser's AST, made by a dialect of ours;
//! everything around them is parsed here.

mod chains;
mod create;
mod dialect;
mod hints;
mod json;
mod names;
mod reserved;
mod script;
mod source;
mod statement;
#[cfg(test)]
mod tests;
mod tokens;
mod types;
mod words;

pub(crate) use dialect::named_by_argument;
pub(crate) use hints::{StateTtlEntry, TableHint, TableHints};
pub use script::parse_script;
pub use statement::ParsedStatement;
pub(crate) use statement::{
    ColumnDef, ColumnDefKind, CreateTable, CreateView, ExplainFormat, Insert, ObjectKind,
    ShowTarget, Statement, UseTarget, WatermarkDef,
};
