//! How far a copy of a shard is that is being taken in. There is none in a shard that is whole.
//!
//! Key `ff 05` · value: version u8 · parts u64.

use super::META;

pub(super) const KIND: u8 = 5;
const VERSION: u8 = 1;

/// So many parts of the copy are in the shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ImportProgress(pub(crate) u64);

impl ImportProgress {
    pub(crate) const KEY: [u8; 2] = [META, KIND];

    pub(crate) fn encode(self) -> Vec<u8> {
        let mut value = vec![VERSION];
        value.extend(self.0.to_le_bytes());
        value
    }

    pub(crate) fn decode(value: &[u8]) -> Option<ImportProgress> {
        let [VERSION, parts @ ..] = value else {
            return None;
        };
        Some(ImportProgress(u64::from_le_bytes(parts.try_into().ok()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::assert_cuts_refused, *};

    #[test]
    fn bytes_are_fixed() {
        let bytes = ImportProgress(258).encode();
        assert_eq!(bytes, [1, 2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(ImportProgress::KEY, [0xff, 5]);
        assert_eq!(ImportProgress::decode(&bytes), Some(ImportProgress(258)));
        assert_cuts_refused(&bytes, ImportProgress::decode);
    }
}
