//! The life of a job.
//!
//! ```text
//! Created ─▶ Beginning ─▶ Deploying ─▶ Running ─▶ Publishing ─▶ Stopping ─▶ Ended
//!                ▲             │          │           │             ▲
//!                └── BackingOff ◀─────────┴───────────┘             │
//!                         └──────── given up, or cancelled ─────────┘
//! ```
//! What runs when another leader takes over goes from Created to Adopting, and from there to Running,
//! or, where not all of it is heard of, to the next generation.
//! One that has committed something is not given up but goes to Quarantined, and from there, when
//! its user says so, to Beginning or to Ended.
//!
//! One file per part of that life. Invariants: an event of another generation changes nothing; an
//! epoch is committed only when every task has staged it; no epoch number is used twice.

mod adopting;
mod adoption;
#[allow(clippy::module_inception)]
mod job;
mod rerouting;
mod restarting;
mod running;
mod starting;
mod stopping;
#[cfg(test)]
#[allow(clippy::too_many_lines)] // scripts and their effects
mod tests;

pub use job::{Job, JobFacts};
pub use rerouting::RescaleStage;
