//! The way to the other nodes.

use bytes::Bytes;
use consensus::{Peer, PeerError, PeerLink, PeerRequest};
use futures::{
    FutureExt as _,
    future::{BoxFuture, ready},
};
use rpc::{
    Channels, ErrorCode, Timeouts, Tls,
    peer::CallRequest,
    peer_client,
    tonic::{Request, Status},
};

/// Reaches nodes by their addresses, over one connection each.
pub struct GrpcPeers(Channels);

impl GrpcPeers {
    /// With `tls` on every connection.
    #[must_use]
    pub fn new(tls: Tls) -> GrpcPeers {
        GrpcPeers(Channels::new(tls, Timeouts::default()))
    }
}

impl PeerLink for GrpcPeers {
    fn call(
        &self,
        to: &Peer,
        request: PeerRequest,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let channel = match self.0.to(&to.address) {
            Ok(channel) => channel,
            Err(error) => {
                return ready(Err(PeerError::Unreachable(error.to_string()))).boxed();
            }
        };
        async move {
            let mut call = Request::new(CallRequest { body: request.body });
            call.set_timeout(request.timeout);
            let reply =
                tokio::time::timeout(request.timeout, peer_client(channel).call(call)).await;
            match reply {
                Ok(Ok(reply)) => Ok(reply.into_inner().body),
                Ok(Err(status)) => Err(peer_error(&status)),
                Err(_) => Err(PeerError::Timeout),
            }
        }
        .boxed()
    }
}

fn peer_error(status: &Status) -> PeerError {
    match ErrorCode::of(status) {
        ErrorCode::Deadline => PeerError::Timeout,
        _ => PeerError::Unreachable(status.message().to_owned()),
    }
}
