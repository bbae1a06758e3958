//! Limits of the control plane: constants, not options.

use std::time::Duration;

use proto::types::KeyGroupCount;

/// Tasks per part of a plan that runs in parallel: no more than there are key groups.
pub const PARALLELISM_MAX: u32 = KeyGroupCount::DEFAULT.count();

/// Jobs that have not ended.
pub use coordinator::caps::JOBS_ACTIVE_MAX;

/// Ended jobs that can still be looked at; the oldest go first.
pub use coordinator::caps::JOBS_ENDED_MAX;

/// Failures of a job that are remembered.
pub const EXCEPTIONS_MAX: usize = 32;

/// Characters of a job's name that is made from its statement.
pub const JOB_NAME_CHARS: usize = 80;

/// Jobs that are listed where nobody says how many.
pub const JOBS_LISTED: usize = 100;

/// Characters of a job's statement in a list of jobs.
pub const JOB_LIST_SQL_CHARS: usize = 200;

/// Records of a job that could not be read and are kept; all are counted.
pub const DEAD_LETTERS_MAX: usize = 1000;

/// Bytes of the body of a request.
pub const REQUEST_BYTES_MAX: usize = 1 << 20;

/// Bytes of the text of statements.
pub const SQL_BYTES_MAX: usize = 512 << 10;

/// Rows of a result that wait for its reader before its publisher does, and that a reader who
/// comes late can still see.
pub const RESULT_ROWS_MAX: usize = 100_000;

/// Bytes of rows that are kept of all SELECTs that have ended; the newest one's stay in any case.
pub const RESULT_BYTES_ENDED_MAX: usize = 256 << 20;

/// Rows that a reader takes at once.
pub const RESULT_CHUNK_ROWS: usize = 4096;

/// Requests that wait for the driver.
pub const REQUEST_QUEUE: usize = 256;

/// Time without rows after which a live result says that it is still there.
pub const RESULT_KEEP_ALIVE_MS: u64 = 15_000;

/// Checkpoints that are listed.
pub const CHECKPOINTS_LISTED: usize = 100;

/// How long a change that a user waits for is tried.
pub const PROPOSAL_PATIENCE: Duration = Duration::from_secs(10);

/// How long the end of a job is tried to be written down.
pub const END_PATIENCE: Duration = Duration::from_secs(600);
