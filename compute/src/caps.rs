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
/// Attempts to publish an epoch's output before the job fails.
pub(crate) const PUBLISH_ATTEMPTS_MAX: u32 = 8;
/// Pause after the first failed attempt; doubles with each.
pub(crate) const PUBLISH_BACKOFF_MS: u64 = 50;
