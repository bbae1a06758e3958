//! What a node keeps on its disk, and the machine in memory.

mod disk;
mod log;
mod machine;
mod roster;
#[cfg(test)]
mod suite_test;

pub(crate) use disk::{Disk, DiskError, Identity};
pub(crate) use log::LogStore;
pub(crate) use machine::{Shared, StateMachine};
pub(crate) use roster::Roster;
