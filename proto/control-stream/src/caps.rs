//! Limits of control streams.

use std::time::Duration;

use rpc::RetryPolicy;

/// Messages that wait for the network.
pub(crate) const OUTBOX_MESSAGES_MAX: usize = 8192;
/// Bytes of messages that wait for the network. Plans are the largest: some hundred KiB each.
pub(crate) const OUTBOX_BYTES_MAX: usize = 128 << 20;
/// Pauses between rounds in which no node of the control plane takes the stream. A process without a
/// leader has nothing else to do: it asks for as long as it lives.
pub(crate) const ROUND_PAUSES: RetryPolicy = RetryPolicy {
    attempts: u32::MAX,
    pause_min: Duration::from_millis(50),
    pause_max: Duration::from_millis(400),
};
/// How long a call beside the stream may take; callers ask for less.
pub(crate) const CALL_MAX: Duration = Duration::from_secs(120);
/// Time between two lines of the log that say that nobody takes the stream.
pub(crate) const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);
/// Bytes of a message beside what it carries.
pub(crate) const MESSAGE_OVERHEAD: usize = 64;
