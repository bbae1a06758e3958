//! The vocabulary that Millstream's processes share: ids and times that two of them compare,
//! SQL types, the compiled plan and the headers of persisted state.
//!
//! Knows no I/O, no arrow, no SQL text. Everything else may depend on it; it depends on nothing
//! of ours.

pub mod control;
mod hex;
pub mod inventory;
pub mod log;
pub mod plan;
pub mod policy;
pub mod running;
pub mod state;
pub mod state_control;
pub mod transfer;
pub mod types;
