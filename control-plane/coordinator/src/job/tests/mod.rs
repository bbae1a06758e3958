//! The life of a job, event by event.

mod epochs;
mod failures;
mod overtaking;
mod rerouting;
mod script;
mod stops;
mod takeover;
mod takeover_workers;
mod takeover_world;
mod workers;
