//! Namespaces of a (table, key group) below the mark are closed: hidden, then dropped.
//!
//! Key `ff 04 · key group u16 · table u32` · value: version u8 · first open namespace i64.

use proto::types::{KeyGroup, TableId};

use super::META;

pub(super) const KIND: u8 = 4;
const VERSION: u8 = 1;

/// The first namespace that is open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LowWaterMarkRecord {
    pub(crate) table: TableId,
    pub(crate) key_group: KeyGroup,
    pub(crate) open_from: i64,
}

impl LowWaterMarkRecord {
    pub(crate) fn key(&self) -> Vec<u8> {
        let mut key = vec![META, KIND];
        key.extend(self.key_group.0.to_be_bytes());
        key.extend(self.table.0.to_be_bytes());
        key
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut value = vec![VERSION];
        value.extend(self.open_from.to_le_bytes());
        value
    }

    pub(super) fn decode(key: &[u8], value: &[u8]) -> Option<LowWaterMarkRecord> {
        let (key_group, table) = key.split_first_chunk::<2>()?;
        let [VERSION, open_from @ ..] = value else {
            return None;
        };
        Some(LowWaterMarkRecord {
            table: TableId(u32::from_be_bytes(table.try_into().ok()?)),
            key_group: KeyGroup(u16::from_be_bytes(*key_group)),
            open_from: i64::from_le_bytes(open_from.try_into().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    #[test]
    fn bytes_are_fixed() {
        let record = LowWaterMarkRecord {
            table: TABLE,
            key_group: KEY_GROUP,
            open_from: -1,
        };
        let (key, value) = (record.key(), record.encode());
        assert_eq!(key, [0xff, 4, 5, 6, 1, 2, 3, 4]);
        assert_eq!(value, [1, 255, 255, 255, 255, 255, 255, 255, 255]);
        let decode = LowWaterMarkRecord::decode;
        assert_eq!(decode(&key[2..], &value), Some(record));
        assert_cuts_refused(&value, |cut| decode(&key[2..], cut));
        assert_cuts_refused(&key[2..], |cut| decode(cut, &value));
    }
}
