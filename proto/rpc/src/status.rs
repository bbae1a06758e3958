//! Errors across the wire: the caller gets back the value that the callee returned.

use std::{error::Error, fmt::Display};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use tonic::{Code, Status};

use crate::caps::{DETAILS_BYTES_MAX, ERROR_TEXT_BYTES_MAX};

/// What kind of error it is, which says whose it is and whether to try again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ErrorCode {
    /// The request makes no sense; the caller is wrong.
    Invalid,
    /// What it names does not exist.
    NotFound,
    /// A newer incarnation of the caller exists: it must stop.
    Fenced,
    /// The callee is not who decides this (no longer the owner, not the leader): look again whom
    /// to ask.
    Moved,
    /// A limit is reached; try later.
    Exhausted,
    /// Out of reach or not ready; try again.
    Unavailable,
    /// No answer in time; whether it took effect is not known.
    Deadline,
    /// Stored or received bytes are damaged.
    Corrupt,
    /// The caller is not who it should be.
    Denied,
    /// A fault of the callee.
    Internal,
}

impl ErrorCode {
    /// Whether the same request to the same callee may succeed later.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        matches!(
            self,
            ErrorCode::Exhausted | ErrorCode::Unavailable | ErrorCode::Deadline
        )
    }

    /// The code of a status, be it made by a peer, by the network or by a deadline.
    #[must_use]
    pub fn of(status: &Status) -> ErrorCode {
        if let Some(cause) = status.source() {
            // Not from the peer: the network or a deadline ended the call.
            return match is_late(cause) {
                true => ErrorCode::Deadline,
                false => ErrorCode::Unavailable,
            };
        }
        match status.code() {
            Code::InvalidArgument
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::AlreadyExists => ErrorCode::Invalid,
            Code::NotFound => ErrorCode::NotFound,
            Code::FailedPrecondition => ErrorCode::Fenced,
            Code::Aborted => ErrorCode::Moved,
            Code::ResourceExhausted => ErrorCode::Exhausted,
            // A call that a broken connection or a server's shutdown ended.
            Code::Unavailable | Code::Cancelled => ErrorCode::Unavailable,
            Code::DeadlineExceeded => ErrorCode::Deadline,
            Code::DataLoss => ErrorCode::Corrupt,
            Code::PermissionDenied | Code::Unauthenticated => ErrorCode::Denied,
            Code::Unknown | Code::Internal | Code::Ok => ErrorCode::Internal,
        }
    }

    fn grpc(self) -> Code {
        match self {
            ErrorCode::Invalid => Code::InvalidArgument,
            ErrorCode::NotFound => Code::NotFound,
            ErrorCode::Fenced => Code::FailedPrecondition,
            ErrorCode::Moved => Code::Aborted,
            ErrorCode::Exhausted => Code::ResourceExhausted,
            ErrorCode::Unavailable => Code::Unavailable,
            ErrorCode::Deadline => Code::DeadlineExceeded,
            ErrorCode::Corrupt => Code::DataLoss,
            ErrorCode::Denied => Code::PermissionDenied,
            ErrorCode::Internal => Code::Internal,
        }
    }
}

fn is_late(cause: &(dyn Error + 'static)) -> bool {
    has::<tonic::TimeoutExpired>(cause)
}

/// Whether the request of a call that ended so never left, for there was no connection.
#[must_use]
pub fn is_unsent(status: &Status) -> bool {
    status.source().is_some_and(has::<tonic::ConnectError>)
}

/// Whether an error is, or was caused by, one of this type.
fn has<E: Error + 'static>(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<E>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// An error that both sides of a service know.
pub trait WireError: Serialize + DeserializeOwned + Display {
    /// Its kind.
    fn code(&self) -> ErrorCode;
}

/// The status that carries `error`: its kind, its text, and itself as JSON.
pub fn to_status<E: WireError>(error: &E) -> Status {
    let mut text = error.to_string();
    text.truncate(text.floor_char_boundary(ERROR_TEXT_BYTES_MAX));
    let code = error.code().grpc();
    match serde_json::to_vec(error) {
        Ok(details) if details.len() <= DETAILS_BYTES_MAX => {
            Status::with_details(code, text, Bytes::from(details))
        }
        // What does not fit into a header would end the connection: the kind and the text do.
        _ => Status::new(code, text),
    }
}

/// The error that a status carries, if the peer made it by [`to_status`] from the same type.
#[must_use]
pub fn from_status<E: WireError>(status: &Status) -> Option<E> {
    serde_json::from_slice(status.details()).ok()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(PartialEq, Debug, Serialize, Deserialize, thiserror::Error)]
    enum DoorError {
        #[error("the door is shut since {since}: {why}")]
        Shut { since: u64, why: String },
    }

    impl WireError for DoorError {
        fn code(&self) -> ErrorCode {
            ErrorCode::Unavailable
        }
    }

    fn shut(why: &str) -> DoorError {
        DoorError::Shut {
            since: u64::MAX,
            why: why.to_owned(),
        }
    }

    #[test]
    fn an_error_comes_back_as_it_was() {
        let status = to_status(&shut("näht"));
        assert_eq!(from_status(&status), Some(shut("näht")));
        assert_eq!(ErrorCode::of(&status), ErrorCode::Unavailable);
        assert!(status.message().ends_with("näht"));
    }

    #[test]
    fn an_error_that_is_too_long_keeps_its_kind_and_the_start_of_its_text() {
        let status = to_status(&shut(&"ü".repeat(10_000)));
        assert_eq!(from_status::<DoorError>(&status), None);
        assert_eq!(ErrorCode::of(&status), ErrorCode::Unavailable);
        assert!(status.message().len() <= ERROR_TEXT_BYTES_MAX);
        assert!(status.message().starts_with("the door is shut"));
    }

    #[test]
    fn a_status_of_somebody_else_is_no_error_of_ours() {
        let foreign = Status::with_details(Code::Internal, "x", Bytes::from_static(b"{\"a\":1}"));
        assert_eq!(from_status::<DoorError>(&foreign), None);
        assert_eq!(from_status::<DoorError>(&Status::internal("x")), None);
    }

    #[test]
    fn codes_go_there_and_back() {
        use ErrorCode::*;
        for code in [
            Invalid,
            NotFound,
            Fenced,
            Moved,
            Exhausted,
            Unavailable,
            Deadline,
            Corrupt,
            Denied,
            Internal,
        ] {
            assert_eq!(ErrorCode::of(&Status::new(code.grpc(), "")), code);
        }
    }
}
