//! How long the sides of a stream wait for each other.

use std::time::Duration;

/// How long the sides of a stream wait for each other. Both sides must use the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamTiming {
    /// Pause between two signs of life.
    pub beat: Duration,
    /// How long a silent side counts as living.
    pub silence: Duration,
    /// How long a node may take to say whether it takes a stream, before another is asked.
    pub greeting: Duration,
    /// How long a worker may run its tasks without a word from any node of the control plane.
    pub lease: Duration,
}

impl Default for StreamTiming {
    fn default() -> Self {
        StreamTiming {
            beat: Duration::from_millis(750),
            silence: Duration::from_secs(3),
            greeting: Duration::from_millis(1500),
            lease: Duration::from_secs(10),
        }
    }
}
