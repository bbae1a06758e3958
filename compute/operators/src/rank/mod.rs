//! Top-N: the rows of a partition in an order, and those between two places of it.
//!
//! ```text
//! ranking   rows by partition, in order: the state
//! expire    partitions that go by their age
//! top       the updating operator: a batch in, what changed at the top out
//! window    the operator of windows: the top is put out when its window closes
//! ```

mod expire;
#[cfg(test)]
mod rank_test;
mod ranking;
mod top;
mod window;

pub(crate) use ranking::{Prepared, RankShape, Ranking};
pub use top::RankOperator;
pub(crate) use window::WindowRankOperator;
