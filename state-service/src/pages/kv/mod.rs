//! The keyspace of one shard: one file per kind of record, its bytes fixed by tests.
//!
//! ```text
//! key group (below 0x8000) …  page key      rows of a page: merge operands and base images
//! ff 00                       shard scope   which key groups the shard has, of how many
//! ff 01                       durable epoch all epochs up to it are in the shard
//! ff 02 …                     depth         hash bits per page of a (table, namespace)
//! ff 03 …                     hot key       how a key with many rows is spread over chunks
//! ff 04 …                     low-water mark namespaces of a (table, key group) below it are closed
//! ff 05                       progress      how far a copy is that is being taken in
//! ```
//! Keys are big endian, so that they sort as their fields do; values are little endian and begin
//! with a version.

mod depth;
mod durable_epoch;
mod hot_key;
mod import_progress;
mod low_water_mark;
mod page_key;
mod shard_scope;

pub(crate) use depth::DepthRecord;
pub(crate) use durable_epoch::DurableEpoch;
pub(crate) use hot_key::{CHUNK_BITS_MAX, HotKey, HotSlot, lead};
pub(crate) use import_progress::ImportProgress;
pub(crate) use low_water_mark::LowWaterMarkRecord;
pub(crate) use page_key::{HOT_DEPTH, PAGE_KEY_BYTES, PageKey};
pub(crate) use shard_scope::ShardScope;

/// First byte of every record that is not a page.
pub(crate) const META: u8 = 0xff;

/// A record other than a page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum MetaRecord {
    Scope(ShardScope),
    Durable(DurableEpoch),
    Depth(DepthRecord),
    Hot(HotSlot, HotKey),
    Mark(LowWaterMarkRecord),
    Progress(ImportProgress),
}

impl MetaRecord {
    /// Reads a record; `None` if its bytes are of another version or damaged.
    pub(crate) fn decode(key: &[u8], value: &[u8]) -> Option<MetaRecord> {
        let [META, kind, rest @ ..] = key else {
            return None;
        };
        match *kind {
            shard_scope::KIND => ShardScope::decode(value).map(MetaRecord::Scope),
            durable_epoch::KIND => DurableEpoch::decode(value).map(MetaRecord::Durable),
            depth::KIND => DepthRecord::decode(rest, value).map(MetaRecord::Depth),
            hot_key::KIND => {
                let slot = HotSlot::decode(rest)?;
                Some(MetaRecord::Hot(slot, HotKey::decode(value)?))
            }
            low_water_mark::KIND => LowWaterMarkRecord::decode(rest, value).map(MetaRecord::Mark),
            import_progress::KIND => ImportProgress::decode(value).map(MetaRecord::Progress),
            _ => None,
        }
    }
}

/// A namespace so that it sorts as an unsigned number.
pub(crate) fn flipped(namespace: i64) -> u64 {
    namespace as u64 ^ (1 << 63)
}

/// The inverse of [`flipped`].
pub(crate) fn unflipped(namespace: u64) -> i64 {
    (namespace ^ (1 << 63)) as i64
}

#[cfg(test)]
pub(crate) mod testing {
    use proto::types::{KeyGroup, TableId};

    pub(crate) const TABLE: TableId = TableId(0x0102_0304);
    pub(crate) const KEY_GROUP: KeyGroup = KeyGroup(0x0506);

    /// Every value that is cut short is refused.
    pub(crate) fn assert_cuts_refused<T>(bytes: &[u8], decode: impl Fn(&[u8]) -> Option<T>) {
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_none(), "{length} bytes");
        }
        let longer = [bytes, &[0]].concat();
        assert!(decode(&longer).is_none(), "one byte more");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_sort_as_numbers() {
        let numbers = [i64::MIN, -1, 0, 1, i64::MAX];
        assert!(numbers.map(flipped).is_sorted());
        assert_eq!(numbers.map(|n| unflipped(flipped(n))), numbers);
    }

    #[test]
    fn unknown_records_are_refused() {
        assert_eq!(MetaRecord::decode(&[META, 9], &[1]), None);
        assert_eq!(MetaRecord::decode(&[META], &[1]), None);
        assert_eq!(MetaRecord::decode(&[0, 0], &[1]), None);
    }
}
