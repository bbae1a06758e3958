//! Aggregation: accumulators as columns, the state they live in, and the grouping operators.

mod accumulator;
mod distinct;
mod distinct_values;
mod expire;
mod group;
#[cfg(test)]
mod group_model_test;
#[cfg(test)]
mod group_test;
mod local;
mod native;
mod ordered;
mod plan;
mod rows;
mod running;
mod sliding;
mod steps;
mod store;
mod sub_row;
mod values;

pub use group::GroupAggregateOperator;
pub use local::LocalAggregateOperator;

pub(crate) use accumulator::Accumulator;
pub(crate) use distinct::DistinctTable;
pub(crate) use group::{adds, key_encoder, unchanged};
pub(crate) use plan::{AccumulatorPlan, AggregatePlan, Output, Rowset};
pub(crate) use rows::Rows;
pub(crate) use sliding::{Sliding, sliding};
pub(crate) use steps::StepList;
pub(crate) use store::{AggregateStore, StateTables};
