//! The service `State` over a store.

use std::sync::Arc;

use rpc::{
    state::{
        CommittedOutputPart, CommittedOutputRequest, CountReply, ReadKeptRequest, ReadPart,
        ReadRequest, ScanKeptRequest, ScanReply, ScanRequest, StagePart, StageReply,
        state_server::{State, StateServer},
    },
    state_server,
    tonic::{Request, Response, Status, Streaming, async_trait},
};
use state_client::{KeptStates, StateStore};
use state_wire::{Malformed, caps::REQUEST_BYTES_MAX};

use super::admission::{Admission, Limits, Parts};
use crate::{EmbeddedStore, StateNode};

/// Serves the shards of a node to other processes.
pub struct StateService {
    pub(super) store: Arc<dyn StateStore>,
    pub(super) kept: Arc<dyn KeptStates>,
    pub(super) admission: Admission,
}

impl StateService {
    /// The service of a node.
    #[must_use]
    pub fn new(node: StateNode) -> Self {
        StateService::over(Arc::new(EmbeddedStore::new(node)), &Limits::default())
    }

    pub(super) fn over<S: StateStore + KeptStates + 'static>(
        store: Arc<S>,
        limits: &Limits,
    ) -> Self {
        StateService {
            kept: store.clone(),
            store,
            admission: Admission::new(limits),
        }
    }

    /// What is to be added to the routes of a server.
    #[must_use]
    pub fn into_server(self) -> StateServer<StateService> {
        // Nothing that callers send is larger than a chunk.
        state_server(self).max_decoding_message_size(REQUEST_BYTES_MAX)
    }
}

#[async_trait]
impl State for StateService {
    type ReadStream = Parts<ReadPart>;
    type CommittedOutputStream = Parts<CommittedOutputPart>;
    type ReadKeptStream = Parts<ReadPart>;

    async fn read(
        &self,
        request: Request<ReadRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        self.answer_read(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn scan(&self, request: Request<ScanRequest>) -> Result<Response<ScanReply>, Status> {
        self.answer_scan(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn count(&self, request: Request<ScanRequest>) -> Result<Response<CountReply>, Status> {
        self.answer_count(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn stage(
        &self,
        request: Request<Streaming<StagePart>>,
    ) -> Result<Response<StageReply>, Status> {
        self.take_stage(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn committed_output(
        &self,
        request: Request<CommittedOutputRequest>,
    ) -> Result<Response<Self::CommittedOutputStream>, Status> {
        self.answer_output(&request.into_inner())
            .await
            .map(Response::new)
    }

    async fn read_kept(
        &self,
        request: Request<ReadKeptRequest>,
    ) -> Result<Response<Self::ReadKeptStream>, Status> {
        self.answer_read_kept(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn scan_kept(
        &self,
        request: Request<ScanKeptRequest>,
    ) -> Result<Response<ScanReply>, Status> {
        self.answer_scan_kept(request.into_inner())
            .await
            .map(Response::new)
    }
}

/// The status of a request that makes no sense.
pub(super) fn refused(fault: &Malformed) -> Status {
    Status::invalid_argument(fault.to_string())
}
