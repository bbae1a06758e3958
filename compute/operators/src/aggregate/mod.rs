//! Aggregation: accumulators as columns, the state they live in, and the grouping operators.

mod accumulator;
mod distinct;
mod distinct_values;
mod expire;
mod group;
#[cfg(test)]
mod group_test;
mod local;
mod native;
mod ordered;
mod plan;
mod rows;
mod store;
mod sub_row;
mod values;

pub use group::GroupAggregateOperator;
pub use local::LocalAggregateOperator;

pub(crate) use group::{adds, key_encoder};
pub(crate) use plan::{AggregatePlan, Rowset};
pub(crate) use store::{AggregateStore, StateTables};
