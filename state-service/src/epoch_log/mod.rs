//! The epoch log of a job: what tasks staged, in objects that a checkpoint lists. An object is
//! written once, under a name that is never used again, and deleted when nothing needs it.
//!
//! ```text
//! jobs/{job}/log/{generation}/{epoch}/{id}.rows    sections of tasks, for the shards
//! jobs/{job}/log/{generation}/{epoch}/{id}.out     output of tasks, for the publishers
//! ```
//! Rows and output have objects of their own, because they are needed for different times.

mod footer;
mod gc;
mod log;
mod name;
mod object;
mod read;

pub(crate) use gc::{delete_orphans, never_committed};
pub(crate) use log::{EpochLog, LogError};
pub(crate) use name::{LogNames, Origin, object_path as log_object_path};
pub(crate) use object::{NewObject, Piece, output_object, rows_object};
