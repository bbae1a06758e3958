//! Reads of states that are kept.

use rpc::{
    state::{ReadKeptRequest, ReadPart, ScanKeptRequest, ScanReply},
    tonic::Status,
};
use state_client::KeyRequest;
use state_wire::{decode_read_kept, decode_scan_kept, status_of};

use super::{StateService, admission::Parts, service::refused};

impl StateService {
    pub(super) async fn answer_read_kept(
        &self,
        request: ReadKeptRequest,
    ) -> Result<Parts<ReadPart>, Status> {
        let (kept, keys) = decode_read_kept(request).map_err(|fault| refused(&fault))?;
        let _request = self
            .admission
            .request(keys.len() * size_of::<KeyRequest>())?;
        let reply = self.kept.read_kept(kept, keys).await.map_err(status_of)?;
        self.rows_in_parts(reply)
    }

    pub(super) async fn answer_scan_kept(
        &self,
        request: ScanKeptRequest,
    ) -> Result<ScanReply, Status> {
        let (kept, request) = decode_scan_kept(request).map_err(|fault| refused(&fault))?;
        let _request = self.admission.request(0)?;
        let reply = self.kept.scan_kept(kept, request).await;
        self.scanned(reply.map_err(status_of)?)
    }
}
