//! The tiers as processes of their own: `millstream control-plane`, `worker` and `state-node`.
//!
//! ```text
//! clients ─REST─▶ control-plane ×3 ◀─control streams─ worker ×n, state-node ×n
//!                                                      │ exchange   ▲
//!                                                      └──state─────┘ ══ object store
//! ```
//! Each listens for other tiers on one address; only the control plane listens for clients.

mod control_plane;
mod delivery;
mod run;
mod state_node;
mod tier_args;
mod worker;

pub use control_plane::ControlPlaneArgs;
pub use delivery::ToLeader;
pub use state_node::StateNodeArgs;
pub use worker::{KnownRoutes, WorkerArgs};

pub use control_plane::run as run_control_plane;
pub use state_node::run as run_state_node;
pub use worker::run as run_worker;
