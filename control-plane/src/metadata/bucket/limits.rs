//! Limits of metadata in a bucket.

use std::time::Duration;

/// Commands that become one entry.
pub(super) const ENTRY_COMMANDS_MAX: usize = 512;
/// Bytes of commands that become one entry; a single one may have more.
pub(super) const ENTRY_BYTES_MAX: usize = 1 << 20;
/// Commands that wait for the entry before theirs.
pub(super) const PROPOSALS_MAX: usize = 1024;
/// Commands wait for others while so many KiB of them are on their way, each at least one.
pub(super) const PROPOSALS_KIB_MAX: usize = 64 << 10;
/// Objects that are read at the same time at the start.
pub(super) const READS_MAX: usize = 16;
/// Objects that are deleted with one request.
pub(super) const DELETES_MAX: usize = 500;
/// How often a request is made before the start is given up.
pub(super) const OPEN_ATTEMPTS_MAX: u32 = 6;
/// How often the log is read again because another process shortened it meanwhile.
pub(super) const OPEN_ROUNDS_MAX: u32 = 32;
/// Entries of another process that a start overtakes before it gives up.
pub(super) const OVERTAKEN_MAX: u64 = 1000;
/// Entries after which a snapshot that failed is tried again.
pub(super) const SNAPSHOT_AGAIN: u64 = 32;

/// Times and sizes; the defaults are for every user, others for tests.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BucketLimits {
    /// A command is answered within this time, whatever the store does.
    pub propose_max: Duration,
    /// One attempt of a request.
    pub attempt_max: Duration,
    /// First pause after a failed one; it doubles each time.
    pub pause: Duration,
    /// Longest pause.
    pub pause_max: Duration,
    /// A process that writes nothing looks this often whether another one has begun.
    pub look_every: Duration,
    /// Entries from one snapshot to the next.
    pub snapshot_entries: u64,
}

impl Default for BucketLimits {
    fn default() -> Self {
        BucketLimits {
            propose_max: Duration::from_secs(20),
            attempt_max: Duration::from_secs(10),
            pause: Duration::from_millis(50),
            pause_max: Duration::from_secs(2),
            look_every: Duration::from_secs(10),
            snapshot_entries: 256,
        }
    }
}
