//! The tier over a log in memory and nodes that record what they are told. Time is paused: a sleep
//! ends when everybody else waits.

mod commits;
mod drops;
mod failures;
mod histories;
mod marks;
mod metadata;
mod placement;
mod setup;
