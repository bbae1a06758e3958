//! Decides what happens to jobs: when an epoch begins and is committed, what follows a failure,
//! which tasks there are. Does nothing itself: events and the time go in, effects come out, and a
//! shell carries them out.
//!
//! Invariants: no I/O, no clock, no randomness but a seed; the same events give the same effects.

#![deny(clippy::indexing_slicing)]

pub mod autoscale;
pub mod capacity;
pub mod caps;
pub mod census;
mod checkpoint;
mod event;
pub mod fit;
mod history;
mod job;
pub mod lint;
pub mod meta;
pub mod place;
mod restart;

pub use event::{Effect, Event, JobState};
pub use history::{CheckpointRecord, CheckpointSummary};
pub use job::{Job, JobFacts, RescaleStage};
