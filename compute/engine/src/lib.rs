//! Dataflow: what runs between a plan and its results.
//!
//! A core: poll-based on `futures`, so that any executor (or a test) steps it. Knows columns,
//! bytes and key groups; no SQL, no network, no tokio, no clock of its own.

pub mod batch;
pub mod clock;
pub mod codec;
mod element;
pub mod flow;
pub mod key;
pub mod late;
pub mod lookup;
pub mod memory;
pub mod operator;
pub mod schema;
pub mod sink;
pub mod source;
pub mod spill;
pub mod state;
pub mod task;
mod waiters;

pub use batch::{ChangeBatch, Kinds};
pub use element::{Barrier, Element, TIMESTAMP_MAX, TIMESTAMP_MIN, Timestamp};
