//! Point reads.

use rpc::{
    state::{ReadPart, ReadRequest},
    tonic::Status,
};
use state_client::{KeyRequest, ReadReply};
use state_wire::{ReadParts, decode_read_request, rows_bytes, status_of};

use super::{
    StateService,
    admission::{Parts, in_parts},
    service::refused,
};

impl StateService {
    pub(super) async fn answer_read(
        &self,
        request: ReadRequest,
    ) -> Result<Parts<ReadPart>, Status> {
        let (who, request) = decode_read_request(request).map_err(|fault| refused(&fault))?;
        let bytes = request.keys.len() * size_of::<KeyRequest>();
        let _request = self.admission.request(bytes)?;
        let reply = self.store.read(who, request).await.map_err(status_of)?;
        self.rows_in_parts(reply)
    }

    pub(super) fn rows_in_parts(&self, reply: ReadReply) -> Result<Parts<ReadPart>, Status> {
        let bytes = reply.rows.iter().map(|rows| rows_bytes(rows)).sum();
        let lease = self.admission.reply(bytes)?;
        Ok(in_parts(ReadParts::new(reply), lease))
    }
}
