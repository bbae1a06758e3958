//! Limits of the decisions: constants, not options.

/// Epochs of a job between barrier and commit. With one, epochs are committed in order by
/// construction, and a slow epoch delays the next barrier instead of queueing behind it.
pub const EPOCHS_IN_FLIGHT_MAX: usize = 1;

/// Wait before the first restart in a row; doubled for each further one.
pub const RESTART_DELAY_FIRST_US: u64 = 100_000;

/// Longest wait before a restart, jitter aside.
pub const RESTART_DELAY_MAX_US: u64 = 30_000_000;

/// Part of the wait, in percent, by which it is varied up and down.
pub const RESTART_JITTER_PERCENT: u64 = 20;

/// A generation that ran for this long wipes out the failures before it.
pub const RESTARTS_FORGOTTEN_AFTER_US: u64 = 600_000_000;

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
