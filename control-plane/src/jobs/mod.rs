//! Jobs of this process: the handle that others hold, the records that they read, and the loop
//! that drives `coordinator` with events.

mod decision_span;
mod deployment;
mod drive;
#[cfg(test)]
mod drive_test;
mod effects;
mod entry;
mod handle;
mod presence;
mod requests;
mod scaling;
#[cfg(test)]
mod scaling_test;
mod traces;

pub use drive::{Driver, Tiers};
pub use entry::{ExceptionRecord, JobEntry};
pub use handle::{Jobs, JobsError, Replacement, Scale, Script, SubmitError};
