//! What can go wrong between a task and its state.

use proto::types::{Epoch, Generation, JobId};
use serde::{Deserialize, Serialize};

use crate::section::SectionError;

/// Why a state operation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateError {
    /// A newer incarnation of the job exists: the caller must stop.
    #[error("{job} is fenced: generation {caller} was replaced by {current}")]
    Fenced {
        /// Job.
        job: JobId,
        /// Generation that asked.
        caller: Generation,
        /// Generation in force.
        current: Generation,
    },
    /// The store does not know the job.
    #[error("{0} is unknown to the state store")]
    UnknownJob(JobId),
    /// A commit or a read names an epoch that was not staged or committed.
    #[error("epoch {epoch} of {job} is not there: {why}")]
    Epoch {
        /// Job.
        job: JobId,
        /// Epoch.
        epoch: Epoch,
        /// Why.
        why: String,
    },
    /// Stored bytes do not decode.
    #[error("failed to decode state: {0}")]
    Corrupt(#[from] SectionError),
    /// Stored state is not what was written, or not all there.
    #[error("stored state is damaged: {0}")]
    Damaged(String),
    /// The store cannot be reached; worth another try.
    #[error("state store is unavailable: {0}")]
    Unavailable(String),
}

impl StateError {
    /// Whether what is stored is damaged: starting again does not help.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, StateError::Corrupt(_) | StateError::Damaged(_))
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, StateError::Unavailable(_))
    }
}
