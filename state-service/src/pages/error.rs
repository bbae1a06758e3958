//! What can go wrong with a page store, by what its owner should do.

use slatedb::{CloseReason, ErrorKind};

/// Why an operation of a page store failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PageError {
    /// Another node opened the shard: this one has lost it.
    #[error("another writer has opened the shard; this one must give it up")]
    Fenced,
    /// The owner does not have the shard any more, says whoever was asked at open.
    #[error("the shard is not ours to open: {0}")]
    NotOwner(String),
    /// The object store failed or was slow beyond all retries; nothing is lost, try again.
    #[error("object store is unavailable while {doing}: {why}")]
    Unavailable {
        /// What was being done.
        doing: &'static str,
        /// What the store said.
        why: String,
    },
    /// An earlier write failed half-way; close the store and open it again.
    #[error("an earlier write failed, reopen the shard: {0}")]
    Reopen(String),
    /// Stored bytes are not what was written.
    #[error("stored state is damaged: {0}")]
    Damaged(String),
    /// The caller asked for what this shard cannot do.
    #[error("invalid request to a shard: {0}")]
    Invalid(String),
}

impl PageError {
    /// Sorts an error of SlateDB.
    pub(super) fn of(doing: &'static str) -> impl Fn(slatedb::Error) -> PageError {
        move |error| match error.kind() {
            ErrorKind::Closed(CloseReason::Fenced) => PageError::Fenced,
            ErrorKind::Closed(_) => PageError::Reopen(format!("{doing}: {error}")),
            ErrorKind::Data => PageError::Damaged(format!("{doing}: {error}")),
            ErrorKind::Invalid => PageError::Invalid(format!("{doing}: {error}")),
            _ => {
                let why = error.to_string();
                PageError::Unavailable { doing, why }
            }
        }
    }

    pub(super) fn deadline(doing: &'static str) -> PageError {
        let why = "deadline passed".to_string();
        PageError::Unavailable { doing, why }
    }

    /// Stored bytes that do not decode.
    pub(super) fn damaged(what: impl std::fmt::Debug, why: impl std::fmt::Display) -> PageError {
        PageError::Damaged(format!("{what:?}: {why}"))
    }
}
