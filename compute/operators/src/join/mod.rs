//! Joins: the updating one, the one of many inputs, the one of windows, the one with a version of the
//! other side, the one of rows whose times are near, and the one with a table that is looked up.
//!
//! ```text
//! shape      what is fixed: keys, condition, which rows are put out
//! condition  the condition beyond the keys, over gathered columns
//! best       which pairs are left out where only the best are wanted
//! beaten     which rows are not kept then
//! chain      links rows of one key
//! tables     an index and its tables at barriers, after failures, in moves
//! state      rows of both sides, linked by key
//! probe      changed rows of one side -> output, a chunk at a time
//! degree     counts matches anew after loading
//! expire     rows that go by their age
//! until      rows that go by times of their own
//! updating   the operator that keeps both inputs
//! multi      the operator that joins many inputs by one key
//! window     the operator that joins window by window
//! versions   rows of one side by key and time
//! temporal   the operator that joins with the version of a time
//! interval   the operator that joins within an interval of time
//! lookup     the operator that joins with what a table outside holds
//! ```

mod beaten;
mod best;
#[cfg(test)]
mod best_test;
mod chain;
mod condition;
mod degree;
mod expire;
mod interval;
mod lookup;
mod multi;
mod probe;
mod shape;
mod state;
mod tables;
mod temporal;
#[cfg(test)]
mod temporal_test;
mod until;
#[cfg(test)]
mod until_test;
mod updating;
#[cfg(test)]
mod updating_test;
mod versions;
mod window;
#[cfg(test)]
mod window_test;

pub use interval::IntervalJoinOperator;
pub use lookup::{LookupIndex, LookupJoinOperator, LookupReader, LookupTable};
pub use multi::MultiJoinOperator;
pub use temporal::TemporalJoinOperator;
pub use updating::JoinOperator;
pub use window::WindowJoinOperator;
