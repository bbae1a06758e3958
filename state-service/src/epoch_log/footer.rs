//! The footer of a log object: a list of what it holds and where, behind it a trailer.
//!
//! Trailer: footer length u32 · CRC-32 of the footer u32 · magic 8 bytes; little endian.

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message as _;
use proto::state::{LogFooter, LogRange};

const MAGIC: [u8; 8] = *b"mslog\0\0\x01";
const VERSION: u32 = 1;
pub(crate) const TRAILER_BYTES: usize = 16;

/// Why the end of an object is not a footer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum FooterError {
    #[error("the object does not end as one of the epoch log does")]
    Trailer,
    #[error("the footer's checksum does not match")]
    Checksum,
    #[error("the footer does not decode: {0}")]
    Header(String),
    #[error("the object has version {0}, this build reads {VERSION}")]
    Version(u32),
    #[error("the footer names bytes beyond the object's end")]
    Range,
}

/// Footer and trailer.
pub(crate) fn encode(footer: &LogFooter) -> Bytes {
    let footer = LogFooter {
        version: VERSION,
        ..footer.clone()
    };
    let mut out = BytesMut::with_capacity(footer.encoded_len() + TRAILER_BYTES);
    footer.encode(&mut out).expect("a buffer that grows");
    let (length, crc) = (out.len() as u32, crc32fast::hash(&out));
    out.put_u32_le(length);
    out.put_u32_le(crc);
    out.put_slice(&MAGIC);
    out.freeze()
}

/// How many bytes at the object's end are footer and trailer, by the object's last bytes.
pub(crate) fn length(end: &[u8]) -> Result<usize, FooterError> {
    let trailer = end
        .len()
        .checked_sub(TRAILER_BYTES)
        .and_then(|at| end.get(at..));
    match trailer {
        Some([a, b, c, d, _, _, _, _, magic @ ..]) if *magic == MAGIC => {
            Ok(u32::from_le_bytes([*a, *b, *c, *d]) as usize + TRAILER_BYTES)
        }
        _ => Err(FooterError::Trailer),
    }
}

/// Reads the footer of an object of `bytes` bytes from its last ones, which must hold it all.
pub(crate) fn decode(end: &[u8], bytes: u64) -> Result<LogFooter, FooterError> {
    let length = length(end)?;
    let start = end.len().checked_sub(length).ok_or(FooterError::Trailer)?;
    let (footer, trailer) = end[start..].split_at(length - TRAILER_BYTES);
    let crc = u32::from_le_bytes([trailer[4], trailer[5], trailer[6], trailer[7]]);
    if crc32fast::hash(footer) != crc {
        return Err(FooterError::Checksum);
    }
    let footer =
        LogFooter::decode(footer).map_err(|error| FooterError::Header(error.to_string()))?;
    if footer.version != VERSION {
        return Err(FooterError::Version(footer.version));
    }
    let payload = bytes.saturating_sub(length as u64);
    let fits = |range: &Option<LogRange>| {
        let end = range.and_then(|range| range.offset.checked_add(range.length));
        end.is_some_and(|end| end <= payload)
    };
    let sections = footer.sections.iter().map(|section| &section.range);
    let outputs = footer.outputs.iter().map(|output| &output.range);
    if !sections.chain(outputs).all(fits) {
        return Err(FooterError::Range);
    }
    Ok(footer)
}

#[cfg(test)]
mod tests {
    use proto::state::LogSection;

    use super::*;

    fn footer() -> LogFooter {
        LogFooter {
            version: VERSION,
            job: 1,
            generation: 2,
            epoch: 3,
            sections: vec![LogSection {
                task: 4,
                shard: 5,
                range: Some(LogRange {
                    offset: 0,
                    length: 10,
                    crc32: 7,
                }),
            }],
            outputs: Vec::new(),
        }
    }

    #[test]
    fn bytes_are_fixed() {
        let bytes = encode(&footer());
        let body = [
            8, 1, 16, 1, 24, 2, 32, 3, 42, 10, 8, 4, 16, 5, 26, 4, 16, 10, 24, 7,
        ];
        assert_eq!(bytes[..body.len()], body);
        assert_eq!(bytes[body.len()..][..4], [20, 0, 0, 0]);
        assert_eq!(bytes[bytes.len() - 8..], MAGIC);
        assert_eq!(decode(&bytes, 10 + bytes.len() as u64), Ok(footer()));
    }

    #[test]
    fn damage_is_noticed() {
        let bytes = encode(&footer());
        let whole = 10 + bytes.len() as u64;
        for length in 0..bytes.len() {
            assert!(
                decode(&bytes[bytes.len() - length..], whole).is_err(),
                "{length}"
            );
            assert!(decode(&bytes[..length], whole).is_err(), "{length}");
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1;
            assert!(decode(&damaged, whole).is_err(), "{at}");
        }
        assert_eq!(decode(&bytes, whole - 1), Err(FooterError::Range));
    }
}
