//! A table as CREATE TABLE declares it, resolved: types known, expressions bound, connector
//! options checked.

use proto::plan::ConnectorSpec;
use proto::types::DataType;

use crate::logical::Expr;

/// A declared table.
#[derive(Clone, PartialEq, Debug)]
pub struct Table {
    /// Name.
    pub name: String,
    /// Columns in declared order.
    pub columns: Vec<Column>,
    /// WATERMARK FOR.
    pub watermark: Option<WatermarkSpec>,
    /// PRIMARY KEY … NOT ENFORCED: column positions.
    pub primary_key: Option<Vec<usize>>,
    /// Where it lives, from the WITH options.
    pub connector: ConnectorSpec,
    /// WITH options as written, for SHOW CREATE TABLE.
    pub options: Vec<(String, String)>,
}

/// A column.
#[derive(Clone, PartialEq, Debug)]
pub struct Column {
    /// Name.
    pub name: String,
    /// Type; of a computed column its expression's.
    pub data_type: DataType,
    /// Where its value comes from.
    pub kind: ColumnKind,
    /// COMMENT
    pub comment: Option<String>,
}

/// Where a column's value comes from.
#[derive(Clone, PartialEq, Debug)]
pub enum ColumnKind {
    /// The connector.
    Physical,
    /// `AS expr`, over the table's physical columns in declared order (position among the
    /// physical ones).
    Computed(Expr),
}

/// `WATERMARK FOR column AS expr`.
#[derive(Clone, PartialEq, Debug)]
pub struct WatermarkSpec {
    /// Position of the column in the table.
    pub column: usize,
    /// Over all the table's columns.
    pub expr: Expr,
}
