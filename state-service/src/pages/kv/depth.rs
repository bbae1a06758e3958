//! How many hash bits below the key group's name a page of a (table, namespace).
//!
//! Key `ff 02 · table u32 · namespace i64 (sign flipped)` · value: version u8 · min u8 · max u8.

use proto::types::TableId;

use super::{META, flipped, unflipped};

pub(super) const KIND: u8 = 2;
const VERSION: u8 = 1;
/// Prefixes have 32 bits.
const DEPTH_MAX: u8 = 32;

/// Depths of the pages of a (table, namespace): new operands go to `max`; pages at `min` remain
/// until they are swept, and then both are the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DepthRecord {
    pub(crate) table: TableId,
    pub(crate) namespace: i64,
    pub(crate) min: u8,
    pub(crate) max: u8,
}

impl DepthRecord {
    pub(crate) fn key(table: TableId, namespace: i64) -> Vec<u8> {
        let mut key = vec![META, KIND];
        key.extend(table.0.to_be_bytes());
        key.extend(flipped(namespace).to_be_bytes());
        key
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        vec![VERSION, self.min, self.max]
    }

    pub(super) fn decode(key: &[u8], value: &[u8]) -> Option<DepthRecord> {
        let (table, namespace) = key.split_first_chunk::<4>()?;
        let [VERSION, min, max] = *value else {
            return None;
        };
        (min <= max && max <= DEPTH_MAX).then_some(DepthRecord {
            table: TableId(u32::from_be_bytes(*table)),
            namespace: unflipped(u64::from_be_bytes(namespace.try_into().ok()?)),
            min,
            max,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    #[test]
    fn bytes_are_fixed() {
        let record = DepthRecord {
            table: TABLE,
            namespace: 5,
            min: 3,
            max: 4,
        };
        let key = DepthRecord::key(TABLE, 5);
        assert_eq!(key, [0xff, 2, 1, 2, 3, 4, 0x80, 0, 0, 0, 0, 0, 0, 5]);
        assert_eq!(record.encode(), [1, 3, 4]);
        assert_eq!(DepthRecord::decode(&key[2..], &[1, 3, 4]), Some(record));
        assert_eq!(DepthRecord::decode(&key[2..], &[1, 4, 3]), None);
        assert_cuts_refused(&record.encode(), |value| {
            DepthRecord::decode(&key[2..], value)
        });
        assert_cuts_refused(&key[2..], |key| DepthRecord::decode(key, &[1, 3, 4]));
    }
}
