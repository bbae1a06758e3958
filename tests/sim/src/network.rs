//! Connections over turmoil: between tiers for `rpc`, and for clients of the REST API.

use std::{io, net::SocketAddr, time::Duration};

use futures::{FutureExt as _, Stream, future::BoxFuture};
use rpc::{Network, Wire};
use turmoil::net::{TcpListener, TcpStream};

/// Where every host listens for other tiers.
pub const TIER_PORT: u16 = 7000;
/// Where nodes of the control plane listen for clients.
pub const REST_PORT: u16 = 7878;

/// How long it takes to learn that nobody listens. turmoil says so at once, and whoever tries again
/// would do so for ever at one and the same moment.
const REFUSED: Duration = Duration::from_millis(2);

/// The network of a host.
#[derive(Clone, Copy, Debug)]
pub struct Simulated;

impl Network for Simulated {
    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Wire>> {
        let address = address.to_owned();
        async move { dial(&address).await.map(Wire::new) }.boxed()
    }
}

/// A connection to `address`.
///
/// # Errors
/// When nobody listens there.
pub async fn dial(address: &str) -> io::Result<TcpStream> {
    let connected = TcpStream::connect(address).await;
    if connected.is_err() {
        tokio::time::sleep(REFUSED).await;
    }
    connected
}

async fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind(("0.0.0.0", port)).await
}

/// Connections of other tiers.
///
/// # Errors
/// When another task of the host listens there.
pub async fn tier_connections() -> io::Result<impl Stream<Item = io::Result<Wire>>> {
    let listener = listen(TIER_PORT).await?;
    Ok(futures::stream::unfold(listener, |listener| async move {
        let accepted = listener.accept().await;
        Some((accepted.map(|(stream, _)| Wire::new(stream)), listener))
    }))
}

/// Where clients connect.
pub struct RestListener(TcpListener);

impl RestListener {
    /// Listens.
    ///
    /// # Errors
    /// When another task of the host does.
    pub async fn bind() -> io::Result<RestListener> {
        listen(REST_PORT).await.map(RestListener)
    }
}

impl axum::serve::Listener for RestListener {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            if let Ok(accepted) = self.0.accept().await {
                return accepted;
            }
            tokio::time::sleep(REFUSED).await;
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
