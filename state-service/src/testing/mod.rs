//! What tests and measurements of a state node need around it: a control plane of one node, an
//! object store that counts and fails as asked, and a node that can be restarted.

mod control;
mod faults;
mod setup;

pub use control::TestControl;
pub use faults::{Fault, FaultStore, Request, RequestKind};
pub use setup::{NodeSetup, RestartingStore};
