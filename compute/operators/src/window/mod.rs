//! Windows over event time and processing time: assigning rows to them, aggregating in them.

mod aggregate;
mod assign;
mod fire;
mod processing_time;
#[cfg(test)]
mod processing_time_test;
mod session;
mod session_assign;
mod session_index;
mod session_state;
#[cfg(test)]
mod session_test;
mod slice_column;
mod slices;
mod state;
mod state_keys;
mod tie_filter;
#[cfg(test)]
mod tie_filter_test;
mod time_column;
#[cfg(test)]
mod window_test;

pub use aggregate::WindowAggregateOperator;
pub use assign::WindowAssignOperator;
pub use tie_filter::TieFilterOperator;

pub(crate) use slice_column::SliceColumn;
pub(crate) use slices::Slices;
pub(crate) use state_keys::StateKeys;
