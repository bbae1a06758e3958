//! The state service as other processes reach it: one file per call. Knows how requests travel and
//! how much of them may be under way; what they mean is the store's business.
//!
//! A call whose caller has gone, or whose time is up, is dropped wherever it stands. What is taken in
//! beyond the bounds of `admission` is refused as unavailable: callers try again later.

mod admission;
mod committed_output;
mod kept;
mod read;
mod scan;
mod service;
#[cfg(test)]
mod service_test;
mod stage;

pub use service::StateService;
