//! Tables and views that statements name.

mod table;

pub use table::{Column, ColumnKind, Table, WatermarkSpec};
