//! Rows as they come out of pages.

use bytes::Bytes;
use proto::types::Epoch;
use state_client::page::{Run, merge_into};

/// A row of the shard, delete marks included: what is newer may lie above it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PageRow {
    /// Namespace.
    pub namespace: i64,
    /// Hash of the key.
    pub hash: u64,
    /// What tells rows of one hash apart.
    pub identity: Bytes,
    /// Epoch of the last change.
    pub epoch: Epoch,
    /// `None`: deleted in that epoch.
    pub value: Option<Bytes>,
}

/// Row `row` of an image.
pub(super) fn row_of(namespace: i64, image: &Run, row: usize) -> PageRow {
    PageRow {
        namespace,
        hash: image.hash(row),
        identity: image.identity_bytes(row),
        epoch: Epoch(image.epoch(row)),
        value: image.has_value(row).then(|| image.value_bytes(row)),
    }
}

/// One image of several, of rows with the same identity the newest.
pub(super) fn merged(mut images: Vec<Run>) -> Option<Run> {
    images.retain(|image| !image.is_empty());
    if images.len() < 2 {
        return images.pop();
    }
    let merged = merge_into(&images, false).finish();
    Some(Run::open(merged).expect("merge writes runs"))
}
