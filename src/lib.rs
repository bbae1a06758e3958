//! All tiers of Millstream wired together in one process, and the commands that use them. Wires,
//! decides nothing; the binary beside it only reads the command line.

mod capacity;
pub mod cluster;
pub mod dev;
pub mod fsck;
mod interrupt;
mod keep;
mod memory;
mod parent;
mod process;
mod render;
pub mod run;
mod scratch;
pub mod serve;
mod state_reader;
pub mod telemetry;
mod threads;

pub use memory::{MemoryArgs, MemoryPlan};
pub use process::{
    Durable, DurableConfig, OpenedStore, Process, ProcessConfig, join_tier, state_node_config,
};
pub use render::lines;
pub use scratch::{ScratchArgs, ScratchPlan};
pub use state_reader::StateReader;
