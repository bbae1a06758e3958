//! Whole clusters in one thread: nodes of the control plane, workers, state nodes and a client over
//! turmoil, with faults that a seed draws. The same seed gives the same run, down to its trace.
//!
//! ```text
//! plan ─actions─▶ run ─step─▶ turmoil: hosts ══ network
//!                  │            hosts ──▶ bucket (a host: answers late, or never)
//!                  ▼
//!                world: trace, what must hold at every moment      oracle: what must hold at the end
//! ```
//! Time and randomness of the process are the simulation's (`ambient`, and `main.rs` of the test). What
//! must outlive a host's death (disks, the store, the files of sinks) is kept in [`world`].

pub mod ambient;
pub mod bucket;
pub mod campaign;
mod fences;
pub mod hosts;
mod metadata;
pub mod network;
pub mod operation;
pub mod oracle;
pub mod plan;
pub mod room;
pub mod run;
pub mod scratch;
pub mod trace;
pub mod weather;
pub mod world;
