//! The epoch up to which the shard has everything.
//!
//! Key `ff 01` · value: version u8 · epoch u64.

use proto::types::Epoch;

use super::META;

pub(super) const KIND: u8 = 1;
const VERSION: u8 = 1;

/// Every committed epoch up to this one is in the shard. Written with the last rows of a flush.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DurableEpoch(pub(crate) Epoch);

impl DurableEpoch {
    pub(crate) const KEY: [u8; 2] = [META, KIND];

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut value = vec![VERSION];
        value.extend(self.0.0.to_le_bytes());
        value
    }

    pub(super) fn decode(value: &[u8]) -> Option<DurableEpoch> {
        let [VERSION, epoch @ ..] = value else {
            return None;
        };
        let epoch = epoch.try_into().ok()?;
        Some(DurableEpoch(Epoch(u64::from_le_bytes(epoch))))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    #[test]
    fn bytes_are_fixed() {
        let record = DurableEpoch(Epoch(0x0102));
        let bytes = record.encode();
        assert_eq!(bytes, [1, 2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(DurableEpoch::KEY, [0xff, 1]);
        assert_eq!(DurableEpoch::decode(&bytes), Some(record));
        assert_cuts_refused(&bytes, DurableEpoch::decode);
    }
}
