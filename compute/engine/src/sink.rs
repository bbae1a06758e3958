//! What a sink connector implements.
//!
//! Exactly-once by staged output: rows are encoded as they come, handed over at the barrier as
//! bytes that are made durable with the epoch, and published outside after the epoch's commit,
//! once, by an idempotent step. Nothing is held open across a checkpoint.

use bytes::Bytes;
use futures::future::BoxFuture;
use proto::types::{Epoch, Generation};

use crate::ChangeBatch;

/// A sink of one table, as a plan describes it.
pub trait Sink: Send + Sync {
    /// A writer for one task.
    ///
    /// # Errors
    /// When the sink cannot be opened.
    fn writer(&self, task_index: usize) -> Result<Box<dyn SinkWriter>, SinkError>;

    /// The publisher of staged output; `None` for sinks whose writers emit at once.
    ///
    /// # Errors
    /// When the sink cannot be opened.
    fn publisher(&self) -> Result<Option<Box<dyn Publisher>>, SinkError>;
}

/// Takes one task's rows.
pub trait SinkWriter: Send {
    /// Encodes rows into the epoch's buffer, or emits them at once.
    ///
    /// # Errors
    /// When a row cannot be written; the job fails with the text.
    fn write(&mut self, batch: &ChangeBatch) -> Result<(), SinkError>;

    /// At a barrier: the output since the last one, to be staged; empty if there is none (or the
    /// writer emits at once).
    fn freeze(&mut self) -> Vec<u8>;

    /// Bytes that wait for the next barrier.
    fn buffered_bytes(&self) -> usize;
}

/// Output of one slot in one epoch: pieces of one task each, in task order.
#[derive(Clone, Debug)]
pub struct EpochOutput {
    /// Incarnation that made it.
    pub generation: Generation,
    /// Epoch that made it.
    pub epoch: Epoch,
    /// Publishing slot.
    pub slot: u32,
    /// What [`SinkWriter::freeze`] gave, task by task.
    pub pieces: Vec<Bytes>,
}

/// Writes committed output to the outside, epoch by epoch.
pub trait Publisher: Send + Sync {
    /// Publishes one slot's output of one epoch. Idempotent: called again for the same
    /// (generation, epoch, slot) after a crash, it changes nothing.
    fn publish(&mut self, output: EpochOutput) -> BoxFuture<'_, Result<(), SinkError>>;
}

/// Why a sink cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The outside world: disk full, broker away. May be retried.
    #[error("failed to write {what}: {cause}")]
    Io {
        /// What was written.
        what: String,
        /// The cause's text.
        cause: String,
    },
    /// The outside refuses, and will not change by itself: a path that is wrong, no permission.
    #[error("failed to write {what}: {cause}")]
    Refused {
        /// What was written.
        what: String,
        /// The cause's text, and what to do.
        cause: String,
    },
    /// A value that the format cannot express.
    #[error("failed to encode column `{column}`: {cause}")]
    Encode {
        /// Column.
        column: String,
        /// Why.
        cause: String,
    },
    /// The plan asks for what the connector cannot do.
    #[error("{0}")]
    Unsupported(String),
}
