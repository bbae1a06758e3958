//! The life of a job, event by event.

mod epochs;
mod failures;
mod script;
mod workers;
