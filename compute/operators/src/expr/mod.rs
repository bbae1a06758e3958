//! Expressions of a plan, compiled once and evaluated over batches.
//!
//! ```text
//! proto::plan::Expr --graph--> nodes (shared sub-expressions, constants folded)
//!                   --frame--> columns (cached per batch; lazily for the rows that reach a branch)
//! ```
//! What a function computes is `crate::scalar`'s; here live the tree, casts and text forms.

mod branch;
pub(crate) mod calendar;
pub(crate) mod cast;
mod compiled;
mod error;
#[cfg(test)]
mod expr_test;
pub mod format;
mod frame;
mod graph;
mod literal;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod value;

pub(crate) use branch::is_true;
pub use compiled::CompiledExpr;
pub use error::{EvalError, ExprError};
pub(crate) use frame::Frame;
pub(crate) use graph::{Graph, NodeId, Purity};
pub use value::EvalContext;
