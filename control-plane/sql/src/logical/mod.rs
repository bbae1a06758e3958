//! The bound query: typed expressions over column positions, relational nodes, nothing of SQL's
//! surface left. Made by `bind`, rewritten by `optimize`, read by `stream`.

mod dump;
mod expr;
mod plan;

pub use dump::dump;
pub use expr::{AggregateCall, Expr, ExprKind, Literal, SortKey};
pub use plan::{
    FrameBound, FrameUnits, GroupingSet, JoinKind, LogicalField, LogicalPlan, OverCall,
    OverFunction, Schema, SetOp, TimeAttribute, WindowFunction,
};
