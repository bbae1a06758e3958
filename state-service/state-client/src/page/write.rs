//! Writes a run of rows that are all at hand in one go: every column at its place, without a copy in
//! between. What a [`super::RunBuilder`] makes of the same rows has the same bytes.

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    RowRef,
    layout::{
        ALL_VALUES, Columns, DELETE, HEADER_BYTES, IDENTITY_WIDTH, MAGIC, ONE_EPOCH, VALUE,
        VALUE_WIDTH, VERSION,
    },
};

/// What must be known of a column of byte strings before it is written.
#[derive(Default)]
struct Slices {
    bytes: usize,
    /// Of all so far.
    width: Option<usize>,
    varies: bool,
}

impl Slices {
    #[inline]
    fn add(&mut self, slice: &[u8]) {
        self.bytes += slice.len();
        self.varies |= *self.width.get_or_insert(slice.len()) != slice.len();
    }

    fn put_ends<'r>(&self, slices: impl Iterator<Item = &'r [u8]>, out: &mut BytesMut) {
        if !self.varies {
            out.put_u32_le(self.width.unwrap_or_default() as u32);
            return;
        }
        let mut end = 0;
        for slice in slices {
            end += slice.len();
            out.put_u32_le(end as u32);
        }
    }
}

/// The run of `rows` rows of one epoch, which come in (hash, identity) order.
#[must_use]
pub fn write_run<'r, I>(epoch: u64, rows: I) -> Bytes
where
    I: Iterator<Item = RowRef<'r>> + Clone,
{
    let (mut count, mut deleted) = (0, false);
    let (mut identities, mut values) = (Slices::default(), Slices::default());
    let value = |row: RowRef<'r>| row.value.unwrap_or_default();
    for row in rows.clone() {
        count += 1;
        deleted |= row.value.is_none();
        identities.add(row.identity);
        values.add(value(row));
    }
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    let flags = ONE_EPOCH
        | flag(!identities.varies, IDENTITY_WIDTH)
        | flag(!values.varies, VALUE_WIDTH)
        | flag(!deleted, ALL_VALUES);
    let bytes = Columns::new(flags, count).identities + identities.bytes + values.bytes;
    let mut out = BytesMut::with_capacity(bytes);
    out.put_u16_le(MAGIC);
    out.put_u8(VERSION);
    out.put_u8(flags);
    out.put_u32_le(count as u32);
    debug_assert_eq!(out.len(), HEADER_BYTES);
    rows.clone().for_each(|row| out.put_u64_le(row.hash));
    out.put_u64_le(epoch);
    if deleted {
        let kind = |row: RowRef<'_>| if row.value.is_none() { DELETE } else { VALUE };
        rows.clone().for_each(|row| out.put_u8(kind(row)));
    }
    identities.put_ends(rows.clone().map(|row| row.identity), &mut out);
    values.put_ends(rows.clone().map(value), &mut out);
    rows.clone().for_each(|row| out.put_slice(row.identity));
    rows.for_each(|row| out.put_slice(value(row)));
    debug_assert_eq!(out.len(), bytes);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::page::RunBuilder;

    proptest! {
        #[test]
        fn a_run_is_what_a_builder_makes(
            rows in vec((any::<u64>(), vec(any::<u8>(), 0..3), proptest::option::of(vec(any::<u8>(), 0..3))), 0..20),
            epoch in any::<u64>(),
        ) {
            let row = |(hash, identity, value): &'_ (u64, Vec<u8>, Option<Vec<u8>>)| {
                (*hash, identity.clone(), value.clone())
            };
            let rows: Vec<_> = rows.iter().map(row).collect();
            let refs = rows.iter().map(|(hash, identity, value)| RowRef {
                hash: *hash,
                identity,
                epoch,
                value: value.as_deref(),
            });
            let mut builder = RunBuilder::default();
            refs.clone().for_each(|row| builder.push(row));
            // No rows have no epoch.
            let epoch = if rows.is_empty() { 0 } else { epoch };
            prop_assert_eq!(write_run(epoch, refs), builder.finish());
        }
    }
}
