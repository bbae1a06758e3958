//! Operators that keep one row per key, the latest or the first, and say how it changes.

mod deduplicate;
#[cfg(test)]
mod latest_test;
mod normalize;
mod table;

pub use deduplicate::DeduplicateOperator;
pub use normalize::ChangelogNormalizeOperator;
