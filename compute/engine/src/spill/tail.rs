//! Records that are not written yet, in the order in which they came, and what they become: a piece in the
//! order of hashes, of which some are remembered, one for each page. So a record is found by its piece and its
//! hash, and nothing else needs to be known of it.

use std::ops::Range;

use bytes::Bytes;
use hashbrown::{HashTable, hash_table::Entry};

use super::record;

/// Odd.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Records on their way into one piece, no two of them with hashes that are known alike.
#[derive(Debug, Default)]
pub(super) struct Tail {
    bytes: Vec<u8>,
    /// Where records begin.
    starts: HashTable<u32>,
}

/// Records in the order of their hashes.
pub(super) struct Sealed {
    pub(super) bytes: Bytes,
    pub(super) records: u32,
    pub(super) pages: Pages,
}

/// Where in a piece to look for a hash: the upper half of the first hash of each page, and the byte at which
/// it begins.
#[derive(Debug, Default)]
pub(super) struct Pages(Box<[(u32, u32)]>);

fn table_hash(part: u64) -> u64 {
    part.wrapping_mul(FACTOR).rotate_left(32)
}

fn upper(hash: u64) -> u32 {
    (hash >> 32) as u32
}

impl Tail {
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends a record of this hash; `part` is what is known of a hash. One of which the same is known is not
    /// found any more: its hash, if it is another one. `false`: nothing is appended.
    pub(super) fn append(
        &mut self,
        hash: u64,
        part: impl Fn(u64) -> u64,
        write: impl FnOnce(&mut Vec<u8>) -> bool,
    ) -> (bool, Option<u64>) {
        let start = self.bytes.len();
        let written = write(&mut self.bytes);
        let bytes = &self.bytes;
        let hash_at = |start: &u32| record::hash_of(&bytes[*start as usize..]);
        let entry = self.starts.entry(
            table_hash(part(hash)),
            |start| part(hash_at(start)) == part(hash),
            |start| table_hash(part(hash_at(start))),
        );
        let before = match entry {
            Entry::Occupied(mut entry) if written => {
                Some(std::mem::replace(entry.get_mut(), start as u32))
            }
            Entry::Occupied(entry) => Some(entry.remove().0),
            Entry::Vacant(entry) if written => {
                entry.insert(start as u32);
                None
            }
            Entry::Vacant(_) => None,
        };
        let before = before.map(|start| hash_at(&start));
        (written, before.filter(|before| *before != hash))
    }

    /// The record of a hash.
    pub(super) fn find(&self, hash: u64, part: impl Fn(u64) -> u64) -> Option<&[u8]> {
        let hash_at = |start: &u32| record::hash_of(&self.bytes[*start as usize..]);
        let found = self
            .starts
            .find(table_hash(part(hash)), |start| hash_at(start) == hash);
        found.map(|start| self.record(*start as usize))
    }

    fn record(&self, start: usize) -> &[u8] {
        &self.bytes[start..start + record::length_of(&self.bytes[start..])]
    }

    /// Those records that are still wanted, in pages of about `page_bytes`; the tail is empty then. `None`: less
    /// than half of it is wanted, and nothing else is in it any more. `part` as for [`Tail::append`].
    pub(super) fn seal(
        &mut self,
        page_bytes: usize,
        part: impl Fn(u64) -> u64,
        wanted: impl Fn(u64) -> bool,
    ) -> Option<Sealed> {
        let hash_at = |start: &u32| (record::hash_of(&self.bytes[*start as usize..]), *start);
        let records = self.starts.iter().map(hash_at);
        let mut records: Vec<(u64, u32)> = records.filter(|(hash, _)| wanted(*hash)).collect();
        let length = |(_, start): &(u64, u32)| self.record(*start as usize).len();
        let bytes: usize = records.iter().map(length).sum();
        if bytes * 2 < self.bytes.len() {
            self.keep(records, part);
            return None;
        }
        records.sort_unstable();
        let mut sorted = Vec::with_capacity(bytes);
        let (mut pages, mut page_start, mut last) = (Vec::new(), 0, None);
        for (hash, start) in &records {
            let record = self.record(*start as usize);
            let upper = upper(*hash);
            let is_full = sorted.len() + record.len() > page_start + page_bytes;
            if last.is_none_or(|last| is_full && last != upper) {
                page_start = sorted.len();
                pages.push((upper, page_start as u32));
            }
            last = Some(upper);
            sorted.extend_from_slice(record);
        }
        self.clear();
        Some(Sealed {
            bytes: Bytes::from(sorted),
            records: records.len() as u32,
            pages: Pages(pages.into_boxed_slice()),
        })
    }

