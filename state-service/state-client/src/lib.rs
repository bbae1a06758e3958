//! The contract between those who keep keyed state in memory (tasks) and those who keep it for
//! good (the state service): bytes in, bytes out, key groups and epochs. No columns, no SQL.
//!
//! [`StateStore`] is the contract, [`MemoryStore`] its in-process implementation and
//! `conformance` the suite that every implementation passes.

#[cfg(any(test, feature = "testing"))]
pub mod conformance;
mod delta;
mod error;
mod kept;
mod memory;
pub mod page;
mod request;
mod section;
mod store;

pub use delta::{Changes, Cut, EpochDelta};
pub use error::StateError;
pub use kept::{KeptShard, KeptState, KeptStates};
pub use memory::MemoryStore;
pub use request::{
    CountReply, KeyRequest, LoadedRow, ReadReply, ReadRequest, ScanReply, ScanRequest,
};
pub use section::{Block, Section, SectionError, StagedOutput};
pub use store::{
    Begun, CommittedOutput, Dropped, Incarnation, OutputRequest, StateControl, StateStore,
};
