//! Rows of random or sequential values. A value is a function of its row's number and column, so
//! a replay gives the same rows.

mod generator;
mod rate;
mod reader;
mod source;
mod zipf;

pub(crate) use source::DatagenSource;

#[cfg(test)]
mod datagen_test;
