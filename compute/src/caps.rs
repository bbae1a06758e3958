//! Limits of a worker.

use std::time::Duration;

/// Bytes that may wait in one channel between two tasks of a worker. Whoever takes them has a few
/// milliseconds of work with that, and a barrier waits for it.
pub(crate) const LOCAL_CHANNEL_BYTES_MAX: usize = 512 << 10;
/// Bytes that may wait in one channel between tasks of two workers, at either end.
pub(crate) const EXCHANGE_CHANNEL_BYTES_MAX: usize = 2 << 20;
/// Parts of a batch below this share of the wanted rows are collected before they are sent.
pub(crate) const EXCHANGE_BATCH_SHARE: usize = 4;
/// Commands of the control plane that may wait.
pub(crate) const COMMANDS_MAX: usize = 1024;
/// Events for the control plane that may wait.
pub(crate) const EVENTS_MAX: usize = 4096;
/// Barriers that may wait in a task.
pub(crate) const TASK_COMMANDS_MAX: usize = 64;
/// How long tasks may take to hand over what they hold when their generation ends.
pub(crate) const YIELD_MAX: Duration = Duration::from_secs(1);
/// Dead letters of a generation that may wait; further ones are counted only.
pub(crate) const DEAD_LETTERS_WAITING_MAX: usize = 1000;
/// Output that a job may owe before its sources wait: in sinks, staged, and not yet published.
pub(crate) const OUTPUT_BYTES_MAX: u64 = 128 << 20;
/// Memory of the rows of one table that is looked up, and of their index; three times as much for a moment
/// when it is read again.
pub(crate) const LOOKUP_BYTES_MAX: usize = 1 << 30;
/// How long a table that is looked up may take to be read.
pub(crate) const LOOKUP_READ_MAX: Duration = Duration::from_secs(600);
/// Pause after the first failed attempt to publish; doubles with each.
pub(crate) const PUBLISH_BACKOFF_MS: u64 = 50;
/// Longest pause between attempts to publish.
pub(crate) const PUBLISH_BACKOFF_MS_MAX: u64 = 10_000;
/// Commands of one job that may wait. The control plane has one epoch at a time under way.
pub(crate) const JOB_COMMANDS_MAX: usize = 64;

/// Bytes of output that a publisher reads from the state store at once, beside the rest of the
/// last epoch.
pub(crate) const PUBLISH_BYTES_MAX: usize = 8 << 20;
/// Bytes of a frame between workers: larger batches are cut, so that a channel never waits long
/// for the others' turn.
pub(crate) const FRAME_BYTES_MAX: usize = 4 << 20;
/// Rows of a frame between workers.
pub(crate) const FRAME_ROWS_MAX: usize = 1 << 20;
/// What a frame counts beyond its rows: an element costs memory however small it is.
pub(crate) const FRAME_OVERHEAD_BYTES: usize = 64;
/// How deep a type may nest.
pub(crate) const FRAME_TYPE_DEPTH_MAX: usize = 32;
/// Bytes that may be under way in one channel between workers.
pub(crate) const EXCHANGE_WINDOW_BYTES: usize = EXCHANGE_CHANNEL_BYTES_MAX;
/// Bytes beyond that which a channel may send for a barrier: what is queued before it goes with it.
pub(crate) const EXCHANGE_OVERDRAFT_BYTES_MAX: usize = 64 << 20;
/// Frames that are encoded and wait for the network, over all channels of a stream.
pub(crate) const EXCHANGE_FRAMES_WAITING_MAX: usize = 4;
/// Credits that wait for the network.
pub(crate) const EXCHANGE_CREDITS_WAITING_MAX: usize = 64;
/// How long the two ends of a stream wait for each other's deployment.
pub(crate) const EXCHANGE_OPEN_WAIT: Duration = Duration::from_secs(30);
/// Streams that may wait for this worker to start their generation.
pub(crate) const EXCHANGE_OPENS_WAITING_MAX: usize = 1024;
/// Pauses between attempts to reach a worker that does not answer yet.
pub(crate) const EXCHANGE_CONNECT_PAUSE: Duration = Duration::from_millis(50);
/// Longest of these pauses.
pub(crate) const EXCHANGE_CONNECT_PAUSE_MAX: Duration = Duration::from_secs(2);
/// How long a command may wait to be taken by the worker of the same process.
pub(crate) const COMMAND_TAKEN: Duration = Duration::from_secs(3);
/// News of records and sinks that are kept while there is no leader; further ones are not told.
pub(crate) const EVENTS_HELD_MAX: usize = 256;
/// How long tasks may take to stop before the process counts as hung.
pub(crate) const TASKS_STOP: Duration = Duration::from_secs(20);
/// Pause between two reports of what is measured.
pub(crate) const METRICS_INTERVAL: Duration = Duration::from_secs(1);
/// Bytes of rows of a SELECT that travel in one part.
pub(crate) const DELIVERY_PART_BYTES: usize = 1 << 20;
/// How long the leader may take to take rows: longer than it waits for room at the reader.
pub(crate) const DELIVERY_ANSWER: Duration = Duration::from_secs(15);
/// And for each MiB of them, on a slow network.
pub(crate) const DELIVERY_PER_MIB: Duration = Duration::from_millis(500);
/// Pause after a delivery that was not taken; doubled up to a limit.
pub(crate) const DELIVERY_PAUSE: Duration = Duration::from_millis(50);
/// Longest of these pauses.
pub(crate) const DELIVERY_PAUSE_MAX: Duration = Duration::from_secs(1);
