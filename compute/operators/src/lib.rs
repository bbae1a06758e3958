//! The operators of the SQL dialect over arrow batches.

pub mod calc;
mod expr;
mod scalar;

pub use expr::{CompiledExpr, EvalContext, EvalError, ExprError, format};
