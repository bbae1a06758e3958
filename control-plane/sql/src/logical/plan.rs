//! Relational nodes of a bound query.

use std::sync::Arc;

use proto::plan::WindowKind;
use proto::types::DataType;

use super::expr::{AggregateCall, Expr, SortKey};
use crate::catalog::Table;

/// Whether a column carries the stream's time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimeAttribute {
    /// Event time: rows are not later than the watermark promises.
    Rowtime,
    /// Processing time.
    Proctime,
}

/// A column of a node's output.
#[derive(Clone, PartialEq, Debug)]
pub struct LogicalField {
    /// Alias or table that a qualified name must use.
    pub qualifier: Option<String>,
    /// Name, case kept; Flink's `EXPR$n` where the query gives none.
    pub name: String,
    /// Type.
    pub data_type: DataType,
    /// Set where it is a time attribute.
    pub time: Option<TimeAttribute>,
}

/// Columns of a node's output, in order.
pub type Schema = Arc<[LogicalField]>;

/// How a join treats rows without a match.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JoinKind {
    /// Drops them.
    Inner,
    /// Keeps the left ones, NULL on the right.
    Left,
    /// Keeps the right ones.
    Right,
    /// Keeps both.
    Full,
    /// Left rows with a match, once.
    Semi,
    /// Left rows without a match.
    Anti,
}

/// UNION, INTERSECT, EXCEPT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetOp {
    /// All of both.
    Union,
    /// What is in both.
    Intersect,
    /// What is in the left only.
    Except,
}

/// One set of GROUPING SETS: positions in the node's keys.
pub type GroupingSet = Vec<usize>;

/// TUMBLE, HOP, CUMULATE or SESSION table function; appends window_start, window_end and
/// window_time.
#[derive(Clone, PartialEq, Debug)]
pub struct WindowFunction {
    /// Which.
    pub kind: WindowKind,
    /// Time attribute column of the input.
    pub time_column: usize,
    /// Size, or maximal size of CUMULATE, or gap of SESSION, in ms.
    pub size_ms: u64,
    /// Slide of HOP, step of CUMULATE, in ms.
    pub step_ms: u64,
    /// Offset of the alignment, in ms.
    pub offset_ms: i64,
    /// SESSION's PARTITION BY.
    pub partition_by: Vec<usize>,
    /// The time column is one of processing time.
    pub processing_time: bool,
}

/// ROWS or RANGE of an OVER frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameUnits {
    /// Counted rows.
    Rows,
    /// By the ORDER BY value.
    Range,
}

/// Start of an OVER frame; the end is always CURRENT ROW.
#[derive(Clone, PartialEq, Debug)]
pub enum FrameBound {
    /// All before.
    UnboundedPreceding,
    /// n rows, or a range in ms.
    Preceding(u64),
    /// The row (ROWS) or its peers (RANGE).
    CurrentRow,
}

/// A function over a window.
#[derive(Clone, PartialEq, Debug)]
pub enum OverFunction {
    /// ROW_NUMBER()
    RowNumber,
    /// RANK()
    Rank,
    /// DENSE_RANK()
    DenseRank,
    /// LAG(x, offset, default)
    Lag {
        /// x, offset rows back, default where there is none.
        args: Vec<Expr>,
    },
    /// An aggregate.
    Aggregate(AggregateCall),
}

/// One OVER expression of an Over node.
#[derive(Clone, PartialEq, Debug)]
pub struct OverCall {
    /// What is computed.
    pub function: OverFunction,
    /// PARTITION BY
    pub partition_by: Vec<Expr>,
    /// ORDER BY
    pub order_by: Vec<SortKey>,
    /// ROWS or RANGE.
    pub units: FrameUnits,
    /// Start of the frame.
    pub start: FrameBound,
    /// Type of the result.
    pub data_type: DataType,
    /// Name of the appended column.
    pub name: String,
}

