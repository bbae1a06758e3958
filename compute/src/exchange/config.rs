//! What a worker is given to exchange elements with others.

use std::time::Duration;

use rpc::Tls;

use super::ExchangeServer;
use crate::caps::{EXCHANGE_OPEN_WAIT, EXCHANGE_OVERDRAFT_BYTES_MAX, EXCHANGE_WINDOW_BYTES};

/// What a worker is given to exchange elements with others.
#[derive(Clone, Debug)]
pub struct ExchangeConfig {
    /// Takes other workers' streams; whoever starts the worker has it served at the address that
    /// other workers are told.
    pub server: ExchangeServer,
    /// How workers talk to each other.
    pub tls: Tls,
    /// Bytes that may be under way in each channel. Tests make it tiny.
    pub window_bytes: usize,
    /// Bytes beyond these that a barrier may take with it in each channel. Tests make it small.
    pub overdraft_bytes: usize,
    /// How long the two ends of a stream wait for each other. Tests make it short.
    pub open_wait: Duration,
    /// Varies the pauses between attempts to connect.
    pub seed: u64,
}

impl ExchangeConfig {
    /// The usual limits.
    #[must_use]
    pub fn new(server: ExchangeServer, tls: Tls, seed: u64) -> ExchangeConfig {
        ExchangeConfig {
            server,
            tls,
            window_bytes: EXCHANGE_WINDOW_BYTES,
            overdraft_bytes: EXCHANGE_OVERDRAFT_BYTES_MAX,
            open_wait: EXCHANGE_OPEN_WAIT,
            seed,
        }
    }
}
