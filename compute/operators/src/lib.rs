//! The operators of the SQL dialect over arrow batches.

pub mod aggregate;
pub mod calc;
mod drop_update_before;
mod expand;
mod expr;
mod join;
mod rows;
mod scalar;
mod sink;
mod source;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod union;
mod unnest;
pub mod window;

pub use drop_update_before::DropUpdateBeforeOperator;
pub use expand::ExpandOperator;
pub use expr::{CompiledExpr, EvalContext, EvalError, ExprError, format};
pub use join::{JoinOperator, WindowJoinOperator};
pub use sink::SinkOperator;
pub use source::SplitSource;
pub use union::UnionOperator;
pub use unnest::UnnestOperator;
