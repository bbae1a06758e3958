//! Takes the other nodes' requests.

use consensus::{Consensus, Machine, PeerError};
use rpc::{
    peer::{CallReply, CallRequest, peer_server::Peer},
    tonic::{Request, Response, Status, async_trait},
};

/// The service `Peer` of a node.
pub struct PeerService<M: Machine>(Consensus<M>);

impl<M: Machine> PeerService<M> {
    /// Of a node that has been started.
    #[must_use]
    pub fn new(consensus: Consensus<M>) -> Self {
        PeerService(consensus)
    }
}

#[async_trait]
impl<M: Machine + Sync> Peer for PeerService<M> {
    async fn call(&self, request: Request<CallRequest>) -> Result<Response<CallReply>, Status> {
        let body = self.0.handle(request.into_inner().body).await;
        let body = body.map_err(|error| match &error {
            PeerError::Malformed(_) => Status::invalid_argument(error.to_string()),
            PeerError::Timeout => Status::deadline_exceeded(error.to_string()),
            PeerError::Unreachable(_) | PeerError::Stopped(_) => {
                Status::unavailable(error.to_string())
            }
        })?;
        Ok(Response::new(CallReply { body }))
    }
}
