//! Committed output for publishers.

use rpc::{
    state::{CommittedOutputPart, CommittedOutputRequest},
    tonic::Status,
};
use state_wire::{OutputParts, decode_output_request, output_bytes, status_of};

use super::{
    StateService,
    admission::{Parts, in_parts},
};

impl StateService {
    pub(super) async fn answer_output(
        &self,
        request: &CommittedOutputRequest,
    ) -> Result<Parts<CommittedOutputPart>, Status> {
        let (who, request) = decode_output_request(request);
        let _request = self.admission.request(0)?;
        let outputs = self.store.committed_output(who, request).await;
        let outputs = outputs.map_err(status_of)?;
        let lease = self.admission.reply(output_bytes(&outputs))?;
        Ok(in_parts(OutputParts::new(outputs), lease))
    }
}
