//! The event generator of the Nexmark benchmark: persons, auctions and bids of an auction site.
//!
//! Every value is a function of (seed, event number, field) alone. So it does not matter how the
//! events are split, batched or projected, and only what is read is made: an event of a type that
//! nobody wants costs nothing.

mod auction;
mod bid;
mod buffers;
mod config;
mod person;
mod random;
mod reader;
mod rows;
mod run;
mod source;
mod words;

pub(crate) use source::NexmarkSource;

#[cfg(test)]
mod nexmark_test;
