//! What is known of one key group: which hashes are elsewhere, and at which place each is. See [`super::Elsewhere`].

use std::collections::{BTreeMap, btree_map::Entry};

use super::{
    pieces::{Pieces, STORE},
    place_table::{PlaceTable, TAG_BITS},
};

/// More hashes of a key group are not listed one by one.
pub(super) const LISTED_MAX: usize = 256;
/// What the list takes for each, about.
const LISTED_BYTES: usize = 18;
/// Keys of a group that are gone do not matter up to so many.
const GONE_MAX: u32 = 4096;

/// What is known of a key group: these hashes are elsewhere, and if it is unread, any may be.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) is_unread: bool,
    /// At first, and later those that the table has no room for.
    pub(super) listed: BTreeMap<u64, u16>,
    pub(super) table: PlaceTable,
    /// About so many keys of the table are neither in memory nor in the store.
    pub(super) gone: u32,
}

/// What tables know of a hash, whose first `bits` bits all hashes of a table have in common.
#[inline]
pub(super) fn tag(hash: u64, bits: u32) -> u64 {
    (hash << bits) >> (u64::BITS - TAG_BITS)
}

impl Known {
    #[inline]
    pub(super) fn is_nothing(&self) -> bool {
        !self.is_unread && self.listed.is_empty() && self.table.is_empty()
    }

    /// Adds a hash with a place in which it is counted; that of a hash that is known is not known any more.
    pub(super) fn add(&mut self, hash: u64, place: u16, bits: u32, pieces: &mut Pieces) {
        if !self.table.is_empty() {
            self.add_to_table(hash, place, bits, pieces);
            return;
        }
        self.list(hash, place, pieces);
        if self.listed.len() > LISTED_MAX {
            for (hash, place) in std::mem::take(&mut self.listed) {
                self.add_to_table(hash, place, bits, pieces);
            }
        }
    }

    fn add_to_table(&mut self, hash: u64, place: u16, bits: u32, pieces: &mut Pieces) {
        let tag = tag(hash, bits);
        if self.listed.contains_key(&hash) {
            self.list(hash, place, pieces);
        } else if let Some(before) = self.table.replace(tag, STORE) {
            pieces.leave(before);
            pieces.leave(place);
        } else if self.table.insert(tag, place).is_err() {
            self.listed.insert(hash, place);
        }
    }

    fn list(&mut self, hash: u64, place: u16, pieces: &mut Pieces) {
        match self.listed.entry(hash) {
            Entry::Occupied(mut entry) => {
                pieces.leave(entry.insert(STORE));
                pieces.leave(place);
            }
            Entry::Vacant(entry) => {
                entry.insert(place);
            }
        }
    }

    /// Changes the place of a hash, if it is known; what it was.
    pub(super) fn replace(&mut self, hash: u64, place: u16, bits: u32) -> Option<u16> {
        match self.listed.get_mut(&hash) {
            Some(before) => Some(std::mem::replace(before, place)),
            None => self.table.replace(tag(hash, bits), place),
        }
    }

    pub(super) fn places(&self) -> impl Iterator<Item = u16> + '_ {
        self.listed.values().copied().chain(self.table.places())
    }

    /// Places, those that are free among them.
    pub(super) fn room(&self) -> usize {
        self.listed.len() + self.table.room()
    }

    /// Forgets pieces that are gone.
    pub(super) fn forget_gone(&mut self, pieces: &mut Pieces) {
        self.table.change(|place| pieces.forget_gone(place));
        let listed = self.listed.values_mut();
        listed.for_each(|place| *place = pieces.forget_gone(*place));
    }

    pub(super) fn memory(&self) -> usize {
        self.listed.len() * LISTED_BYTES + self.table.memory()
    }

    /// Keys of a hash, which may have been elsewhere, do not exist.
    pub(super) fn went(&mut self, hash: u64, bits: u32) {
        self.gone += u32::from(self.table.get(tag(hash, bits)).is_some());
        if self.gone > GONE_MAX && self.gone as usize > self.table.len() / 2 {
            (self.is_unread, self.gone) = (true, 0);
        }
    }
}
