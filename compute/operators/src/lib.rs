//! The operators of the SQL dialect over arrow batches.

pub mod aggregate;
pub mod calc;
mod drop_update_before;
mod expand;
mod expr;
pub mod inspect;
mod join;
#[cfg(test)]
mod late_test;
mod latest;
mod over;
mod rank;
mod rows;
mod scalar;
mod sink;
mod sort;
mod source;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod ttl_test;
mod union;
mod unnest;
mod values;
pub mod window;

pub use drop_update_before::DropUpdateBeforeOperator;
pub use expand::ExpandOperator;
pub use expr::{CompiledExpr, EvalContext, EvalError, ExprError, format};
pub use join::{
    IntervalJoinOperator, JoinOperator, LookupIndex, LookupJoinOperator, LookupReader, LookupTable,
    MultiJoinOperator, TemporalJoinOperator, WindowJoinOperator,
};
pub use latest::{ChangelogNormalizeOperator, DeduplicateOperator};
pub use over::OverOperator;
pub use rank::RankOperator;
pub use sink::SinkOperator;
pub use sort::SortOperator;
pub use source::SplitSource;
pub use union::UnionOperator;
pub use unnest::UnnestOperator;
pub use values::ValuesSource;