    /// Forgets all but these records, which are given by their hashes and where they begin.
    fn keep(&mut self, mut records: Vec<(u64, u32)>, part: impl Fn(u64) -> u64) {
        records.sort_unstable_by_key(|(_, start)| *start);
        self.starts.clear();
        let mut end = 0;
        for (hash, start) in records {
            let start = start as usize;
            let length = self.record(start).len();
            self.bytes.copy_within(start..start + length, end);
            let bytes = &self.bytes;
            let known = |start: &u32| table_hash(part(record::hash_of(&bytes[*start as usize..])));
            self.starts
                .insert_unique(table_hash(part(hash)), end as u32, known);
            end += length;
        }
        self.bytes.truncate(end);
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.starts.clear();
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity() + self.starts.allocation_size()
    }
}

impl Pages {
    /// The bytes among which the record of a hash is, of a piece of `bytes` bytes, if it is there.
    pub(super) fn find(&self, hash: u64, bytes: u32) -> Option<Range<u32>> {
        let after = self.0.partition_point(|(first, _)| *first <= upper(hash));
        let (_, start) = self.0.get(after.checked_sub(1)?)?;
        let end = self.0.get(after).map_or(bytes, |(_, start)| *start);
        Some(*start..end)
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        size_of_val(&*self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use proto::types::TableId;

    use super::*;

    fn part(hash: u64) -> u64 {
        hash >> 40
    }

    proptest! {
        #[test]
        fn of_what_is_known_alike_the_last_one_is_found(
            puts in prop::collection::vec((0..40_u64, 0..3_u64, 0..200_usize), 1..80),
            page_bytes in 1..2_000_usize,
            wanted_of_five in 0..6_u64,
        ) {
            let (mut tail, mut model) = (Tail::default(), BTreeMap::new());
            for (number, (upper, lower, length)) in puts.iter().enumerate() {
                let hash = upper << 40 | lower << 33;
                let value = vec![number as u8; *length];
                let rows = [(hash, (&b"k"[..], &value[..]))];
                let tables = [(TableId(1), &rows[..])];
                let write = |out: &mut Vec<u8>| record::write(hash, &tables, 180, out);
                let (written, other) = tail.append(hash, part, write);
                let before = match written {
                    true => model.insert(*upper, (hash, value)),
                    false => model.remove(upper),
                };
                let before = before.map(|(before, _)| before);
                prop_assert_eq!(other, before.filter(|before| *before != hash));
            }
            let value = |bytes: &Bytes, hash| {
                let tables = record::read(hash, bytes).expect("whole");
                tables[0].1[0].value.to_vec()
            };
            for upper in 0..40 {
                let expected = model.get(&upper);
                for hash in (0..3).map(|lower| upper << 40 | lower << 33) {
                    let found = tail.find(hash, part).map(Bytes::copy_from_slice);
                    let found = found.map(|found| value(&found, hash));
                    let expected = expected.filter(|(there, _)| *there == hash);
                    prop_assert_eq!(found.as_ref(), expected.map(|(_, value)| value));
                }
            }
            // All but some of them.
            let is_wanted = |hash: u64| (hash >> 40) % 5 < wanted_of_five;
            let wanted: Vec<_> = model.values().filter(|(hash, _)| is_wanted(*hash)).collect();
            let bytes = tail.len();
            let Some(sealed) = tail.seal(page_bytes, part, is_wanted) else {
                prop_assert_eq!(tail.starts.len(), wanted.len());
                prop_assert!(tail.len() * 2 < bytes);
                for (hash, expected) in model.values() {
                    let found = tail.find(*hash, part).map(Bytes::copy_from_slice);
                    let found = found.map(|found| value(&found, *hash));
                    prop_assert_eq!(found.as_ref(), is_wanted(*hash).then_some(expected));
                }
                return Ok(());
            };
            prop_assert_eq!((tail.len(), tail.starts.len()), (0, 0));
            prop_assert!(sealed.bytes.len() * 2 >= bytes);
            prop_assert_eq!(sealed.records as usize, wanted.len());
            for (hash, expected) in wanted {
                let page = sealed.pages.find(*hash, sealed.bytes.len() as u32).expect("a page");
                let page = sealed.bytes.slice(page.start as usize..page.end as usize);
                let found = record::find(*hash, &page).expect("there");
                prop_assert_eq!(&value(&Bytes::copy_from_slice(found), *hash), expected);
                prop_assert!(page.len() <= page_bytes || page.len() == found.len());
                let other = hash ^ (1 << 34);
                prop_assert_eq!(record::find(other, &page), None);
            }
        }
    }
}
