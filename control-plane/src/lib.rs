//! The control plane's shell: carries out what `coordinator` decides, keeps the catalog of a
//! process, serves REST.
//!
//! ```text
//! REST ─▶ Statements ─▶ sql::Session ─plan─▶ Jobs ─▶ Driver ⇄ coordinator::Job
//!                                                     │ ▲
//!                               WorkerLink, StateControl, worker events
//! StateControl ◀─ StateTier ⇄ metadata, state nodes (StateNodeLink, reports)
//! ```
//! Knows no worker: commands leave through [`WorkerLink`], which also says what is measured there.
//! Rows of results are text here.

pub mod api;
pub mod capacity;
pub mod caps;
mod census;
pub mod forward;
mod jobs;
pub mod leader;
mod links;
pub mod membership;
pub mod metadata;
pub mod peers;
mod restore;
pub mod results;
pub mod state_tier;
mod statements;
pub mod streams;
pub mod workers;

pub use census::take_census;
pub use coordinator::JobState;
pub use coordinator::meta::{JobRecord, JobSpec, SelectColumns};
pub use jobs::{
    Driver, ExceptionRecord, JobEntry, Jobs, JobsError, Replacement, Scale, Script, SubmitError,
    Tiers,
};
pub use links::{StateNodeLink, WorkerLink};
pub use restore::{Fork, Restore, RestoreError};
pub use statements::{
    StatementResult, Statements, StatementsError, job_options, job_spec, shortened,
};
