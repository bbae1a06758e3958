//! What the tests run on: disks that lose what was not synced, a network with faults, a machine that remembers all.

mod cluster;
mod disk;
mod ledger;
mod network;

pub(crate) use cluster::{Cluster, soon};
pub(crate) use disk::SimDisk;
pub(crate) use ledger::Ledger;
pub(crate) use network::SimNetwork;
