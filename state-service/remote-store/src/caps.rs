//! Limits of the worker's side that nobody needs to choose.

use std::time::Duration;

/// Reads, scans and requests for output under way to one node.
pub(crate) const READS_PER_NODE_MAX: usize = 256;
/// Deltas under way to one node.
pub(crate) const STAGES_PER_NODE_MAX: usize = 256;
/// Announcements under way to one node. Of a task that is not announced a node does not hear, and waits a
/// while for it.
pub(crate) const ANNOUNCEMENTS_PER_NODE_MAX: usize = 256;
/// What a delta may lose of its time per byte: slower networks are as good as broken.
pub(crate) const STAGE_BYTES_PER_SECOND_MIN: u64 = 2 << 20;
/// No call takes longer; each asks for less.
pub(crate) const CALL_MAX: Duration = Duration::from_secs(3600);
/// Who has tried in vain for so long says so.
pub(crate) const WARN_AFTER: Duration = Duration::from_secs(5);
