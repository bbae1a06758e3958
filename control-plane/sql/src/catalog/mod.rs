//! Tables and views that statements name.

#[allow(clippy::module_inception)]
mod catalog;
mod table;

pub use catalog::{Catalog, Relation, View};
pub(crate) use catalog::{DEFAULT_CATALOG, DEFAULT_DATABASE, simple_name};
pub use table::{Column, ColumnKind, Table, WatermarkSpec};
