//! The interval join: rows whose times are at most an interval apart. Input only appends, and so does
//! the output. A row goes when the watermark says that nothing can come any more that is near enough.
//!
//! ```text
//! bounds    how far apart times may be, and what follows from that
//! probe     rows that come -> pairs, a chunk at a time
//! waiting   rows of an outer side that have met none: all in memory, for they come out by time
//! operator  the others are kept by key, in memory or in the store; what meets what
//! ```

mod bounds;
#[cfg(test)]
mod interval_test;
mod operator;
mod probe;
mod waiting;

pub use operator::IntervalJoinOperator;
