//! Scans of a key group, a message of rows at a time, and what they amount to.

use rpc::{
    caps::MESSAGE_BYTES_MAX,
    state::{CountReply, ScanReply, ScanRequest},
    tonic::Status,
};
use state_wire::{
    decode_scan_request, encode_count_reply, encode_scan_reply, rows_bytes, status_of,
};

use super::{StateService, service::refused};

impl StateService {
    pub(super) async fn answer_scan(&self, request: ScanRequest) -> Result<ScanReply, Status> {
        let (who, request) = decode_scan_request(request).map_err(|fault| refused(&fault))?;
        let _request = self.admission.request(0)?;
        let reply = self.store.scan(who, request).await;
        self.scanned(reply.map_err(status_of)?)
    }

    pub(super) async fn answer_count(&self, request: ScanRequest) -> Result<CountReply, Status> {
        let (who, request) = decode_scan_request(request).map_err(|fault| refused(&fault))?;
        let _request = self.admission.request(0)?;
        let counted = self.store.count(who, request).await;
        Ok(encode_count_reply(counted.map_err(status_of)?))
    }

    pub(super) fn scanned(&self, reply: state_client::ScanReply) -> Result<ScanReply, Status> {
        let bytes = rows_bytes(&reply.rows);
        if bytes > MESSAGE_BYTES_MAX {
            let why = format!("rows of {bytes} bytes, of which {MESSAGE_BYTES_MAX} can be sent");
            return Err(Status::out_of_range(why));
        }
        let _reply = self.admission.reply(bytes)?;
        Ok(encode_scan_reply(reply))
    }
}
