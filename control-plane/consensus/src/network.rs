//! openraft's requests, sent over the link.
//!
//! Whatever goes wrong but a timeout is `Unreachable` to openraft, which then waits before it tries again; any other
//! error it would repeat at once, without end.

use std::sync::Arc;

use openraft::{
    AnyError, RPCTypes, RaftNetwork, RaftNetworkFactory, SnapshotSegmentId,
    error::{
        InstallSnapshotError, RPCError, RaftError, RemoteError, SnapshotMismatch, Timeout,
        Unreachable,
    },
    network::{Backoff, RPCOption},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest,
        InstallSnapshotResponse, VoteRequest, VoteResponse,
    },
};

use crate::{
    PeerError, PeerRequestKind,
    local::{CallError, Local, Target},
    types::{Node, Types},
    wire::{self, SnapshotReply},
};

/// Makes connections to other nodes.
pub(crate) struct Network {
    local: Arc<Local>,
}

/// Requests to one node.
pub(crate) struct Connection {
    local: Arc<Local>,
    target: Target,
}

type Failed<E = RaftError<u64>> = RPCError<u64, Node, E>;

impl Network {
    pub(crate) fn new(local: Arc<Local>) -> Self {
        Self { local }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, node: &Node) -> Connection {
        let address = self.local.address(target, &node.address);
        let target = Target {
            id: target,
            address,
            disk: Some(node.disk),
        };
        Connection {
            local: Arc::clone(&self.local),
            target,
        }
    }
}

impl Connection {
    async fn call<E: std::error::Error>(
        &self,
        kind: PeerRequestKind,
        action: RPCTypes,
        body: Vec<u8>,
        option: &RPCOption,
    ) -> Result<Vec<u8>, Failed<E>> {
        let timeout = option.hard_ttl();
        match self.local.call(kind, &self.target, &body, timeout).await {
            Ok(body) => Ok(body),
            Err(CallError::Peer(PeerError::Timeout)) => {
                let id = self.local.identity().node;
                Err(Timeout {
                    action,
                    id,
                    target: self.target.id,
                    timeout,
                }
                .into())
            }
            Err(error) => Err(Unreachable::new(&error).into()),
        }
    }
}

fn damaged<E: std::error::Error>(error: wire::Damaged) -> Failed<E> {
    Unreachable::new(&error).into()
}

impl RaftNetwork<Types> for Connection {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, Failed> {
        let body = wire::encode(&request);
        let answer = self
            .call(
                PeerRequestKind::Append,
                RPCTypes::AppendEntries,
                body,
                &option,
            )
            .await?;
        wire::decode(&answer).map_err(damaged)
    }

    async fn install_snapshot(
        &mut self,
        request: InstallSnapshotRequest<Types>,
        option: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, Failed<RaftError<u64, InstallSnapshotError>>> {
        let body = wire::encode(&request);
        let answer = self
            .call(
                PeerRequestKind::Snapshot,
                RPCTypes::InstallSnapshot,
                body,
                &option,
            )
            .await?;
        match wire::decode(&answer).map_err(damaged)? {
            SnapshotReply::Vote(vote) => Ok(InstallSnapshotResponse { vote }),
            SnapshotReply::Restart if request.offset == 0 => {
                // It cannot be asked to begin before the beginning; do not repeat that at once.
                let error = AnyError::error("the first piece of a snapshot was refused");
                Err(Unreachable::new(&error).into())
            }
            SnapshotReply::Restart => {
                let place = |offset| SnapshotSegmentId {
                    id: request.meta.snapshot_id.clone(),
                    offset,
                };
                let mismatch = SnapshotMismatch {
                    expect: place(0),
                    got: place(request.offset),
                };
                let error = RaftError::APIError(InstallSnapshotError::SnapshotMismatch(mismatch));
                Err(RemoteError::new(self.target.id, error).into())
            }
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<u64>,
        option: RPCOption,
    ) -> Result<VoteResponse<u64>, Failed> {
        let body = wire::encode(&request);
        let answer = self
            .call(PeerRequestKind::Vote, RPCTypes::Vote, body, &option)
            .await?;
        wire::decode(&answer).map_err(damaged)
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(self.local.pauses())
    }
}
