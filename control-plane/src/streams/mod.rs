//! The leader's side of the control streams: whoever comes is greeted, refused, or told where the
//! leader is; then what it says is handed to the jobs and the state tier, and what they say to it.
//!
//! ```text
//! Service ─▶ greet ─▶ worker     ⇄ Leading::workers (news), Worker::link
//!                  └▶ state_node ⇄ StateTier
//!         └▶ deliver ─▶ Feed of a SELECT
//! ```
//! Invariants
//! - A stream ends with the leadership under which it was greeted.
//! - Of one place (a worker's address, a state node's number) one stream is up; the later one wins
//!   if it is the same process, or the earlier process is gone.
//! - A worker is gone as soon as its stream is, for whatever reason: its tasks run anew elsewhere,
//!   and what it still does is fenced.

mod deliver;
mod greet;
mod places;
mod service;
mod state_node;
#[cfg(test)]
mod streams_test;
#[cfg(test)]
mod takeover_test;
mod worker;

pub use service::{ControlConfig, ControlService};
