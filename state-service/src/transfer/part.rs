//! A part of a copy: records one after the other, and an end that says what they are.
//!
//! ```text
//! record: key length u16 · value length u32 · key · value
//! end:    kind u8 · last u8 · records u32 · key length u16 · last key · CRC-32 of all before u32
//!         · bytes of the end u32 · magic 8 bytes; numbers little endian
//! ```
//! From the end alone whoever goes on with a copy knows where.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::pages::Record;

const MAGIC: [u8; 8] = *b"mspart\0\x01";
/// The length of the end, and the magic.
pub(super) const TRAILER_BYTES: usize = 12;
/// What is read of a part in the hope that it holds the whole end.
pub(super) const END_READ_BYTES: u64 = 4 << 10;

/// What the records of a part are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Kind {
    /// What a shard knows of itself.
    Meta,
    /// Pages.
    Pages,
    /// Sections of the log, by epoch and number.
    Log,
}

impl Kind {
    fn of(byte: u8) -> Option<Kind> {
        [Kind::Meta, Kind::Pages, Kind::Log]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// What the end of a part says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct PartEnd {
    pub(super) kind: Kind,
    /// Whether it is the last part of its shard.
    pub(super) last: bool,
    pub(super) records: u32,
    /// Key of the last record; empty: there is none.
    pub(super) last_key: Bytes,
    /// Of everything before it.
    pub(super) crc32: u32,
}

/// A part that is being made.
pub(super) struct PartBuilder {
    kind: Kind,
    bytes: BytesMut,
    records: u32,
    last_key: Bytes,
}

impl PartBuilder {
    pub(super) fn new(kind: Kind) -> Self {
        PartBuilder {
            kind,
            bytes: BytesMut::new(),
            records: 0,
            last_key: Bytes::new(),
        }
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records == 0
    }

    pub(super) fn push(&mut self, key: Bytes, value: &Bytes) {
        self.bytes.reserve(6 + key.len() + value.len());
        self.bytes.put_u16_le(key.len() as u16);
        self.bytes.put_u32_le(value.len() as u32);
        self.bytes.put_slice(&key);
        self.bytes.put_slice(value);
        self.records += 1;
        self.last_key = key;
    }

    /// The part, and the checksum that its end carries.
    pub(super) fn finish(mut self, last: bool) -> (Bytes, PartEnd) {
        let start = self.bytes.len();
        self.bytes.put_u8(self.kind as u8);
        self.bytes.put_u8(u8::from(last));
        self.bytes.put_u32_le(self.records);
        self.bytes.put_u16_le(self.last_key.len() as u16);
        self.bytes.put_slice(&self.last_key);
        let crc32 = crc32fast::hash(&self.bytes);
        self.bytes.put_u32_le(crc32);
        let length = self.bytes.len() - start + TRAILER_BYTES;
        self.bytes.put_u32_le(length as u32);
        self.bytes.put_slice(&MAGIC);
        let end = PartEnd {
            kind: self.kind,
            last,
            records: self.records,
            last_key: self.last_key,
            crc32,
        };
        (self.bytes.freeze(), end)
    }
}

/// Reads the end of a part from its last bytes; `Err`: how many are needed, 0 if it is no part.
pub(super) fn read_end(bytes: &Bytes) -> Result<PartEnd, usize> {
    let at = bytes.len().checked_sub(TRAILER_BYTES).ok_or(0_usize)?;
    let mut trailer = bytes.slice(at..);
    let length = trailer.get_u32_le() as usize;
    if trailer[..] != MAGIC {
        return Err(0);
    }
    let start = bytes.len().checked_sub(length).ok_or(length)?;
    let mut end = bytes.slice(start..at);
    if end.len() < 12 {
        return Err(0);
    }
    let kind = Kind::of(end.get_u8()).ok_or(0_usize)?;
    let last = end.get_u8() != 0;
    let records = end.get_u32_le();
    let key = usize::from(end.get_u16_le());
    if end.len() != key + 4 {
        return Err(0);
    }
    let last_key = end.split_to(key);
    Ok(PartEnd {
        kind,
        last,
        records,
        last_key,
        crc32: end.get_u32_le(),
    })
}

/// Reads a whole part; `Err`: what is wrong with it.
pub(super) fn read(bytes: &Bytes) -> Result<(PartEnd, Vec<Record>), &'static str> {
    let end = read_end(bytes).map_err(|_| "it does not end as a part does")?;
    let own = 12 + end.last_key.len() + TRAILER_BYTES;
    let body = bytes.len() - own;
    let checked = bytes.len() - TRAILER_BYTES - 4;
    if crc32fast::hash(&bytes[..checked]) != end.crc32 {
        return Err("its checksum does not match");
    }
    let mut rest = bytes.slice(..body);
    let mut records = Vec::with_capacity(end.records as usize);
    while !rest.is_empty() {
        if rest.len() < 6 {
            return Err("a record is cut");
        }
        let (key, value) = (rest.get_u16_le() as usize, rest.get_u32_le() as usize);
        if rest.len() < key + value {
            return Err("a record is cut");
        }
        let key = rest.split_to(key);
        records.push((key, rest.split_to(value)));
    }
    if records.len() != end.records as usize {
        return Err("it has another number of records than it says");
    }
    Ok((end, records))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part() -> (Bytes, PartEnd) {
        let mut part = PartBuilder::new(Kind::Pages);
        part.push(Bytes::from_static(b"a"), &Bytes::from_static(b"one"));
        part.push(Bytes::from_static(b"bc"), &Bytes::new());
        part.finish(true)
    }

    #[test]
    fn bytes_are_fixed() {
        let (bytes, end) = part();
        let records = b"\x01\0\x03\0\0\0aone\x02\0\0\0\0\0bc";
        assert_eq!(bytes[..records.len()], records[..]);
        assert_eq!(bytes[records.len()..][..10], *b"\x01\x01\x02\0\0\0\x02\0bc");
        assert_eq!(bytes[bytes.len() - 12..], *b"\x1a\0\0\0mspart\0\x01");
        let (read, records) = read(&bytes).expect("a part");
        assert_eq!(read, end);
        assert_eq!(records.len(), 2);
        assert_eq!(read_end(&bytes), Ok(end));
    }

    #[test]
    fn the_end_is_enough_to_go_on() {
        let (bytes, end) = part();
        let tail = bytes.slice(bytes.len() - 26..);
        assert_eq!(read_end(&tail), Ok(end));
        assert_eq!(read_end(&tail.slice(1..)), Err(26), "so much is needed");
        assert_eq!(read_end(&Bytes::from_static(b"short")), Err(0));
    }

    #[test]
    fn any_cut_and_any_flipped_byte_is_noticed() {
        let (bytes, _) = part();
        for at in 0..bytes.len() {
            assert!(read(&bytes.slice(..at)).is_err(), "{at}");
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1;
            assert!(read(&damaged.into()).is_err(), "{at}");
        }
    }
}
