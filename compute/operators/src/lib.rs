//! The operators of the SQL dialect over arrow batches.

pub mod aggregate;
pub mod calc;
mod expr;
mod scalar;
mod sink;
mod source;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod window;

pub use expr::{CompiledExpr, EvalContext, EvalError, ExprError, format};
pub use sink::SinkOperator;
pub use source::SplitSource;
