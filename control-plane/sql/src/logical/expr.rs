//! Typed scalar expressions over the columns of an input.

use proto::plan::{AggregateFunction, ScalarFunction};
use proto::types::DataType;

use super::plan::LogicalPlan;

/// An expression and the type of its value. Every implicit conversion is an explicit cast.
#[derive(Clone, PartialEq, Debug)]
pub struct Expr {
    /// What it computes.
    pub kind: ExprKind,
    /// Type of the result.
    pub data_type: DataType,
}

/// What an expression computes.
#[derive(Clone, PartialEq, Debug)]
pub enum ExprKind {
    /// Column of the input, by position.
    Column(usize),
    /// Column of an enclosing query's input: `depth` 1 is the next one out. Only inside
    /// subqueries; gone after decorrelation.
    OuterColumn {
        /// How many queries out.
        depth: usize,
        /// Position there.
        index: usize,
    },
    /// A constant.
    Literal(Literal),
    /// A built-in function.
    Call {
        /// Which.
        function: ScalarFunction,
        /// Already of the types that the function takes.
        args: Vec<Expr>,
    },
    /// `CAST` or `TRY_CAST` to `data_type`.
    Cast {
        /// What is cast.
        input: Box<Expr>,
        /// NULL instead of failure.
        r#try: bool,
    },
    /// Searched CASE.
    Case {
        /// (condition, result)
        branches: Vec<(Expr, Expr)>,
        /// ELSE; a NULL literal where the query has none.
        otherwise: Box<Expr>,
    },
    /// Field of a ROW by position.
    Field {
        /// The row.
        input: Box<Expr>,
        /// Position.
        index: usize,
    },
    /// `(SELECT …)` as a value: NULL for no row, failure for two.
    ScalarSubquery(Box<LogicalPlan>),
    /// `(exprs) IN (SELECT …)`; NOT IN is a NOT call around it.
    InSubquery {
        /// Left side; as many as the subquery has columns.
        exprs: Vec<Expr>,
        /// Right side.
        plan: Box<LogicalPlan>,
    },
    /// `EXISTS (SELECT …)`.
    Exists(Box<LogicalPlan>),
}

/// A constant. Its type stands beside it.
#[derive(Clone, PartialEq, Debug)]
pub enum Literal {
    /// NULL of any type.
    Null,
    /// BOOLEAN
    Boolean(bool),
    /// Integers; DATE in days, TIME in ms, TIMESTAMP and LTZ in ms (precision ≤ 3), µs (≤ 6) or
    /// ns since 1970; INTERVAL YEAR TO MONTH in months, INTERVAL DAY TO SECOND in ms.
    Integer(i64),
    /// FLOAT, DOUBLE
    Double(f64),
    /// DECIMAL as text with its full scale.
    Decimal(String),
    /// CHAR, VARCHAR
    String(String),
    /// BINARY, VARBINARY
    Binary(Vec<u8>),
}

/// One aggregate of an Aggregate node.
#[derive(Clone, PartialEq, Debug)]
pub struct AggregateCall {
    /// Which.
    pub function: AggregateFunction,
    /// Over the node's input.
    pub args: Vec<Expr>,
    /// DISTINCT
    pub distinct: bool,
    /// FILTER (WHERE …), BOOLEAN.
    pub filter: Option<Expr>,
    /// Type of the result.
    pub data_type: DataType,
    /// Name of the output column.
    pub name: String,
}

/// One key of ORDER BY.
#[derive(Clone, PartialEq, Debug)]
pub struct SortKey {
    /// What to order by.
    pub expr: Expr,
    /// DESC
    pub descending: bool,
    /// NULL sorts lowest unless the query says otherwise.
    pub nulls_last: bool,
}

impl Expr {
    /// Column `index` of type `data_type`.
    #[must_use]
    pub fn column(index: usize, data_type: DataType) -> Expr {
        Expr {
            kind: ExprKind::Column(index),
            data_type,
        }
    }

    /// A constant.
    #[must_use]
    pub fn literal(literal: Literal, data_type: DataType) -> Expr {
        Expr {
            kind: ExprKind::Literal(literal),
            data_type,
        }
    }

    /// A call.
    #[must_use]
    pub fn call(function: ScalarFunction, args: Vec<Expr>, data_type: DataType) -> Expr {
        Expr {
            kind: ExprKind::Call { function, args },
            data_type,
        }
    }
}
