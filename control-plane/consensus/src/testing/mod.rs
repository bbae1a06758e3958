//! What the tests run on: disks that lose what was not synced, a network with faults, a machine that remembers all.
//! Simulations of whole clusters use the disks.

#[cfg(test)]
mod cluster;
mod disk;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod network;

#[cfg(test)]
pub(crate) use cluster::{Cluster, soon};
pub use disk::SimDisk;
#[cfg(test)]
pub(crate) use ledger::Ledger;
#[cfg(test)]
pub(crate) use network::SimNetwork;
