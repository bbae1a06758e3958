//! An accepted connection that can be cut from outside: a server that has stopped leaves none.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use futures::future::{BoxFuture, FutureExt as _};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::watch,
};
use tonic::transport::server::{Connected, TcpConnectInfo};

/// A TCP connection that ends when it is told to.
pub(crate) struct Connection {
    stream: TcpStream,
    cut: BoxFuture<'static, ()>,
}

impl Connection {
    /// A connection that is cut when `cut` turns true or its sender is gone.
    pub(crate) fn new(stream: TcpStream, mut cut: watch::Receiver<bool>) -> Connection {
        let cut = async move {
            // Gone is as good as true.
            let _ = cut.wait_for(|cut| *cut).await;
        };
        Connection {
            stream,
            cut: cut.boxed(),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // A connection is always being read, so it is here that its task learns of the cut.
        if self.cut.poll_unpin(cx).is_ready() {
            self.cut = std::future::ready(()).boxed();
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
