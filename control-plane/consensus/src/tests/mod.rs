//! Whole nodes on simulated disks and networks.

mod alone;
mod disks;
mod membership;
mod reads;
mod refusals;
mod replicated;
