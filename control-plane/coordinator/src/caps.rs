//! Limits of the decisions: constants, not options.

/// Epochs of a job between barrier and commit. With one, epochs are committed in order by
/// construction, and a slow epoch delays the next barrier instead of queueing behind it.
pub const EPOCHS_IN_FLIGHT_MAX: usize = 1;

/// Checkpoints whose durations are remembered.
pub const CHECKPOINT_HISTORY_LEN: usize = 1024;

/// How long workers may take to make ready for another routing before it is given up.
pub const PREPARE_DEADLINE_US: u64 = 30_000_000;

/// How long a new leader waits for all workers of a job that runs, before it starts the job anew.
/// Longer than they may take to notice that the old leader is silent, and to find the new one.
pub const ADOPTION_PATIENCE_US: u64 = 6_000_000;

/// Tasks per fragment at most; the plan's key groups are the other bound.
pub const PARALLELISM_MAX: u32 = 1024;

/// Jobs that may run at once.
pub const JOBS_ACTIVE_MAX: usize = 256;

/// Jobs that have ended and are remembered.
pub const JOBS_ENDED_MAX: usize = 256;

/// Answers to requests that are remembered, for those that ask again.
pub const ANSWERS_REMEMBERED: usize = 1024;

/// Length of the windows that autoscaling measures. Seconds, since a change costs little.
pub const AUTOSCALE_WINDOW_US: u64 = 5_000_000;

/// What is measured for this long after a change is thrown away: caches fill, queues drain.
pub const AUTOSCALE_WARM_UP_US: u64 = 3_000_000;

/// Windows in a row that must ask for more tasks before they are given.
pub const AUTOSCALE_UP_WINDOWS: usize = 2;

/// Windows in a row that must do with fewer tasks before they are taken.
pub const AUTOSCALE_DOWN_WINDOWS: usize = 3;

/// Windows after a change that say whether it helped.
pub const AUTOSCALE_VERIFY_WINDOWS: usize = 2;

/// Half of the band around the target utilisation in which nothing is changed, as a part of it.
pub const AUTOSCALE_BAND: f64 = 0.05;

/// Rows that a task has beyond those of the others before they count as skew, as a part of them.
pub const AUTOSCALE_SKEW: f64 = 0.15;

/// Part of its time that a task with a hot key is meant to work at most: more tasks than others
/// need for its sake cost too much before that.
pub const AUTOSCALE_HOT_TARGET: f64 = 0.95;

/// Part of the throughput that a hot key allows at all, for which tasks are given.
pub const AUTOSCALE_HOT_GAIN: f64 = 0.8;

/// Part of its time that a task works and waits for state from which on it has no time left.
pub const AUTOSCALE_SATURATED: f64 = 0.9;

/// Part of its time that a source is held up from which on it falls behind.
pub const AUTOSCALE_BLOCKED_SHARE: f64 = 0.2;

/// Arriving rows that may wait before a source, in seconds of its arrival, without being a backlog.
pub const AUTOSCALE_LAG_ALLOWED_S: f64 = 1.0;

/// Part of the gain that a step promised which it must bring in order to be kept.
pub const AUTOSCALE_GAIN_MIN: f64 = 0.1;

/// Change of the arriving rows, as a part of them, from which on the load is another one, and what
/// did not help before may be tried again.
pub const AUTOSCALE_LOAD_CHANGE: f64 = 0.25;

/// How long a decision waits for room for its tasks.
pub const AUTOSCALE_CAPACITY_PATIENCE_US: u64 = 60_000_000;

/// How long a change of the parallelism may take before it counts as failed.
pub const AUTOSCALE_MOVE_PATIENCE_US: u64 = 60_000_000;

/// How long nothing is decided after a decision that could not be carried out.
pub const AUTOSCALE_HOLD_US: u64 = 30_000_000;

/// Decisions of a job that are remembered.
pub const AUTOSCALE_DECISIONS_MAX: usize = 64;

/// How often a job is looked at that follows its load.
pub const AUTOSCALE_SAMPLE_US: u64 = 1_000_000;

/// Copies of savepoints that may be under way at once.
pub const TRANSFERS_MAX: usize = 16;

/// Copies of savepoints that have ended and are remembered.
pub const TRANSFERS_ENDED_MAX: usize = 64;

/// Savepoints of one job.
pub const SAVEPOINTS_MAX: usize = 128;
