//! Bytes and layout of stored rows.

mod builder;
mod layout;
mod merge;
mod run;
#[cfg(test)]
mod run_test;
mod write;

pub use builder::RunBuilder;
pub use merge::{merge, merge_into};
pub use run::{RowRef, Run, RunError};
pub use write::write_run;
