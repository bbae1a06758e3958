//! Rows that went from memory, kept at hand on a local disk.
//!
//! A read of the state store costs tens of microseconds and, on other machines, a way through the network;
//! one of a file that the system has in its cache costs two. So what an operator lets go of is written
//! to scratch files first, and looked for there before the store is asked. All of it may be lost at any
//! time: the store has every row. (The second level of RocksDB's or Flink's local state, without being
//! the state.)
//!
//! It is right because of three rules. Only rows that are as they are in the store go
//! ([`Evict`]), all of a hash together. Whatever is read is forgotten here: a key is in memory or here.
//! And what an epoch changes is forgotten when its delta is taken, which is before the epoch can be
//! committed and so before its rows can go again.
//!
//! In which piece the record of a hash is, the operator's index knows, in the table that tells it which keys
//! are not in memory: about five bytes for both ([`Elsewhere`]). In no piece there are two records of
//! hashes that the table cannot tell apart, so that what it names is the record that was put there last.
//!
//! ```text
//! evicted   rows by table, on their way out
//! record    the bytes of all rows of a hash
//! tail      records that are not written yet, and how one is found in the piece that they become
//! segments  files that are written piece by piece and given up as a whole
//! kept      what an operator has: put, take, forget
//! read      looks in files first, then asks the store
//! scratch   what files are, for those who have them
//! ```
//!
//! [`Evict`]: crate::state::Evict
//! [`Elsewhere`]: crate::state::Elsewhere

mod evicted;
mod kept;
mod read;
mod record;
mod scratch;
mod segments;
mod tail;

pub use evicted::Evicted;
pub use kept::Spill;
pub use read::SpilledRead;
pub use scratch::{FileId, MemoryScratch, NoScratch, Piece, Scratch, ScratchError};
