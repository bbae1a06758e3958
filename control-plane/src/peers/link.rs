//! The way to the other nodes.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use consensus::{Peer, PeerError, PeerLink, PeerRequest};
use futures::{FutureExt as _, future::BoxFuture};
use rpc::{
    Channel, ErrorCode, Timeouts, Tls, connect,
    peer::CallRequest,
    peer_client,
    tonic::{Request, Status},
};

/// Reaches nodes by their addresses, over one connection each.
pub struct GrpcPeers {
    tls: Tls,
    channels: Mutex<BTreeMap<String, Channel>>,
}

impl GrpcPeers {
    /// With `tls` on every connection.
    #[must_use]
    pub fn new(tls: Tls) -> GrpcPeers {
        GrpcPeers {
            tls,
            channels: Mutex::default(),
        }
    }

    fn channel(&self, address: &str) -> Result<Channel, PeerError> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(address) {
            return Ok(channel.clone());
        }
        let channel = connect(address, &self.tls, Timeouts::default())
            .map_err(|error| PeerError::Unreachable(error.to_string()))?;
        channels.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }
}

impl PeerLink for GrpcPeers {
    fn call(
        &self,
        to: &Peer,
        request: PeerRequest,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let channel = match self.channel(&to.address) {
            Ok(channel) => channel,
            Err(error) => return async move { Err(error) }.boxed(),
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
