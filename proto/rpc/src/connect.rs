//! The way to another tier.

use std::{sync::Arc, time::Duration};

use tonic::{service::interceptor::InterceptedService, transport::Endpoint};

use crate::{
    Tls, TraceInject,
    caps::{
        CONNECTION_WINDOW_BYTES, HTTP_FRAME_BYTES, PING_INTERVAL, PING_TIMEOUT, STREAM_WINDOW_BYTES,
    },
    network::channel_over,
};

/// A connection that is made when it is first used and made again after it broke. Clones share it.
/// Each call carries the trace context of the span in which it is made.
pub type Channel = InterceptedService<tonic::transport::Channel, TraceInject>;

/// How long to wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// For a connection, and for its TLS handshake.
    pub connect: Duration,
    /// For the answer to a call; for the first sign of one where the answer is a stream. A request
    /// may ask for less.
    pub call: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect: Duration::from_secs(2),
            call: Duration::from_secs(10),
        }
    }
}

/// Why there is no way.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Not `host:port`.
    #[error("`{address}` is not an address: give host:port")]
    Address {
        /// What was given.
        address: String,
    },
    /// The certificates cannot be used.
    #[error(
        "failed to use the certificates for `{address}`; give PEM files of CA, certificate and key"
    )]
    Certificates {
        /// Whom they were for.
        address: String,
        /// Why.
        source: tonic::transport::Error,
    },
}

/// The way to the tier at `address` (host:port). Within a tokio runtime; does not wait.
///
/// # Errors
/// When the address or the certificates are malformed; that nobody answers is seen by calls.
pub fn connect(address: &str, tls: &Tls, timeouts: Timeouts) -> Result<Channel, ConnectError> {
    let scheme = match tls {
        Tls::None | Tls::Simulated(_) => "http",
        Tls::Mutual(_) => "https",
    };
    let malformed = || ConnectError::Address {
        address: address.to_owned(),
    };
    let (host, port) = address.rsplit_once(':').ok_or_else(malformed)?;
    if host.is_empty() || port.parse::<u16>().is_err() {
        return Err(malformed());
    }
    let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
        .map_err(|_| malformed())?
        .connect_timeout(timeouts.connect)
        .timeout(timeouts.call)
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(HTTP_FRAME_BYTES)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true);
    let channel = match tls {
        Tls::None => endpoint.connect_lazy(),
        Tls::Mutual(mutual) => endpoint
            .tls_config(mutual.client(timeouts.connect))
            .map_err(|source| ConnectError::Certificates {
                address: address.to_owned(),
                source,
            })?
            .connect_lazy(),
        Tls::Simulated(network) => channel_over(&endpoint, address, Arc::clone(network)),
    };
    Ok(InterceptedService::new(channel, TraceInject))
}
