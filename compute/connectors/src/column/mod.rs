//! Columns that grow value by value and can be cut back to an earlier length: what decoders
//! write into, so that a record that turns out bad half-way leaves no trace.
//!
//! Knows the memory layout of `engine::schema`; knows no format.

mod build;
mod rows;

pub(crate) use build::{Column, Data};
pub(crate) use rows::Rows;
