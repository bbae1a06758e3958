//! What connectors take from the shell that runs them.

use std::{fmt, io, sync::Arc};

use engine::clock::{Clock, Timer};
use proto::types::SinkId;

use crate::CollectTarget;

/// Where printed lines go.
pub trait LineWriter: Send + Sync {
    /// Writes whole lines, each with its line end, without mixing them with those of others.
    ///
    /// # Errors
    /// When the output is gone.
    fn write_lines(&self, lines: &[u8], standard_error: bool) -> io::Result<()>;
}

/// What sources are opened with.
#[derive(Clone)]
pub struct SourceContext {
    /// Event time of a generator's first event where the plan fixes none. Must be the same at
    /// every start of a job, or a replay would give other rows.
    pub base_time_ms: u64,
    /// Time, for sources that keep a rate.
    pub clock: Arc<dyn Clock>,
    /// Wakes them.
    pub timer: Arc<dyn Timer>,
}

/// What sinks are opened with.
#[derive(Clone)]
pub struct SinkContext {
    /// Number of tasks that write; `print` names them where there are several.
    pub parallelism: usize,
    /// A number of the job's that no other job has, of this process or another, and that stays
    /// the same at every start.
    pub run: u64,
    /// When the job was created, in ms since 1970.
    pub created_ms: u64,
    /// Which of the job's sinks it is.
    pub sink: SinkId,
    /// Takes the lines of `print`.
    pub print: Arc<dyn LineWriter>,
    /// Takes the rows of `collect`.
    pub collect: Arc<dyn CollectTarget>,
}

impl fmt::Debug for SourceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceContext")
            .field("base_time_ms", &self.base_time_ms)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SinkContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SinkContext")
            .field("parallelism", &self.parallelism)
            .finish_non_exhaustive()
    }
}
