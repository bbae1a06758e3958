//! Joins: the updating one, and the one of windows.
//!
//! ```text
//! shape      what is fixed: keys, condition, which rows are put out
//! condition  the condition beyond the keys, over gathered columns
//! state      rows of both sides, linked by key
//! probe      changed rows of one side -> output, a chunk at a time
//! degree     counts matches anew after loading
//! expire     rows that go by their age
//! updating   the operator that keeps both inputs
//! window     the operator that joins window by window
//! ```

mod condition;
mod degree;
mod expire;
mod probe;
mod shape;
mod state;
mod updating;
#[cfg(test)]
mod updating_test;
mod window;
#[cfg(test)]
mod window_test;

pub use updating::JoinOperator;
pub use window::WindowJoinOperator;