/// A relational node. Expressions refer to its input's columns by position; a join's to left
/// columns, then right columns.
#[derive(Clone, PartialEq, Debug)]
pub enum LogicalPlan {
    /// A catalog table: all its columns (physical and computed), in declared order.
    Scan {
        /// The table, hints applied.
        table: Arc<Table>,
        /// Its columns.
        schema: Schema,
    },
    /// Constant rows.
    Values {
        /// Row by row, of the schema's types.
        rows: Vec<Vec<Expr>>,
        /// Columns.
        schema: Schema,
    },
    /// SELECT list.
    Project {
        /// Input.
        input: Box<LogicalPlan>,
        /// One per output column.
        exprs: Vec<Expr>,
        /// Columns; time attributes survive only plain column references.
        schema: Schema,
    },
    /// WHERE, HAVING, QUALIFY.
    Filter {
        /// Input.
        input: Box<LogicalPlan>,
        /// BOOLEAN; rows where it is TRUE stay.
        predicate: Expr,
    },
    /// Any join but temporal ones. CROSS JOIN has no condition.
    Join {
        /// Left input.
        left: Box<LogicalPlan>,
        /// Right input.
        right: Box<LogicalPlan>,
        /// Kind.
        kind: JoinKind,
        /// ON, over left then right columns.
        condition: Option<Expr>,
        /// Left then right columns (left only for SEMI and ANTI).
        schema: Schema,
        /// How long rows of each side are kept, in milliseconds, where a hint says so.
        ttl_ms: [Option<u64>; 2],
    },
    /// JOIN t FOR SYSTEM_TIME AS OF left.time.
    TemporalJoin {
        /// Left input.
        left: Box<LogicalPlan>,
        /// Versioned or lookup side.
        right: Box<LogicalPlan>,
        /// Inner or Left.
        kind: JoinKind,
        /// Column of the left side that carries event time; `None`: the time is processing time, and
        /// the right side is looked up.
        time_column: Option<usize>,
        /// ON.
        condition: Expr,
        /// Left then right columns.
        schema: Schema,
    },
    /// GROUP BY. Output: keys, then calls, then (with grouping sets) the BIGINT grouping id over
    /// all keys.
    Aggregate {
        /// Input.
        input: Box<LogicalPlan>,
        /// Over the input; empty for a global aggregate.
        keys: Vec<Expr>,
        /// GROUPING SETS, ROLLUP and CUBE, spelled out.
        grouping_sets: Option<Vec<GroupingSet>>,
        /// Aggregates.
        calls: Vec<AggregateCall>,
        /// Columns.
        schema: Schema,
        /// How long groups are kept, in milliseconds, where a hint says so.
        ttl_ms: Option<u64>,
    },
    /// TABLE(TUMBLE(…)) and its like. Legacy group windows become this below an Aggregate.
    Window {
        /// Input.
        input: Box<LogicalPlan>,
        /// Which windows.
        function: WindowFunction,
        /// Input columns, then window_start, window_end, window_time.
        schema: Schema,
    },
    /// OVER expressions; appends one column per call.
    Over {
        /// Input.
        input: Box<LogicalPlan>,
        /// Calls.
        calls: Vec<OverCall>,
        /// Input columns, then one per call.
        schema: Schema,
    },
    /// SELECT DISTINCT.
    Distinct {
        /// Input.
        input: Box<LogicalPlan>,
    },
    /// UNION, INTERSECT, EXCEPT of inputs that are already cast to common types.
    SetOperation {
        /// Which.
        op: SetOp,
        /// ALL.
        all: bool,
        /// Left.
        left: Box<LogicalPlan>,
        /// Right.
        right: Box<LogicalPlan>,
        /// Columns, named as the left's.
        schema: Schema,
    },
    /// CROSS or LEFT JOIN UNNEST(collection).
    Unnest {
        /// Input.
        input: Box<LogicalPlan>,
        /// ARRAY, MAP or MULTISET over the input.
        collection: Expr,
        /// LEFT: rows of empty collections stay.
        left: bool,
        /// WITH ORDINALITY.
        with_ordinality: bool,
        /// Input columns, then the element's, then the ordinal.
        schema: Schema,
    },
    /// ORDER BY and LIMIT.
    Sort {
        /// Input.
        input: Box<LogicalPlan>,
        /// Keys; may be empty with a limit.
        keys: Vec<SortKey>,
        /// OFFSET
        offset: u64,
        /// LIMIT
        limit: Option<u64>,
    },
}

impl LogicalPlan {
    /// The columns of the node's output.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        match self {
            LogicalPlan::Scan { schema, .. }
            | LogicalPlan::Values { schema, .. }
            | LogicalPlan::Project { schema, .. }
            | LogicalPlan::Join { schema, .. }
            | LogicalPlan::TemporalJoin { schema, .. }
            | LogicalPlan::Aggregate { schema, .. }
            | LogicalPlan::Window { schema, .. }
            | LogicalPlan::Over { schema, .. }
            | LogicalPlan::SetOperation { schema, .. }
            | LogicalPlan::Unnest { schema, .. } => schema,
            LogicalPlan::Filter { input, .. }
            | LogicalPlan::Distinct { input }
            | LogicalPlan::Sort { input, .. } => input.schema(),
        }
    }
}
