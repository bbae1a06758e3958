//! Why a deployment cannot be started.

use engine::{operator::OperatorError, sink::SinkError, source::SourceError};
use proto::plan::PlanError;

/// Why a deployment cannot be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("operator `{node}`: {source}")]
    Operator { node: String, source: OperatorError },
    #[error("table `{table}`: {source}")]
    Source { table: String, source: SourceError },
    #[error("table `{table}`: {source}")]
    Sink { table: String, source: SinkError },
}

impl BuildError {
    /// Whether starting again may help.
    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            BuildError::Plan(_) => false,
            BuildError::Operator { source, .. } => source.is_retryable(),
            BuildError::Source { source, .. } => matches!(source, SourceError::Io { .. }),
            BuildError::Sink { source, .. } => matches!(source, SinkError::Io { .. }),
        }
    }
}
