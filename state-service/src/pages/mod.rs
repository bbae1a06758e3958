//! The page store of a shard: the committed rows of a contiguous range of key groups of one job,
//! in one SlateDB.
//!
//! ```text
//! flush: runs of committed epochs ──slice──▶ merge operands of pages ──▶ memtable ──▶ file
//! maintain: files ──compact──▶ sorted runs; pages that outgrew their size ──▶ deeper pages,
//!           heavy keys ──▶ chunks
//! read: layout + snapshot ──▶ images of pages ──▶ rows with their epochs
//! ```
//! - A page is all rows of a (key group, table, namespace) whose hashes begin alike. Flushes add
//!   to it without reading it; compaction and reads merge. Of a row the newest epoch wins, so a
//!   flush may be repeated.
//! - The durable epoch is written with the last rows of a flush. Only flushes cut the memtable,
//!   so after a crash either all or none of a flush is there.
//! - Delete marks go only where nothing older can lie: onto, or into, a base image. A page that
//!   is put holds all older rows of its keys.
//! - Compaction relies on the layout as of the last completed flush, never on a newer one.

mod cache;
mod checkpoint;
mod compact;
mod config;
mod copy;
#[cfg(test)]
mod differential_test;
mod error;
mod filter;
mod flush;
mod inspect;
mod kept;
mod kv;
mod layout;
mod maintain;
mod null_wal;
mod open;
mod operator;
mod read;
mod rewrite;
mod row;
mod scan;
mod slice;
mod store;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod view;
mod warm;

pub use cache::{PageCache, block_cache};
pub use checkpoint::Pins;
pub use config::{PageLimits, PageStoreConfig};
pub(crate) use copy::Record;
pub use error::PageError;
pub use flush::FlushBatch;
pub(crate) use inspect::{DatabaseView, RowFile, manifest_path, verify_rows};
pub(crate) use kept::KeptPages;
pub use open::Opened;
pub use row::PageRow;
pub use scan::PageScan;
pub(crate) use scan::cursor_after;
pub use store::{PageStats, PageStore};
