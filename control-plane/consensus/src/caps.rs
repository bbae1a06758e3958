//! Limits. They are named here and nowhere else.

use std::time::Duration;

/// Bytes of one request between nodes.
pub const REQUEST_BYTES_MAX: usize = 1 << 20;
/// Bytes of a request that are not its payload: addresses, log ids, memberships.
pub(crate) const REQUEST_OVERHEAD_BYTES: usize = 16 << 10;
/// Bytes of one command.
pub const COMMAND_BYTES_MAX: usize = REQUEST_BYTES_MAX - REQUEST_OVERHEAD_BYTES - 1024;
/// Bytes of entries in one append request; a single entry always fits.
pub(crate) const APPEND_BYTES_MAX: usize = REQUEST_BYTES_MAX - REQUEST_OVERHEAD_BYTES;
/// Bytes of a snapshot in one request.
pub(crate) const SNAPSHOT_CHUNK_BYTES: u64 = (REQUEST_BYTES_MAX - REQUEST_OVERHEAD_BYTES) as u64;
/// Entries in one append request.
pub(crate) const APPEND_ENTRIES_MAX: u64 = 300;
/// Proposals wait for others while so many KiB of commands, each at least one, are on their way.
pub(crate) const PROPOSALS_KIB_MAX: usize = 16 << 10;
/// So many proposals wait for the entry before theirs.
pub(crate) const PROPOSALS_MAX: usize = 1024;
/// Commands that go into the log as one entry.
pub(crate) const ENTRY_COMMANDS_MAX: usize = 512;
/// A node that does not answer is tried again this often, a little earlier or later.
pub(crate) const RETRY: Duration = Duration::from_millis(250);
