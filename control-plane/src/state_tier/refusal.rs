//! What the one who asked is told when the metadata refuses a change.

use coordinator::meta::{Answer, Refusal};
use proto::types::JobId;
use state_client::StateError;

/// The error of an answer that is not the one that was hoped for.
pub(super) fn state_error(job: JobId, answer: Answer) -> StateError {
    match answer {
        Answer::Refused(Refusal::Fenced {
            job,
            asked,
            current,
        }) => StateError::Fenced {
            job,
            caller: asked,
            current,
        },
        Answer::Refused(Refusal::OutOfOrder {
            job,
            epoch,
            committed,
        }) => StateError::Epoch {
            job,
            epoch,
            why: format!("the newest committed epoch is {committed}"),
        },
        Answer::Refused(Refusal::UnknownJob(job) | Refusal::Ended(job)) => {
            StateError::UnknownJob(job)
        }
        Answer::Refused(other) => StateError::Unavailable(other.to_string()),
        other => StateError::Unavailable(format!("unexpected answer about {job}: {other:?}")),
    }
}
