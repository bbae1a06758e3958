//! What is saved of a split: `progress u8 · watermark i64 · place u32 · descriptor's length u32 ·
//! descriptor · offset`, big endian. With the descriptor a restart needs no new list of splits,
//! which may have become another one.

use engine::Timestamp;

/// How far a split has been read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    Unread,
    /// Up to this offset.
    Reading(Vec<u8>),
    Finished,
}

/// A split, as it stands in state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct SavedSplit {
    pub(super) progress: Progress,
    pub(super) watermark: Timestamp,
    /// Number among all of the table's.
    pub(super) place: u32,
    pub(super) descriptor: Vec<u8>,
}

impl SavedSplit {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(match self.progress {
            Progress::Unread => 0,
            Progress::Reading(_) => 1,
            Progress::Finished => 2,
        });
        out.extend_from_slice(&self.watermark.to_be_bytes());
        out.extend_from_slice(&self.place.to_be_bytes());
        let length = u32::try_from(self.descriptor.len()).expect("a descriptor is short");
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&self.descriptor);
        if let Progress::Reading(offset) = &self.progress {
            out.extend_from_slice(offset);
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<SavedSplit> {
        let (progress, rest) = bytes.split_first()?;
        let (watermark, rest) = rest.split_first_chunk()?;
        let (place, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (descriptor, offset) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        Some(SavedSplit {
            progress: match progress {
                0 => Progress::Unread,
                1 => Progress::Reading(offset.to_vec()),
                2 => Progress::Finished,
                _ => return None,
            },
            watermark: Timestamp::from_be_bytes(*watermark),
            place: u32::from_be_bytes(*place),
            descriptor: descriptor.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_bytes() {
        let offset = b"17".to_vec();
        for progress in [
            Progress::Unread,
            Progress::Reading(offset),
            Progress::Finished,
        ] {
            let saved = SavedSplit {
                progress,
                watermark: -2,
                place: 3,
                descriptor: b"d".to_vec(),
            };
            let mut bytes = Vec::new();
            saved.encode(&mut bytes);
            assert_eq!(SavedSplit::decode(&bytes), Some(saved));
            assert_eq!(SavedSplit::decode(&bytes[..16]), None);
            let body = [
                255, 255, 255, 255, 255, 255, 255, 254, 0, 0, 0, 3, 0, 0, 0, 1, b'd',
            ];
            assert_eq!(bytes[1..18], body);
        }
    }
}
