//! One shard of one job on this node: what is committed and not flushed lies in a tail in memory,
//! what is flushed in pages.
//!
//! ```text
//! Committed(e) ─▶ sections of e ─▶ tail ──freeze──▶ frozen tail ──merge, flush──▶ pages
//! read: tail + frozen tail (one point) ─▶ laid over rows of the pages, the newest epoch wins
//! ```
//! - The tail and the pages hold committed epochs only: nothing is ever rolled back. Whatever fails,
//!   the shard is opened again and the log after its durable epoch replayed.
//! - A driver task per shard brings it from what it is to what orders say it should be, one step at
//!   a time; flushes run beside it.

mod driver;
mod fence;
mod flush;
mod kept;
mod place;
mod read;
mod replay;
mod runs;
mod scan;
#[expect(clippy::module_inception, reason = "the type this room is about")]
mod shard;
mod state;
mod tail;

pub(crate) use driver::drive;
pub(crate) use fence::{Fence, Verdict};
pub(crate) use kept::OpenedKept;
pub(crate) use place::{database_at, database_path, databases_folder};
pub(crate) use replay::{ReplayedTail, distinct_sections, page_config_of};
pub(crate) use shard::{Shard, ShardContext};
pub(crate) use state::{Commit, Kept, Load};
