//! Limits of a worker.

/// Bytes that may wait in one channel between two tasks.
pub(crate) const EXCHANGE_CHANNEL_BYTES_MAX: usize = 2 << 20;
/// Parts of a batch below this share of the wanted rows are collected before they are sent.
pub(crate) const EXCHANGE_BATCH_SHARE: usize = 4;
/// Commands of the control plane that may wait.
pub(crate) const COMMANDS_MAX: usize = 1024;
/// Events for the control plane that may wait.
pub(crate) const EVENTS_MAX: usize = 4096;
/// Barriers that may wait in a task.
pub(crate) const TASK_COMMANDS_MAX: usize = 64;
/// Dead letters of a generation that may wait; further ones are counted only.
pub(crate) const DEAD_LETTERS_WAITING_MAX: usize = 1000;
/// Output that a job may owe before its sources wait: in sinks, staged, and not yet published.
pub(crate) const OUTPUT_BYTES_MAX: u64 = 128 << 20;
/// Pause after the first failed attempt to publish; doubles with each.
pub(crate) const PUBLISH_BACKOFF_MS: u64 = 50;
/// Longest pause between attempts to publish.
pub(crate) const PUBLISH_BACKOFF_MS_MAX: u64 = 10_000;
/// Commands of one job that may wait. The control plane has one epoch at a time under way.
pub(crate) const JOB_COMMANDS_MAX: usize = 64;

/// Bytes of output that a publisher reads from the state store at once, beside the rest of the
/// last epoch.
pub(crate) const PUBLISH_BYTES_MAX: usize = 8 << 20;
