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
pub(crate) const ROUND_PAUSE_MAX: Duration = Duration::from_millis(400);
/// How long a call beside the stream may take; callers ask for less.
pub(crate) const CALL_MAX: Duration = Duration::from_secs(120);
/// Time between two lines of the log that say that nobody takes the stream.
pub(crate) const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);
/// Bytes of a message beside what it carries.
pub(crate) const MESSAGE_OVERHEAD: usize = 64;
