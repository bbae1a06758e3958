//! Windows over event time: assigning rows to them, aggregating in them.

mod aggregate;
mod assign;
mod fire;
mod fired;
mod session;
mod session_index;
mod session_state;
mod slice_column;
mod slices;
mod state;
mod state_keys;
mod time_column;
#[cfg(test)]
mod window_test;

pub use aggregate::WindowAggregateOperator;
pub use assign::WindowAssignOperator;

pub(crate) use slice_column::SliceColumn;
pub(crate) use slices::Slices;
pub(crate) use state_keys::StateKeys;
