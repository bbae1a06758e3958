//! The join of many inputs by one key: every row that comes is paired with the rows of all others, each
//! of which is kept once.
//!
//! ```text
//! shape     what is fixed: keys, rows as bytes, which columns come out
//! state     rows of all inputs, linked by key
//! probe     rows of one input -> output, a chunk at a time
//! operator  the operator
//! ```
//!
//! Two joins, one after the other, would keep what the first gives, rows as wide as their inputs
//! together, and look each of them up once more. As the join is INNER, what comes of a row depends on
//! the others that are there, and on nothing that was put out. (Joins of many streams without what lies between: Viglas, Naughton and
//! Burger, "Maximizing the Output Rate of Multi-Way Join Queries over Streaming Information Sources",
//! VLDB 2003; Flink 2.1 has such an operator.)

#[cfg(test)]
mod multi_test;
mod operator;
mod probe;
mod shape;
mod state;

pub use operator::MultiJoinOperator;
