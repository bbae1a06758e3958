//! Bytes: what stands in the log and what goes between nodes.
//!
//! All of it is written by hand, little endian, so that no version of a library decides what a disk holds.

mod codec;
mod entry;
mod envelope;
mod message;

pub(crate) use codec::{Damaged, Reader, Writer};
pub(crate) use entry::{
    get_log_id, get_stored_membership, get_vote, put_log_id, put_stored_membership, put_vote,
    read_entry, write_entry,
};
pub(crate) use envelope::{Envelope, Refusal, RefusalKind, Reply};
pub(crate) use message::{Hello, HelloReply, SnapshotReply, decode, encode};
