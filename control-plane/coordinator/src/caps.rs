//! Limits of the decisions: constants, not options.

/// Epochs of a job between barrier and commit. With one, epochs are committed in order by
/// construction, and a slow epoch delays the next barrier instead of queueing behind it.
pub const EPOCHS_IN_FLIGHT_MAX: usize = 1;

/// Failures within an interval that a job may be allowed at most: their times are remembered.
pub const FAILURES_REMEMBERED_MAX: usize = 1000;

/// Checkpoints whose durations are remembered.
pub const CHECKPOINT_HISTORY_LEN: usize = 1024;

/// How long workers may take to make ready for another routing before it is given up.
pub const PREPARE_DEADLINE_US: u64 = 30_000_000;

/// Tasks per fragment at most; the plan's key groups are the other bound.
pub const PARALLELISM_MAX: u32 = 1024;

/// Jobs that may run at once.
pub const JOBS_ACTIVE_MAX: usize = 256;

/// Jobs that have ended and are remembered.
pub const JOBS_ENDED_MAX: usize = 256;

/// Answers to requests that are remembered, for those that ask again.
pub const ANSWERS_REMEMBERED: usize = 1024;
