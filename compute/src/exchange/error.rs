//! Why a stream between workers ended before its channels did, and why one is refused.

use proto::types::{Generation, JobId, WorkerId};
use rpc::{ErrorCode, WireError, from_status, tonic::Status};
use serde::{Deserialize, Serialize};

use super::frame::FrameError;

/// Why a worker does not take a stream.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{job} is fenced: generation {caller} was replaced by {current}")]
    Fenced {
        job: JobId,
        caller: Generation,
        current: Generation,
    },
    #[error("generation {generation} of {job} was not started here in time")]
    NotStarted { job: JobId, generation: Generation },
    #[error("generation {generation} of {job} has ended here, or has its stream from {from}")]
    Ended {
        job: JobId,
        generation: Generation,
        from: WorkerId,
    },
    #[error("this is {here}, not {wanted}")]
    OtherWorker { here: WorkerId, wanted: WorkerId },
    #[error("the two workers do not have the same channels between {from} and {here}")]
    Wiring { here: WorkerId, from: WorkerId },
    #[error("too many streams wait here")]
    Busy,
    #[error("not a stream of elements: {0}")]
    Protocol(String),
}

impl WireError for Refusal {
    fn code(&self) -> ErrorCode {
        match self {
            Refusal::Fenced { .. } | Refusal::Ended { .. } => ErrorCode::Fenced,
            Refusal::NotStarted { .. } => ErrorCode::Unavailable,
            Refusal::OtherWorker { .. } | Refusal::Wiring { .. } | Refusal::Protocol(_) => {
                ErrorCode::Invalid
            }
            Refusal::Busy => ErrorCode::Exhausted,
        }
    }
}

/// Why a stream ended before all of its channels did.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("the other worker refuses the stream: {0}")]
    Refused(Refusal),
    #[error("the stream broke: {0}")]
    Broken(String),
    #[error("the other worker ended the stream before its channels ended")]
    Closed,
    #[error("the other worker did not open its stream in time")]
    NotOpened,
    #[error("no answer in time")]
    Late,
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("what came is not in order: {0}")]
    Protocol(&'static str),
}

impl From<Status> for LinkError {
    fn from(status: Status) -> LinkError {
        match from_status(&status) {
            Some(refusal) => LinkError::Refused(refusal),
            None => LinkError::Broken(format!("{} ({})", status.message(), status.code())),
        }
    }
}
