//! What runs where: the tasks that a plan runs as, the state nodes that serve a job's shards.

mod shards;
mod tasks;

pub use shards::shards;
pub use tasks::{PlaceError, tasks, workers};
