//! The bytes of all rows of a hash: header, then table by table.
//!
//! ```text
//! length u32 · crc32 of what follows u32 · hash u64, all little endian · tables n
//! per table: id n · rows n · per row: identity length n · value length n · identity · value
//! ```
//! n: seven bits in each byte, the lowest first, and an eighth bit if more follow. Files do not outlive their
//! process: there is no version.

use bytes::{Buf as _, Bytes};
use proto::types::TableId;
use state_client::LoadedRow;

const LENGTH_BYTES: usize = 4;
const CRC_BYTES: usize = 4;
const HEAD_BYTES: usize = LENGTH_BYTES + CRC_BYTES;

/// A row: identity and value.
pub(super) type Row<'a> = (&'a [u8], &'a [u8]);

/// Rows by table, sorted by identity.
pub(super) type Tables = Vec<(TableId, Vec<LoadedRow>)>;

/// Appends a record, of each table its rows with their hash; `false`, and nothing is appended, if it is
/// longer than `bytes_max`.
pub(super) fn write(
    hash: u64,
    tables: &[(TableId, &[(u64, Row<'_>)])],
    bytes_max: usize,
    out: &mut Vec<u8>,
) -> bool {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD_BYTES]);
    out.extend_from_slice(&hash.to_le_bytes());
    put_number(tables.len() as u32, out);
    for (table, rows) in tables {
        put_number(table.0, out);
        put_number(rows.len() as u32, out);
        for (_, (identity, value)) in *rows {
            if out.len() - start + identity.len() + value.len() > bytes_max {
                out.truncate(start);
                return false;
            }
            put_number(identity.len() as u32, out);
            put_number(value.len() as u32, out);
            out.extend_from_slice(identity);
            out.extend_from_slice(value);
        }
    }
    if out.len() - start > bytes_max {
        out.truncate(start);
        return false;
    }
    let length = out.len() - start;
    let crc = crc32fast::hash(&out[start + HEAD_BYTES..]);
    out[start..start + LENGTH_BYTES].copy_from_slice(&(length as u32).to_le_bytes());
    out[start + LENGTH_BYTES..start + HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
    true
}

fn put_number(number: u32, out: &mut Vec<u8>) {
    let mut rest = number;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn take_number(rest: &mut Bytes) -> Option<u32> {
    let mut number = 0;
    for shift in (0..u32::BITS).step_by(7) {
        let byte = rest.try_get_u8().ok()?;
        number |= u32::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// The hash of a record that was written whole.
pub(super) fn hash_of(record: &[u8]) -> u64 {
    let hash = record.get(HEAD_BYTES..HEAD_BYTES + 8);
    hash.map_or(0, |mut hash| hash.get_u64_le())
}

/// The length of a record; 0 if there is none.
pub(super) fn length_of(record: &[u8]) -> usize {
    let length = record.get(..LENGTH_BYTES);
    length.map_or(0, |mut length| length.get_u32_le() as usize)
}

/// The record of a hash among others, not looked at further.
pub(super) fn find(hash: u64, bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let length = length_of(rest).max(HEAD_BYTES + 8);
        let (record, others) = rest.split_at_checked(length)?;
        if hash_of(record) == hash {
            return Some(record);
        }
        rest = others;
    }
    None
}

/// The first record in `bytes`: its hash and its length; `None` if it is damaged.
pub(super) fn peek(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut head = bytes.get(..HEAD_BYTES + 8)?;
    let length = head.get_u32_le() as usize;
    let crc = head.get_u32_le();
    let hash = head.get_u64_le();
    let checked = bytes.get(HEAD_BYTES..length)?;
    (crc32fast::hash(checked) == crc).then_some((hash, length))
}

/// The rows of a record; `None` if it is damaged, or that of another hash.
pub(super) fn read(hash: u64, bytes: &Bytes) -> Option<Tables> {
    let (found, _) = peek(bytes)?;
    if found != hash {
        return None;
    }
    let mut rest = bytes.slice(HEAD_BYTES + 8..);
    let count = take_number(&mut rest)?;
    let mut tables = Tables::new();
    for _ in 0..count {
        let table = TableId(take_number(&mut rest)?);
        let rows = take_number(&mut rest)?;
        let mut loaded = Vec::new();
        for _ in 0..rows {
            let identity = take_number(&mut rest)? as usize;
            let value = take_number(&mut rest)? as usize;
            if identity.checked_add(value)? > rest.len() {
                return None;
            }
            loaded.push(LoadedRow {
                namespace: 0,
                hash,
                identity: rest.split_to(identity),
                value: rest.split_to(value),
            });
        }
        tables.push((table, loaded));
    }
    Some(tables)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(hash: u64) -> Vec<u8> {
        let mut out = vec![0; 5];
        let rows: [(u64, Row<'_>); 2] = [(hash, (b"a", b"1")), (hash, (b"bc", b""))];
        let tables = [(TableId(3), &rows[..]), (TableId(4), &[])];
        assert!(write(hash, &tables, 1_000, &mut out), "short enough");
        out.split_off(5)
    }

    #[test]
    fn rows_come_back() {
        let bytes = Bytes::from(record(77));
        let tables = read(77, &bytes).expect("whole");
        let rows = |rows: &[LoadedRow]| -> Vec<(Vec<u8>, Vec<u8>)> {
            let row = |row: &LoadedRow| (row.identity.to_vec(), row.value.to_vec());
            rows.iter().map(row).collect()
        };
        assert_eq!(tables.len(), 2);
        assert_eq!(tables[0].0, TableId(3));
        let expected =
            [(&b"a"[..], &b"1"[..]), (b"bc", b"")].map(|(i, v)| (i.to_vec(), v.to_vec()));
        assert_eq!(rows(&tables[0].1), expected);
        assert_eq!((tables[1].0, tables[1].1.len()), (TableId(4), 0));
        assert_eq!(peek(&bytes), Some((77, bytes.len())));
    }

    #[test]
    fn another_hash_and_any_damage_is_noticed() {
        let record = record(77);
        assert!(read(78, &Bytes::from(record.clone())).is_none());
        for at in 0..record.len() {
            let mut bad = record.clone();
            bad[at] ^= 1;
            assert!(read(77, &Bytes::from(bad)).is_none(), "byte {at}");
            let cut = Bytes::copy_from_slice(&record[..at]);
            assert!(read(77, &cut).is_none(), "cut at {at}");
        }
    }

    #[test]
    fn numbers_of_any_size_come_back() {
        let mut out = Vec::new();
        let numbers = [0, 1, 127, 128, 300, 1 << 21, u32::MAX];
        numbers
            .iter()
            .for_each(|number| put_number(*number, &mut out));
        assert_eq!(out.len(), 1 + 1 + 1 + 2 + 2 + 4 + 5);
        let mut rest = Bytes::from(out);
        for number in numbers {
            assert_eq!(take_number(&mut rest), Some(number));
        }
        assert_eq!(take_number(&mut rest), None);
        assert_eq!(take_number(&mut Bytes::from_static(&[0xff; 6])), None);
    }

    #[test]
    fn a_record_is_found_among_others() {
        let bytes: Vec<u8> = (70..80).flat_map(record).collect();
        for hash in 70..80 {
            assert_eq!(find(hash, &bytes), Some(&*record(hash)));
        }
        assert_eq!(find(81, &bytes), None);
        // Whatever becomes of lengths, it ends.
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] = 0;
            let found = find(79, &bad);
            assert!(found.is_none_or(|found| found.len() >= HEAD_BYTES + 8));
        }
    }

    #[test]
    fn what_is_too_long_is_not_kept() {
        let value = [0; 100];
        let rows = [(1, (&b"a"[..], &value[..]))];
        let tables = [(TableId(1), &rows[..])];
        let mut out = Vec::new();
        assert!(!write(1, &tables, 100, &mut out));
        assert!(out.is_empty());
    }
}
