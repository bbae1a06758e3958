//! Rewrites a bound query into one that costs less and that the stream planner can read. One rule
//! per file; a rule takes a plan and gives a plan with the same columns and rows.
//!
//! After it there is no subquery, no DISTINCT and no set operation but UNION ALL.

mod decorrelate;
mod exists;
pub(crate) mod expr;
mod merge_project;
mod null_rejecting;
mod one_row;
mod order;
pub(crate) mod plan;
mod prune;
mod push_filter;
mod rules;
mod set_operation;
pub(crate) mod simplify;
mod split_distinct;
mod subquery;

pub(crate) use merge_project::may_merge;
pub use rules::optimize;
pub(crate) use split_distinct::split_distinct;
