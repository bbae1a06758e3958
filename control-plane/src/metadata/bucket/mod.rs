//! Metadata of one process whose log is objects of a store, so that it outlives the process.
//!
//! ```text
//! meta/log/{index}.json       commands, in order, or the mark of a process that begins
//! meta/snapshot/{index}.json  the state after that entry; what it contains goes from the log
//! ```
//! An entry is made only where none is (`If-None-Match`), so of two processes one loses at the first
//! entry that both want, learns it, and stops. A process that begins puts its mark after the last
//! entry, where the one before it will run into it. Marks are never deleted, for who was paused for
//! long must still find one where it left off: there is one for each start of a process.
//!
//! An entry that may have been written is written again until that is known; nothing else takes its
//! place.

mod files;
mod handle;
mod limits;
mod open;
mod pauses;
mod record;
mod shorten;
mod writer;

#[cfg(test)]
mod bucket_test;

pub use handle::{BucketConfig, BucketMetadata, Explain};
pub use limits::BucketLimits;
pub use open::BucketError;
