//! Limits of what travels between tasks and state nodes.

/// Bytes of one part of what travels in parts; less than a call may have under way, so that the next
/// part is made while this one is read.
pub const PART_BYTES: usize = 1 << 20;
/// Keys of one read.
pub const READ_KEYS_MAX: usize = 4096;
/// Bytes of one reply of a scan, the last row aside.
pub const SCAN_BYTES_MAX: usize = 4 << 20;
/// Bytes of one answer with committed output, the last epoch aside.
pub const OUTPUT_BYTES_MAX: usize = 64 << 20;
/// Bytes of one message to a state node.
pub const REQUEST_BYTES_MAX: usize = 8 << 20;
/// What a row costs beside its bytes.
pub(crate) const ROW_BYTES: usize = 40;
