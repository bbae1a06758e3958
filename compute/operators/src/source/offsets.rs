//! What is saved of a split: `finished u8 · watermark i64 · offset bytes`, big endian.

use engine::Timestamp;

/// A split's place, as it stands in state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct SavedSplit {
    pub(super) finished: bool,
    pub(super) watermark: Timestamp,
    pub(super) offset: Vec<u8>,
}

impl SavedSplit {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.finished));
        out.extend_from_slice(&self.watermark.to_be_bytes());
        out.extend_from_slice(&self.offset);
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<SavedSplit> {
        let (finished, rest) = bytes.split_first()?;
        let (watermark, offset) = rest.split_first_chunk::<8>()?;
        Some(SavedSplit {
            finished: *finished != 0,
            watermark: Timestamp::from_be_bytes(*watermark),
            offset: offset.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_bytes() {
        let saved = SavedSplit {
            finished: true,
            watermark: -2,
            offset: b"17".to_vec(),
        };
        let mut bytes = Vec::new();
        saved.encode(&mut bytes);
        assert_eq!(
            bytes,
            [1, 255, 255, 255, 255, 255, 255, 255, 254, b'1', b'7']
        );
        assert_eq!(SavedSplit::decode(&bytes), Some(saved));
        assert_eq!(SavedSplit::decode(&bytes[..8]), None);
    }
}
