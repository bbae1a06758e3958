//! The cluster's metadata: what a replicated log makes all control-plane nodes agree on. Jobs and
//! how far each is committed, who owns which shard, the catalog. A pure state machine: changes go
//! in by the log's order, the same on every node.
//!
//! What is not here is not remembered: figures, exceptions, where tasks run at the moment.

mod catalog;
mod change;
mod inventory;
mod job;
mod lease;
#[cfg(test)]
mod lease_test;
#[cfg(test)]
mod lease_world;
mod point;
mod retain;
mod state;
#[cfg(test)]
mod state_test;
mod transfer;
#[cfg(test)]
mod transfer_test;
mod upgrade;
#[cfg(test)]
mod upgrade_test;

pub use catalog::Catalog;
pub use change::{Answer, Change, Command, Refusal};
pub use job::{Desired, JobRecord, JobSpec, Outcome, SelectColumns, Stop};
pub use point::{
    LoggedObjects, Origin, OriginSpec, Quarantine, RestoreAt, RestorePoint, Savepoint,
};
pub use state::MetaState;
pub use transfer::{Imported, Transfer, TransferEnd, TransferSpec};
pub use upgrade::{Successor, Upgrade, UpgradeMode};
