//! The nodes of the control plane, and how they come and go. The log's crate knows how; here is
//! what of it others see.

mod alone;
mod node;
mod raft;

pub use alone::Alone;
pub use node::{ControlNode, Membership, MembershipError};
pub use raft::RaftMembership;
