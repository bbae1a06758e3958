//! REST requests that reach a node which is not the leader: they are handed to the one that is, and
//! its answer comes back as it is made. So any node can be asked.

mod client;
#[cfg(test)]
mod forward_test;
mod front;
mod server;

pub use client::Forwarder;
pub use front::{Answerer, front, inner};
pub use server::ForwardService;
