//! How a key with very many rows is spread over chunks, by the leading 8 bytes of its rows'
//! identities. Chunks are at depth 0xff, so pages may split without touching them.
//!
//! Key `ff 03 · key group u16 · table u32 · namespace i64 (sign flipped) · prefix u32` ·
//! value: version u8 · hash u64 · bits u8 · next bits u8 · boundary u32.
//!
//! While it is spread wider, chunks from `boundary` on are at `next_bits` and those below at
//! `bits`; it goes down from the last chunk. Else both are the same.

use proto::types::{KeyGroup, TableId};

use super::{HOT_DEPTH, META, PageKey, flipped, unflipped};

pub(super) const KIND: u8 = 3;
const VERSION: u8 = 1;
/// Chunk numbers have 16 bits.
pub(crate) const CHUNK_BITS_MAX: u8 = 16;

/// Where the chunks of a hot key lie: one hot key for each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct HotSlot {
    pub(crate) key_group: KeyGroup,
    pub(crate) table: TableId,
    pub(crate) namespace: i64,
    pub(crate) prefix: u32,
}

/// A hot key and its chunks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct HotKey {
    pub(crate) hash: u64,
    pub(crate) bits: u8,
    pub(crate) next_bits: u8,
    pub(crate) boundary: u32,
}

impl HotSlot {
    pub(crate) fn key(&self) -> Vec<u8> {
        let mut key = vec![META, KIND];
        key.extend(self.key_group.0.to_be_bytes());
        key.extend(self.table.0.to_be_bytes());
        key.extend(flipped(self.namespace).to_be_bytes());
        key.extend(self.prefix.to_be_bytes());
        key
    }

    pub(super) fn decode(key: &[u8]) -> Option<HotSlot> {
        let key: &[u8; 18] = key.try_into().ok()?;
        let [g0, g1, t0, t1, t2, t3, namespace @ .., p0, p1, p2, p3] = *key;
        Some(HotSlot {
            key_group: KeyGroup(u16::from_be_bytes([g0, g1])),
            table: TableId(u32::from_be_bytes([t0, t1, t2, t3])),
            namespace: unflipped(u64::from_be_bytes(namespace)),
            prefix: u32::from_be_bytes([p0, p1, p2, p3]),
        })
    }

    /// The page of a chunk.
    pub(crate) fn page(&self, chunk: u16) -> PageKey {
        PageKey {
            key_group: self.key_group,
            table: self.table,
            namespace: self.namespace,
            depth: HOT_DEPTH,
            prefix: self.prefix,
            chunk,
        }
    }
}

impl HotKey {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut value = vec![VERSION];
        value.extend(self.hash.to_le_bytes());
        value.extend([self.bits, self.next_bits]);
        value.extend(self.boundary.to_le_bytes());
        value
    }

    pub(super) fn decode(value: &[u8]) -> Option<HotKey> {
        let value: &[u8; 15] = value.try_into().ok()?;
        let [VERSION, hash @ .., bits, next_bits, b0, b1, b2, b3] = *value else {
            return None;
        };
        let boundary = u32::from_le_bytes([b0, b1, b2, b3]);
        let valid = bits <= next_bits && next_bits <= CHUNK_BITS_MAX && boundary <= 1 << bits;
        valid.then_some(HotKey {
            hash: u64::from_le_bytes(hash),
            bits,
            next_bits,
            boundary,
        })
    }

    /// The chunk of rows whose identities begin with `lead`.
    pub(crate) fn chunk_of(&self, lead: u64) -> u16 {
        let at = |bits: u8| {
            if bits == 0 {
                0
            } else {
                (lead >> (64 - u32::from(bits))) as u32
            }
        };
        let coarse = at(self.bits);
        let chunk = if coarse >= self.boundary {
            at(self.next_bits)
        } else {
            coarse
        };
        chunk as u16
    }

    /// Whether it is being spread wider.
    pub(crate) fn is_moving(&self) -> bool {
        self.bits != self.next_bits
    }

    /// All chunks, in the order of their rows.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = u16> + use<> {
        let widened = u32::from(self.next_bits - self.bits);
        let fine = self.boundary << widened..1_u32 << self.next_bits;
        (0..self.boundary).chain(fine).map(|chunk| chunk as u16)
    }
}

/// Leading 8 bytes of an identity, zeros where it is shorter.
pub(crate) fn lead(identity: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let length = identity.len().min(8);
    bytes[..length].copy_from_slice(&identity[..length]);
    u64::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    #[test]
    fn bytes_are_fixed() {
        let slot = HotSlot {
            key_group: KEY_GROUP,
            table: TABLE,
            namespace: 0,
            prefix: 0x0a0b_0c0d,
        };
        let key = slot.key();
        let expected = [
            0xff, 3, 5, 6, 1, 2, 3, 4, 0x80, 0, 0, 0, 0, 0, 0, 0, 0x0a, 0x0b, 0x0c, 0x0d,
        ];
        assert_eq!(key, expected);
        assert_eq!(HotSlot::decode(&key[2..]), Some(slot));
        assert_cuts_refused(&key[2..], HotSlot::decode);
        let hot = HotKey {
            hash: 7,
            bits: 2,
            next_bits: 3,
            boundary: 3,
        };
        let value = hot.encode();
        assert_eq!(value, [1, 7, 0, 0, 0, 0, 0, 0, 0, 2, 3, 3, 0, 0, 0]);
        assert_eq!(HotKey::decode(&value), Some(hot));
        assert_cuts_refused(&value, HotKey::decode);
    }

    #[test]
    fn chunks_cover_identities_in_order_while_spreading() {
        for boundary in 0..=4 {
            let hot = HotKey {
                hash: 1,
                bits: 2,
                next_bits: 4,
                boundary,
            };
            let chunks: Vec<u16> = hot.chunks().collect();
            let mut seen: Vec<u16> = (0..64_u64).map(|i| hot.chunk_of(i << 58)).collect();
            seen.dedup();
            assert_eq!(seen, chunks, "boundary {boundary}");
        }
    }

    #[test]
    fn short_identities_lead_with_zeros_behind() {
        assert_eq!(lead(b""), 0);
        assert_eq!(lead(&[1]), 1 << 56);
        assert_eq!(lead(&[0, 0, 0, 0, 0, 0, 0, 9, 8]), 9);
    }
}
