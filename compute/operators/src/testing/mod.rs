//! Operators under test: scripts of events in, changelog out, crashes at will.
//!
//! ```text
//! let make = |scope: &TaskScope| build(…, scope);
//! let events = [insert(0, &fields, "1, a\n2, b"), Event::Barrier, Event::Watermark(5), Event::End];
//! let folded = crash_at_each_barrier(&make, &events, &Fold::Retract);
//! ```
//! The harness plays the task and the state service: state reads are answered late, out of order and
//! by shards that are behind, deltas are encoded a few rows at a time between batches, and after a crash a new
//! operator starts from what was committed.

mod behind;
mod drive;
mod fold;
mod script;
mod text;

pub use fold::{Fold, Folded};
pub use script::{
    Event, MakeOperator, after_a_minute_of_rest, batches, crash_at_each_barrier, drive, drive_late,
    drive_with_seed, left_behind, scope,
};
pub use text::{changelog, fields, insert, rows};
