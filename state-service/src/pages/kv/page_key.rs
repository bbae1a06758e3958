//! Key of a page: `key_group u16 · table u32 · namespace i64 (sign flipped) · depth u8 ·
//! prefix u32 · chunk u16`. The prefix is the hash bits below the key group's, at the top of the
//! u32, those beyond `depth` zero: so pages of one depth sort by hash.

use proto::types::{KeyGroup, TableId};

use super::{flipped, unflipped};

/// Bytes of an encoded page key.
pub(crate) const PAGE_KEY_BYTES: usize = 21;

/// The depth of chunks of hot keys; their prefix has all 32 bits.
pub(crate) const HOT_DEPTH: u8 = 0xff;

/// Key of a page.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct PageKey {
    pub(crate) key_group: KeyGroup,
    pub(crate) table: TableId,
    pub(crate) namespace: i64,
    pub(crate) depth: u8,
    pub(crate) prefix: u32,
    pub(crate) chunk: u16,
}

impl PageKey {
    pub(crate) fn encode(&self) -> [u8; PAGE_KEY_BYTES] {
        let mut key = [0; PAGE_KEY_BYTES];
        key[..2].copy_from_slice(&self.key_group.0.to_be_bytes());
        key[2..6].copy_from_slice(&self.table.0.to_be_bytes());
        key[6..14].copy_from_slice(&flipped(self.namespace).to_be_bytes());
        key[14] = self.depth;
        key[15..19].copy_from_slice(&self.prefix.to_be_bytes());
        key[19..].copy_from_slice(&self.chunk.to_be_bytes());
        key
    }

    /// `None` for a key that is not a page's.
    pub(crate) fn decode(key: &[u8]) -> Option<PageKey> {
        let key: &[u8; PAGE_KEY_BYTES] = key.try_into().ok()?;
        let [a, b, t0, t1, t2, t3, rest @ ..] = *key;
        let [
            n0,
            n1,
            n2,
            n3,
            n4,
            n5,
            n6,
            n7,
            depth,
            p0,
            p1,
            p2,
            p3,
            c0,
            c1,
        ] = rest;
        let key_group = u16::from_be_bytes([a, b]);
        (key_group < 0x8000).then(|| PageKey {
            key_group: KeyGroup(key_group),
            table: TableId(u32::from_be_bytes([t0, t1, t2, t3])),
            namespace: unflipped(u64::from_be_bytes([n0, n1, n2, n3, n4, n5, n6, n7])),
            depth,
            prefix: u32::from_be_bytes([p0, p1, p2, p3]),
            chunk: u16::from_be_bytes([c0, c1]),
        })
    }

    /// The first key of one depth of a namespace.
    pub(crate) fn first(key_group: KeyGroup, table: TableId, namespace: i64, depth: u8) -> PageKey {
        PageKey {
            key_group,
            table,
            namespace,
            depth,
            prefix: 0,
            chunk: 0,
        }
    }

    /// The last key of the depth.
    pub(crate) fn last(self) -> PageKey {
        PageKey {
            prefix: u32::MAX,
            chunk: u16::MAX,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::testing::*, *};

    #[test]
    fn bytes_are_fixed() {
        let key = PageKey {
            key_group: KEY_GROUP,
            table: TABLE,
            namespace: -2,
            depth: 7,
            prefix: 0x0a0b_0c0d,
            chunk: 0x0e0f,
        };
        let bytes = key.encode();
        let expected = [
            5, 6, 1, 2, 3, 4, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 7, 0x0a, 0x0b, 0x0c,
            0x0d, 0x0e, 0x0f,
        ];
        assert_eq!(bytes, expected);
        assert_eq!(PageKey::decode(&bytes), Some(key));
        assert_cuts_refused(&bytes, PageKey::decode);
        assert_eq!(PageKey::decode(&[0xff; PAGE_KEY_BYTES]), None);
    }

    proptest! {
        #[test]
        fn keys_sort_as_their_fields(
            a in (0..0x8000_u16, any::<u32>(), any::<i64>(), any::<u8>(), any::<u32>(), any::<u16>()),
            b in (0..0x8000_u16, any::<u32>(), any::<i64>(), any::<u8>(), any::<u32>(), any::<u16>()),
        ) {
            let key = |k: (u16, u32, i64, u8, u32, u16)| PageKey {
                key_group: KeyGroup(k.0),
                table: TableId(k.1),
                namespace: k.2,
                depth: k.3,
                prefix: k.4,
                chunk: k.5,
            };
            let (a, b) = (key(a), key(b));
            prop_assert_eq!(a.cmp(&b), a.encode().cmp(&b.encode()));
            prop_assert_eq!(PageKey::decode(&a.encode()), Some(a));
        }
    }
}
