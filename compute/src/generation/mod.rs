//! One generation of one job on this worker: its tasks, links and publishers, from start to stop, and
//! through changes of the routing.
//!
//! ```text
//! Prepare ─▶ next routing: channels, links, what new tasks need; tasks that stay are told
//! Barrier ─▶ new tasks start from its epoch; tasks that stay change as it passes them; others retire
//! Committed ─▶ retired tasks go, publishers change place
//! ```
//! Until the barrier nothing that runs is touched: a routing that cannot be prepared is given up.

mod events;
mod links;
mod reroute;
mod running;

pub(crate) use events::panic_text;
pub(crate) use running::{Kept, RunningGeneration, TaskFigures};
