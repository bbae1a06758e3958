//! Staging: a task's sections, chunk by chunk.

use std::time::Duration;

use rpc::{
    state::{StageHead, StagePart, StageReply, stage_part::Part},
    tonic::{Status, Streaming},
};
use state_wire::{Malformed, StageFault, StageReceiver, encode_stage_reply, status_of};
use tokio::time::timeout;

use super::{StateService, service::refused};

/// How long a caller may be silent in the middle of a delta, whose memory is taken.
const PART_WAIT: Duration = Duration::from_secs(20);

impl StateService {
    pub(super) async fn take_stage(
        &self,
        mut parts: Streaming<StagePart>,
    ) -> Result<StageReply, Status> {
        let head = head(next(&mut parts).await?)?;
        let mut receiver = StageReceiver::new(head).map_err(|fault| refused(&fault))?;
        let _lease = self.admission.sections(receiver.bytes())?;
        while let Some(part) = next(&mut parts).await? {
            let Some(Part::Chunk(chunk)) = part.part else {
                return Err(refused(&Malformed::unexpected("head after the head")));
            };
            receiver.push(chunk).map_err(|fault| match fault {
                StageFault::Malformed(fault) => refused(&fault),
                StageFault::Damaged(error) => status_of(error),
            })?;
        }
        let (who, delta) = receiver.finish().map_err(|fault| refused(&fault))?;
        let objects = self.store.stage(who, delta).await.map_err(status_of)?;
        Ok(encode_stage_reply(objects))
    }
}

async fn next(parts: &mut Streaming<StagePart>) -> Result<Option<StagePart>, Status> {
    let next = timeout(PART_WAIT, parts.message()).await;
    next.map_err(|_| Status::deadline_exceeded("the next part of a delta did not come"))?
}

fn head(part: Option<StagePart>) -> Result<StageHead, Status> {
    match part.and_then(|part| part.part) {
        Some(Part::Head(head)) => Ok(head),
        Some(Part::Chunk(_)) | None => {
            Err(refused(&Malformed::unexpected("chunk before the head")))
        }
    }
}
