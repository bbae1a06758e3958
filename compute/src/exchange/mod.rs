//! Channels between tasks on different workers.
//!
//! ```text
//!  task ─▶ channel ─▶ pump ┐                                  ┌▶ channel ─▶ gate
//!  task ─▶ channel ─▶ pump ┴═▶ frames ═ one stream ═▶ router ─┴▶ channel ─▶ gate
//!              ▲── credit per channel ◀══════════════◀── taken ──┘
//! ```
//! One stream per (job, generation, routing, sending worker, receiving worker). A pump takes an element from
//! its channel, encodes it and sends it when the far end of *its* channel has room; the receiving
//! side always reads, so no channel waits for another. Knows frames and credits, no operators.
//!
//! Invariants: elements of a channel arrive in order, each once, or the generation fails on both
//! sides; per channel, at most a window and one element are under way; streams end with their
//! generation.

mod config;
mod credit;
mod error;
mod frame;
mod link;
mod receive;
mod registry;
mod send;
mod server;

#[cfg(test)]
mod exchange_test;

pub use config::ExchangeConfig;
pub use server::ExchangeServer;

pub(crate) use error::LinkError;
pub(crate) use link::{Incoming, Links, Names, Outgoing};
pub(crate) use receive::ReceiveLink;
pub(crate) use registry::Expected;
pub(crate) use send::SendLink;
