//! Reads: which rows a task asks for and what it gets.

use bytes::Bytes;
use proto::types::{Epoch, KeyGroup, TableId};

/// A batch of point reads in one key group range of one job.
#[derive(Clone, Debug)]
pub struct ReadRequest {
    /// Last committed epoch that may have touched what is read; the reply is at least as new.
    pub min_epoch: Epoch,
    /// What to read.
    pub keys: Vec<KeyRequest>,
}

/// All rows of one key, or those of it whose identity begins with a prefix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct KeyRequest {
    /// State table.
    pub table: TableId,
    /// Namespace (window end); 0: none.
    pub namespace: i64,
    /// 64-bit hash of the key.
    pub hash: u64,
    /// Leading 8 bytes (big endian) that the identities must have: the hash of their second part.
    pub sub: Option<u64>,
}

/// Rows by request, in the requests' order.
#[derive(Clone, Debug, Default)]
pub struct ReadReply {
    /// Rows of each request, sorted by identity; deleted rows are left out.
    pub rows: Vec<Vec<LoadedRow>>,
}

/// A committed row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LoadedRow {
    /// Namespace.
    pub namespace: i64,
    /// Hash of the key.
    pub hash: u64,
    /// What tells rows of one hash apart.
    pub identity: Bytes,
    /// The value.
    pub value: Bytes,
}

/// All rows of a table in some key groups, page by page.
#[derive(Clone, Debug)]
pub struct ScanRequest {
    /// As for [`ReadRequest`].
    pub min_epoch: Epoch,
    /// State table.
    pub table: TableId,
    /// Key group; a scan covers one.
    pub key_group: KeyGroup,
    /// One namespace only.
    pub namespace: Option<i64>,
    /// Where the last reply stopped; `None` at first.
    pub cursor: Option<Bytes>,
    /// About how many bytes a reply may have.
    pub bytes_max: usize,
}

/// A part of a scan.
#[derive(Clone, Debug, Default)]
pub struct ScanReply {
    /// Rows in (namespace, hash, identity) order, closed namespaces left out.
    pub rows: Vec<LoadedRow>,
    /// First open namespace, if any was closed.
    pub open_from: Option<i64>,
    /// Where to go on; `None` at the end.
    pub cursor: Option<Bytes>,
}

/// What a part of a scan amounts to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CountReply {
    /// Rows.
    pub rows: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Where to go on; `None` at the end.
    pub cursor: Option<Bytes>,
}

impl From<ScanReply> for CountReply {
    fn from(reply: ScanReply) -> CountReply {
        // Eight for the hash.
        let bytes = |row: &LoadedRow| 8 + row.identity.len() + row.value.len();
        CountReply {
            rows: reply.rows.len() as u64,
            bytes: reply.rows.iter().map(bytes).sum::<usize>() as u64,
            cursor: reply.cursor,
        }
    }
}
