//! The socket of the REST API, and what serves on it.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs as _},
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use axum::Router;
use axum_server::{
    Handle, Server,
    accept::NoDelayAcceptor,
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};
use futures::FutureExt as _;
use tokio::net::TcpListener;

use super::RestTls;

/// How long a client may take to say what it wants.
const FIRST_REQUEST_MAX: Duration = Duration::from_secs(30);

/// How long requests may go on when the server is told to stop.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// The socket of the REST API. Beyond this machine it is never in plain text.
#[derive(Debug)]
pub struct RestListener {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<RestTls>,
}

impl RestListener {
    /// Listens. Port 0: any free one.
    ///
    /// # Errors
    /// When the address cannot be listened on, or only with a certificate.
    pub async fn bind(address: SocketAddr, tls: Option<RestTls>) -> anyhow::Result<RestListener> {
        if tls.is_none() && !address.ip().is_loopback() {
            bail!(
                "{} is not a loopback address: give --tls-cert and --tls-key, or listen on 127.0.0.1",
                address.ip()
            );
        }
        let listener = TcpListener::bind(address).await.map_err(|error| {
            if error.kind() == io::ErrorKind::AddrInUse {
                anyhow!(
                    "port {} is in use; stop what uses it or choose another with --listen {}:<port>",
                    address.port(),
                    address.ip()
                )
            } else {
                anyhow::Error::new(error).context(format!("failed to listen on {address}"))
            }
        })?;
        let address = listener.local_addr().context("failed to listen")?;
        Ok(RestListener {
            listener,
            address,
            tls,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What a URL of it begins with.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Serves until `stop` completes, then lets requests that are under way end, for a while.
    ///
    /// # Errors
    /// When the socket fails.
    pub async fn serve(self, app: Router, stop: impl Future<Output = ()>) -> io::Result<()> {
        let handle = Handle::new();
        let server = Server::<SocketAddr>::from_listener(self.listener)
            .handle(handle.clone())
            .first_request_timeout(FIRST_REQUEST_MAX);
        let app = app.into_make_service();
        let plain = NoDelayAcceptor::new();
        let served = match self.tls {
            None => server.acceptor(plain).serve(app).left_future(),
            Some(RestTls(config)) => {
                let acceptor = RustlsAcceptor::new(RustlsConfig::from_config(config));
                server
                    .acceptor(acceptor.acceptor(plain))
                    .serve(app)
                    .right_future()
            }
        };
        tokio::pin!(served);
        tokio::select! {
            served = &mut served => return served,
            () = stop => handle.graceful_shutdown(Some(SHUTDOWN_GRACE)),
        }
        served.await
    }
}

/// An address and a port; names of this machine, such as `localhost`, too.
pub(crate) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let addresses = text.to_socket_addrs().map(Vec::from_iter);
    let address = addresses.ok().and_then(|addresses| {
        let ipv4 = addresses.iter().find(|address| address.is_ipv4());
        ipv4.or(addresses.first()).copied()
    });
    address.ok_or_else(|| "expected an address and a port such as 127.0.0.1:7878".to_owned())
}
