//! Limits of what travels between tiers.

use std::time::Duration;

/// Bytes of one message. Callers cut what may be larger.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Bytes of one part of what travels in parts.
pub const CHUNK_BYTES_MAX: usize = 4 << 20;
/// Bytes of an error's details: they travel in a header.
pub(crate) const DETAILS_BYTES_MAX: usize = 3 << 10;
/// Bytes of an error's text, for the same reason.
pub(crate) const ERROR_TEXT_BYTES_MAX: usize = 2 << 10;
/// Bytes that may be under way on one call.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// Bytes that may be under way on one connection.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Bytes of an HTTP/2 frame: large ones cost less.
pub(crate) const HTTP_FRAME_BYTES: u32 = 1 << 20;
/// Calls at a time on one connection.
pub(crate) const CALLS_PER_CONNECTION_MAX: u32 = 1024;
/// Pause between pings to a silent peer.
pub(crate) const PING_INTERVAL: Duration = Duration::from_secs(5);
/// A peer that leaves a ping unanswered for so long is gone.
pub(crate) const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long calls may go on when their server is told to stop.
pub(crate) const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);
