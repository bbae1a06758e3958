//! Why a deployment cannot be started.

use engine::{operator::OperatorError, sink::SinkError, source::SourceError};
use proto::{control::Retry, plan::PlanError};

use crate::wiring::NoAddress;

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
    #[error(transparent)]
    NoAddress(#[from] NoAddress),
    #[error(
        "tasks of this job run on other workers, and this worker exchanges nothing with others"
    )]
    NoExchange,
    #[error("a panic: {0}")]
    Panic(String),
}

impl BuildError {
    /// Whether starting again may help.
    pub(crate) fn retry(&self) -> Retry {
        match self {
            BuildError::Operator { source, .. } => source.retry(),
            BuildError::Source {
                source: SourceError::Io { .. },
                ..
            }
            | BuildError::Sink {
                source: SinkError::Io { .. },
                ..
            } => Retry::IfItRan,
            // Another placement may do, or what is kept of another state.
            BuildError::NoAddress(_) | BuildError::NoExchange | BuildError::Panic(_) => {
                Retry::Always
            }
            BuildError::Plan(_) | BuildError::Source { .. } | BuildError::Sink { .. } => {
                Retry::Never
            }
        }
    }
}
