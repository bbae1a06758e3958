//! gRPC between tiers: the services' schema, and the one way in which a process listens, connects,
//! says what went wrong and passes trace context on.
//!
//! Knows no service's meaning: what a request does is the business of whoever implements it.
//! - Tiers talk over mTLS when they are given a CA; without one, nothing listens beyond loopback.
//! - Every call has a deadline ([`Timeouts`]), every retry a bound and jitter ([`RetryPolicy`]).
//! - An error crosses the wire as a [`WireError`]: the caller gets back the value, not a text.

pub mod caps;
mod channels;
mod client;
mod connect;
mod connection;
mod network;
mod retry;
mod schema;
mod serve;
mod server;
mod status;
mod tls;
mod trace;
pub mod trace_context;

#[cfg(test)]
mod transport_test;

pub use channels::Channels;
pub use client::{control_client, exchange_client, forward_client, peer_client, state_client};
pub use connect::{Channel, ConnectError, Timeouts, connect};
pub use network::{Bytes as WireBytes, Network, Wire};
pub use retry::{Backoff, RetryPolicy};
pub use schema::{control, exchange, forward, peer, state};
pub use serve::{ServeError, serve, serve_wires};
pub use server::{control_server, exchange_server, forward_server, peer_server, state_server};
pub use status::{ErrorCode, WireError, from_status, is_unsent, to_status};
pub use tls::{Mutual, Tls};
pub use tonic;
pub use trace::{TraceInject, TraceLayer, TraceService};
