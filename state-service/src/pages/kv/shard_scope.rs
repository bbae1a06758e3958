//! Which key groups a shard has. Written at its creation and checked at every open, because a
//! clone accepts writes outside of its part.
//!
//! Key `ff 00` · value: version u8 · key groups of the job u32 · first u32 · one past the last u32.

use proto::types::{KeyGroupCount, KeyGroupRange};

use super::META;

pub(super) const KIND: u8 = 0;
const VERSION: u8 = 1;

/// The shard's part of the job's key groups.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ShardScope {
    pub(crate) key_groups: KeyGroupCount,
    pub(crate) range: KeyGroupRange,
}

impl ShardScope {
    pub(crate) const KEY: [u8; 2] = [META, KIND];

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut value = vec![VERSION];
        value.extend(self.key_groups.count().to_le_bytes());
        value.extend(self.range.start.to_le_bytes());
        value.extend(self.range.end.to_le_bytes());
        value
    }

    pub(super) fn decode(value: &[u8]) -> Option<ShardScope> {
        let [VERSION, c0, c1, c2, c3, s0, s1, s2, s3, e0, e1, e2, e3] = *value else {
            return None;
        };
        let (start, end) = (
            u32::from_le_bytes([s0, s1, s2, s3]),
            u32::from_le_bytes([e0, e1, e2, e3]),
        );
        Some(ShardScope {
            key_groups: KeyGroupCount::new(u32::from_le_bytes([c0, c1, c2, c3]))?,
            range: KeyGroupRange { start, end },
        })
    }

    /// Hash bits that name the key group.
    pub(crate) fn bits(&self) -> u32 {
        self.key_groups.count().trailing_zeros()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    #[test]
    fn bytes_are_fixed() {
        let scope = ShardScope {
            key_groups: KeyGroupCount::DEFAULT,
            range: KeyGroupRange {
                start: 64,
                end: 128,
            },
        };
        let bytes = scope.encode();
        assert_eq!(bytes, [1, 0, 1, 0, 0, 64, 0, 0, 0, 128, 0, 0, 0]);
        assert_eq!(ShardScope::KEY, [0xff, 0]);
        assert_eq!(ShardScope::decode(&bytes), Some(scope));
        assert_cuts_refused(&bytes, ShardScope::decode);
    }
}
