//! A task: one parallel instance of a fragment, as a future that any executor may poll.
//!
//! ```text
//!  gate ──▶ ┌ graph of operators ┐ ──▶ ports          commands ──▶ task ──▶ events
//!  sources ─┘   │ reads   ▲ rows └──▶                            (barriers)  (staged, finished)
//!               ▼         │
//!              state store
//! ```
//! Life of a barrier in a task: it is aligned by the gate (or comes from the coordinator, where
//! the task's inputs are sources or have ended); every operator passes it in topological order, so
//! that what one flushes the next has seen; all freeze; the barrier leaves by every port; the
//! delta is encoded between batches, sorted and staged off the task; the acknowledgement goes to
//! the coordinator. One that does not come for long overtakes what is queued before it (`overtake`);
//! what that is goes into the delta (`overtaken`) and, after a restore, back into the channels
//! (`replay`). A barrier that carries another routing than the task's makes it change its place
//! right after that ([`Reroute`]).

#[cfg(test)]
mod ahead_test;
mod asked;
mod checkpoint;
mod graph;
mod hydrate;
#[cfg(test)]
mod late_test;
mod memory;
mod metrics;
mod node;
#[cfg(test)]
mod node_test;
#[cfg(test)]
mod numbers_test;
mod overtake;
#[cfg(test)]
mod overtake_test;
mod overtaken;
mod parts;
mod replay;
mod reroute;
mod run;
#[cfg(test)]
mod task_test;
mod time;

pub use graph::{Consumer, Graph, GraphBuilder};
pub use metrics::{TaskMetrics, TimeSplit};
pub use parts::{TaskCommand, TaskError, TaskEvent, TaskParts, retry_of};
pub use reroute::{NewPlace, Reroute};
pub use run::Task;
