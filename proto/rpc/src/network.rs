//! Networks that are not the machine's own: a simulated one, where connections are made and taken by
//! whoever simulates it.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::{Channel, Endpoint, Uri, server::Connected};

/// Makes connections in place of the operating system.
pub trait Network: fmt::Debug + Send + Sync {
    /// A connection to `address` (host:port).
    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Wire>>;
}

/// Bytes that go both ways.
pub trait Bytes: AsyncRead + AsyncWrite + Send {}

impl<S: AsyncRead + AsyncWrite + Send> Bytes for S {}

/// One connection of a [`Network`].
pub struct Wire(Pin<Box<dyn Bytes>>);

impl Wire {
    /// A connection over `stream`.
    pub fn new(stream: impl Bytes + 'static) -> Wire {
        Wire(Box::pin(stream))
    }
}

impl Connected for Wire {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.as_mut().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_shutdown(cx)
    }
}

/// The way over `network` that `endpoint` describes.
pub(crate) fn channel_over(
    endpoint: &Endpoint,
    address: &str,
    network: std::sync::Arc<dyn Network>,
) -> Channel {
    let address = address.to_owned();
    let connect = tower::service_fn(move |_: Uri| {
        let connection = network.connect(&address);
        async move { connection.await.map(TokioIo::new) }
    });
    endpoint.connect_with_connector_lazy(connect)
}
