//! Limits of control streams.

use std::time::Duration;

/// Messages that wait for the network.
pub(crate) const OUTBOX_MESSAGES_MAX: usize = 8192;
/// Bytes of messages that wait for the network. Plans are the largest: some hundred KiB each.
pub(crate) const OUTBOX_BYTES_MAX: usize = 128 << 20;
/// Pause after a round in which no node of the control plane took the stream; doubled up to a
/// limit.
pub(crate) const ROUND_PAUSE: Duration = Duration::from_millis(50);
/// Longest of these pauses.
pub(crate) const ROUND_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Time between two lines of the log that say that nobody takes the stream.
pub(crate) const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);
