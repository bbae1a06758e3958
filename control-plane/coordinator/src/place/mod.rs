//! What runs where: the tasks that a plan runs as, the state nodes that serve a job's shards.

mod routing;
mod shards;
mod tasks;

pub use routing::{Parallelism, PlanShape, Routing};
pub use shards::shards;
pub use tasks::{PlaceError, tasks, workers};
