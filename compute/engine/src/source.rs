//! What a source connector implements. A source is replayable: it names its splits, and reads a
//! split again from any offset it once gave out.

use std::task::{Context, Poll};

use futures::future::BoxFuture;

use crate::ChangeBatch;

/// A source of one table, as a plan describes it: cheap to make, connects to nothing yet.
pub trait Source: Send + Sync {
    /// The splits there are now, in the order in which to read them. Called once in the life of a
    /// job: its restarts go on with the splits that its state knows. `parallelism` is a hint for
    /// sources that may cut as they like.
    fn splits(&self, parallelism: usize) -> BoxFuture<'_, Result<Vec<Split>, SourceError>>;

    /// How its splits are read.
    fn read_order(&self) -> ReadOrder {
        ReadOrder::Together
    }

    /// Opens a split at `offset` (a value of [`SplitReader::offset`]), or at its start.
    ///
    /// # Errors
    /// When the split cannot be opened; the text names it and says what to do.
    fn open(
        &self,
        split: &Split,
        offset: Option<&[u8]>,
    ) -> Result<Box<dyn SplitReader>, SourceError>;

    /// Rows of a split that nobody has open, from `offset` on: what [`SplitReader::lag_rows`] is of one
    /// that is read.
    fn lag_rows(&self, _split: &Split, _offset: Option<&[u8]>) -> Option<u64> {
        None
    }
}

/// How the splits of a table are read. Those that are not begun hold the watermark back: no row is
/// late because its split was read after another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadOrder {
    /// Shared out among the tasks, each of which reads its own all at once: they may never end.
    Together,
    /// Shared out among the tasks, each of which reads so many of its own at once, the first ones
    /// first: there may be many, and each ends.
    InTurns(usize),
    /// By one task, each to its end before the next: a row may change what an earlier split said.
    OneByOne,
}

/// The unit of parallel reading: a partition, a file, a range of numbers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Split {
    /// Stable name: the same data has the same id at every start.
    pub id: String,
    /// What the connector needs to open it.
    pub descriptor: Vec<u8>,
}

/// Reads one split in order.
pub trait SplitReader: Send {
    /// The next rows, at most about `max_rows`. Never an empty batch. After
    /// [`SplitEvent::Finished`] it is not polled again.
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        max_rows: usize,
    ) -> Poll<Result<SplitEvent, SourceError>>;

    /// Where reading goes on after the last batch that was returned: opening the split there
    /// gives exactly the rows that follow.
    fn offset(&self) -> Vec<u8>;

    /// Records that could not be read since the last call. The reader skips them and keeps at
    /// most a bounded number; `count` on the last one says how many were dropped beyond that.
    fn take_dead_letters(&mut self) -> Vec<DeadLetter> {
        Vec::new()
    }

    /// Rows that wait to be read, where the source can tell.
    fn lag_rows(&self) -> Option<u64> {
        None
    }
}

/// What a reader has next.
#[derive(Debug)]
pub enum SplitEvent {
    /// Rows.
    Batch(ChangeBatch),
    /// The end of a bounded split.
    Finished,
}

pub use proto::control::DeadLetter;

/// Why a source cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The outside world: file missing, broker away. The job may retry.
    #[error("failed to read {what}: {cause}")]
    Io {
        /// What was read.
        what: String,
        /// The cause's text.
        cause: String,
    },
    /// What is there cannot be read, and will not change by itself: a path that is wrong, a file
    /// that has gone.
    #[error("failed to read {what}: {cause}")]
    Refused {
        /// What was read.
        what: String,
        /// The cause's text, and what to do.
        cause: String,
    },
    /// A record is bad and the format says to fail on it.
    #[error("failed to read {split} at {position}: {cause}")]
    BadRecord {
        /// Split.
        split: String,
        /// Where in it.
        position: String,
        /// Why.
        cause: String,
    },
    /// The plan asks for what the connector cannot do.
    #[error("{0}")]
    Unsupported(String),
}
