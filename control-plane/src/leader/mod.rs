//! A process that leads: the loops that drive jobs and the state tier, over one metadata log.

mod elect;
mod leading;

pub use elect::{Role, elect};
pub(crate) use leading::StoreRefused;
pub use leading::{LeadError, LeaderConfig, Leading};
