//! Listening for other tiers.

use std::{future::Future, io, net::SocketAddr};

use futures::{Stream, StreamExt as _};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::watch,
};
use tonic::{
    service::Routes,
    transport::{
        Server,
        server::{Connected, TcpIncoming},
    },
};

use crate::{
    Tls, TraceLayer, Wire,
    caps::{
        CALLS_PER_CONNECTION_MAX, CONNECTION_WINDOW_BYTES, HTTP_FRAME_BYTES, PING_INTERVAL,
        PING_TIMEOUT, SHUTDOWN_GRACE, STREAM_WINDOW_BYTES,
    },
    connection::Connection,
};

/// Why a process does not listen.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Anyone on the network could give commands.
    #[error(
        "refusing to listen on {address} in plain text; give a CA, a certificate and a key, or listen on 127.0.0.1"
    )]
    Plain {
        /// Where it was to listen.
        address: SocketAddr,
    },
    /// The socket is not usable.
    #[error("failed to listen")]
    Listen(#[from] io::Error),
    /// The certificates cannot be used, or the server broke.
    #[error(
        "failed to serve; where the cause is a certificate, give PEM files of CA, certificate and key"
    )]
    Serve(#[from] tonic::transport::Error),
}

/// Serves `routes` until `shutdown`, then lets calls end for a bounded time. When it returns, or is
/// dropped, every connection is closed.
///
/// # Errors
/// When it must not listen there, or cannot.
pub async fn serve(
    listener: TcpListener,
    routes: Routes,
    tls: &Tls,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let address = listener.local_addr()?;
    let server = match tls {
        Tls::None if address.ip().is_loopback() => server(),
        Tls::None | Tls::Simulated(_) => return Err(ServeError::Plain { address }),
        Tls::Mutual(mutual) => server().tls_config(mutual.server())?,
    };
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    serve_incoming(server, incoming, routes, shutdown).await
}

/// As [`serve`], where somebody else listens: on a [`Network`](crate::Network) that is none of this
/// machine's.
///
/// # Errors
/// When the server breaks.
pub async fn serve_wires(
    incoming: impl Stream<Item = io::Result<Wire>>,
    routes: Routes,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    serve_incoming(server(), incoming, routes, shutdown).await
}

fn server() -> Server {
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(HTTP_FRAME_BYTES)
        .max_concurrent_streams(CALLS_PER_CONNECTION_MAX)
        .http2_keepalive_interval(Some(PING_INTERVAL))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
}

async fn serve_incoming<S>(
    server: Server,
    incoming: impl Stream<Item = io::Result<S>>,
    routes: Routes,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError>
where
    S: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    // Connections live in tasks of their own; dropping the sender reaches them.
    let (_cut, cut) = watch::channel(false);
    let incoming =
        incoming.map(move |stream| stream.map(|stream| Connection::new(stream, cut.clone())));
    let (stopping, mut stopped) = watch::channel(false);
    let serving = server
        .layer(TraceLayer)
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, async move {
            shutdown.await;
            stopping.send_replace(true);
        });
    let out_of_time = async move {
        // An error: the server itself has ended.
        if stopped.wait_for(|stopping| *stopping).await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(SHUTDOWN_GRACE).await;
    };
    tokio::select! {
        served = serving => Ok(served?),
        () = out_of_time => Ok(()),
    }
}
