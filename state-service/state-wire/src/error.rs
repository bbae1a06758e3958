//! Errors of the state contract across the wire: the caller gets back the value that the node
//! returned. What the network says is judged here, too.

use rpc::{ErrorCode, WireError, from_status, to_status, tonic::Status};
use serde::{Deserialize, Serialize};
use state_client::StateError;

/// A [`StateError`] on its way.
#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
#[serde(transparent)]
#[error(transparent)]
struct Travelling(StateError);

impl WireError for Travelling {
    fn code(&self) -> ErrorCode {
        match &self.0 {
            StateError::Fenced { .. } => ErrorCode::Fenced,
            StateError::UnknownJob(_) => ErrorCode::NotFound,
            StateError::Epoch { .. } => ErrorCode::Invalid,
            StateError::Corrupt(_) | StateError::Damaged(_) => ErrorCode::Corrupt,
            StateError::Unavailable(_) => ErrorCode::Unavailable,
        }
    }
}

/// The status that carries an error.
#[must_use]
pub fn status_of(error: StateError) -> Status {
    to_status(&Travelling(error))
}

/// What became of a call that did not succeed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The same request may succeed later, or at another node. If there is no later, this is the
    /// error.
    Passing(StateError),
    /// It will not succeed.
    Final(StateError),
}

/// What a status means for the caller.
#[must_use]
pub fn failure_of(status: &Status) -> Failure {
    if let Some(Travelling(error)) = from_status(status) {
        return match error.is_retryable() {
            true => Failure::Passing(error),
            false => Failure::Final(error),
        };
    }
    let text = status.message();
    match ErrorCode::of(status) {
        // Its value did not fit into a header.
        ErrorCode::Corrupt => Failure::Final(StateError::Damaged(text.to_owned())),
        ErrorCode::Deadline => {
            let why = "a state node did not answer in time".to_owned();
            Failure::Passing(StateError::Unavailable(why))
        }
        ErrorCode::Moved | ErrorCode::Exhausted | ErrorCode::Unavailable | ErrorCode::Internal => {
            Failure::Passing(StateError::Unavailable(chain(status)))
        }
        ErrorCode::Invalid | ErrorCode::NotFound | ErrorCode::Fenced | ErrorCode::Denied => {
            let why = format!("a state node refused a request: {text}");
            Failure::Final(StateError::Unavailable(why))
        }
    }
}

/// The status' text with its causes, which for a broken connection are what tells.
fn chain(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use proto::types::{Epoch, Generation, JobId};
    use state_client::{SectionError, page::RunError};

    use super::*;

    #[test]
    fn every_error_comes_back_as_it_was() {
        let fenced = StateError::Fenced {
            job: JobId(1),
            caller: Generation(u64::MAX - 1),
            current: Generation(u64::MAX),
        };
        let epoch = StateError::Epoch {
            job: JobId(1),
            epoch: Epoch(2),
            why: "näht".to_owned(),
        };
        let of_section = [
            SectionError::Header("x".to_owned()),
            SectionError::Version(7),
            SectionError::Short,
            SectionError::Checksum {
                table: 1,
                key_group: 2,
            },
            SectionError::Run(RunError::Header),
            SectionError::Run(RunError::Length { rows: 3 }),
        ];
        let finals = [
            fenced,
            epoch,
            StateError::UnknownJob(JobId(9)),
            StateError::Damaged("a page".to_owned()),
        ];
        let finals = finals
            .into_iter()
            .chain(of_section.map(StateError::Corrupt));
        for error in finals {
            let failure = failure_of(&status_of(error.clone()));
            assert_eq!(failure, Failure::Final(error));
        }
        let later = StateError::Unavailable("opening".to_owned());
        let failure = failure_of(&status_of(later.clone()));
        assert_eq!(failure, Failure::Passing(later));
    }

    #[test]
    fn what_is_too_long_for_a_header_keeps_its_kind() {
        let long = "x".repeat(100_000);
        let passing = failure_of(&status_of(StateError::Unavailable(long.clone())));
        assert!(matches!(
            passing,
            Failure::Passing(StateError::Unavailable(_))
        ));
        let damaged = failure_of(&status_of(StateError::Damaged(long)));
        assert!(matches!(damaged, Failure::Final(StateError::Damaged(_))));
    }

    #[test]
    fn only_what_time_or_another_node_may_heal_is_passing() {
        type Make = fn(&'static str) -> Status;
        let cases: [(Make, bool); 8] = [
            (|x| Status::unavailable(x), true),
            (|x| Status::cancelled(x), true),
            (|x| Status::deadline_exceeded(x), true),
            (|x| Status::resource_exhausted(x), true),
            (|x| Status::internal(x), true),
            (|x| Status::invalid_argument(x), false),
            (|x| Status::unimplemented(x), false),
            (|x| Status::permission_denied(x), false),
        ];
        for (status, passing) in cases {
            let status = status("why");
            let is_passing = matches!(failure_of(&status), Failure::Passing(_));
            assert_eq!(is_passing, passing, "{status:?}");
        }
    }
}
