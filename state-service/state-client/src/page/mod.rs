//! Bytes and layout of stored rows.

mod run;

pub use run::{RowRef, Run, RunBuilder, RunError, merge};
