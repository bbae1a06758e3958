//! Which keys the store may have while memory has not, and in which piece of a scratch file each of them
//! is found ([`crate::spill`]). One table for both: where state is larger than memory there may be many times
//! as many such keys as others.
//!
//! The invariant that results rest on: a hash that was added is known ([`Elsewhere::may_have`]) until its keys
//! are loaded, or its key group is read or leaves as a whole. What becomes of scratch files changes nothing of
//! it: a place is forgotten, the hash is not. A table knows hashes only in part, which says yes in vain where
//! two are alike, and never no; so nothing is taken out of it. Few hashes are listed whole, and leave when their
//! keys are loaded: a key group of which nothing is elsewhere any more is resident again. When many keys of a
//! table are known to be gone, the group counts as unread until its keys have been listed anew.
//!
//! A key that goes is looked for in the store, whatever was known of a hash like its own, until it has been put
//! into a piece itself: an older record of it may lie in that of the other.

use std::collections::{BTreeMap, btree_map::Entry};

use proto::types::{KeyGroup, KeyGroupCount, KeyGroupSet};

use super::{
    pieces::{PieceId, Pieces, STORE},
    place_table::{PlaceTable, TAG_BITS},
};

/// More hashes of a key group are not listed one by one.
const LISTED_MAX: usize = 256;
/// What the list takes for each, about.
const LISTED_BYTES: usize = 18;
/// Keys of a group that are gone do not matter up to so many.
const GONE_MAX: u32 = 4096;
/// Keys that must be read before they can be worked on, by key group.
#[derive(Debug)]
pub struct Elsewhere {
    key_groups: KeyGroupCount,
    groups: Vec<Known>,
    /// Number of groups of which anything is elsewhere.
    partial: usize,
    /// Of them, those of which nothing is known.
    unread: usize,
    pieces: Pieces,
}

/// What is known of a key group: these hashes are elsewhere, and if it is unread, any may be.
#[derive(Debug, Default)]
struct Known {
    is_unread: bool,
    /// At first, and later those that the table has no room for.
    listed: BTreeMap<u64, u16>,
    table: PlaceTable,
    /// About so many keys of the table are neither in memory nor in the store.
    gone: u32,
}

impl Elsewhere {
    /// Nothing is elsewhere; or, of the groups that are owned, anything may be.
    pub(crate) fn new(key_groups: KeyGroupCount, owned: &KeyGroupSet, unread: bool) -> Elsewhere {
        let known = |group: KeyGroup| Known {
            is_unread: unread && owned.contains(group),
            ..Known::default()
        };
        let groups: Vec<Known> = key_groups.iter().map(known).collect();
        let unread = groups.iter().filter(|known| known.is_unread).count();
        Elsewhere {
            key_groups,
            groups,
            partial: unread,
            unread,
            pieces: Pieces::default(),
        }
    }

    /// Whether nothing is elsewhere.
    #[inline]
    pub(super) fn is_nothing(&self) -> bool {
        self.partial == 0
    }

    /// Number of groups of which nothing is known.
    pub(super) fn unread(&self) -> usize {
        self.unread
    }

    /// Whether nothing of a key group is elsewhere.
    pub(super) fn is_resident(&self, hash: u64) -> bool {
        self.known(hash).is_nothing()
    }

    /// Whether nothing is known of a key group.
    pub(super) fn is_unread(&self, group: KeyGroup) -> bool {
        self.groups[usize::from(group.0)].is_unread
    }

    /// Whether keys with this hash may be elsewhere; `in_vain`: they are in memory, or known to be absent.
    #[inline]
    pub(super) fn may_have(&self, hash: u64, in_vain: impl FnOnce() -> bool) -> bool {
        let known = self.known(hash);
        if known.listed.contains_key(&hash) {
            return true;
        }
        (known.is_unread || known.table.get(tag(hash, self.bits())).is_some()) && !in_vain()
    }

    /// Keys with this hash are in the store and not in memory.
    pub(crate) fn add(&mut self, hash: u64) {
        self.change(self.key_groups.of_hash(hash), |known, pieces, bits| {
            known.add(hash, STORE, bits, pieces);
        });
    }

    /// Keys with this hash have been read.
    pub(super) fn loaded(&mut self, hash: u64) {
        self.change(self.key_groups.of_hash(hash), |known, pieces, _| {
            pieces.leave(known.listed.remove(&hash).unwrap_or(STORE));
        });
    }

    /// Keys with this hash, which may have been elsewhere, do not exist.
    pub(super) fn gone(&mut self, hash: u64) {
        self.change(self.key_groups.of_hash(hash), |known, _, bits| {
            known.gone += u32::from(known.table.get(tag(hash, bits)).is_some());
            if known.gone > GONE_MAX && known.gone as usize > known.table.len() / 2 {
                (known.is_unread, known.gone) = (true, 0);
            }
        });
    }

    /// Nothing of a key group is elsewhere but keys with these hashes.
    pub(crate) fn narrow(&mut self, group: KeyGroup, hashes: impl Iterator<Item = u64>) {
        self.change(group, |known, pieces, bits| {
            let mut before = std::mem::take(known);
            for hash in hashes {
                let place = before.replace(hash, STORE, bits).unwrap_or(STORE);
                known.add(hash, place, bits, pieces);
            }
            before.places().for_each(|place| pieces.leave(place));
        });
    }

    /// Nothing is known of a key group any more.
    pub(crate) fn forget_group(&mut self, group: KeyGroup) {
        self.narrow(group, std::iter::empty());
        self.change(group, |known, _, _| known.is_unread = true);
    }

    /// In which piece keys with this hash may be found.
    pub(crate) fn piece(&self, hash: u64) -> Option<PieceId> {
        let known = self.known(hash);
        let listed = known.listed.get(&hash).copied();
        let place = listed.or_else(|| known.table.get(tag(hash, self.bits())));
        PieceId::of(place?)
    }

    /// Keys with this hash are found in a piece, if they are elsewhere.
    pub(crate) fn set_piece(&mut self, hash: u64, piece: PieceId) {
        let bits = self.bits();
        let known = &mut self.groups[usize::from(self.key_groups.of_hash(hash).0)];
        if let Some(before) = known.replace(hash, piece.0, bits) {
            self.pieces.leave(before);
            self.pieces.enter(piece);
        }
    }

    /// Keys with this hash are not looked for in a piece from now on; in which they were.
    pub(crate) fn take_piece(&mut self, hash: u64) -> Option<PieceId> {
        let bits = self.bits();
        let known = &mut self.groups[usize::from(self.key_groups.of_hash(hash).0)];
        let before = known.replace(hash, STORE, bits)?;
        self.pieces.leave(before);
        PieceId::of(before)
    }

    /// Some pieces are gone.
    pub(crate) fn forget_pieces(&mut self, gone: impl Fn(PieceId) -> bool) {
        let pieces = &mut self.pieces;
        let mut stay = |place: u16| match PieceId::of(place) {
            Some(piece) if gone(piece) => {
                pieces.leave(place);
                STORE
            }
            _ => place,
        };
        for known in &mut self.groups {
            known.table.change(&mut stay);
            let listed = known.listed.values_mut();
            listed.for_each(|place| *place = stay(*place));
        }
    }

    /// Number of hashes that are in a piece.
    pub(crate) fn live(&self, piece: PieceId) -> u32 {
        self.pieces.live(piece)
    }

    /// Whether at least so many hashes have left pieces since this was last true.
    pub(crate) fn have_left(&mut self, least: usize) -> bool {
        self.pieces.have_left(least)
    }

    /// What is known of a hash: others of which the same is known have the same place.
    pub(crate) fn part(&self, hash: u64) -> u64 {
        hash >> (u64::BITS - TAG_BITS - self.bits())
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        let known = self.groups.iter().map(Known::memory).sum::<usize>();
        known + self.pieces.memory()
    }

    /// Bits of a hash that say which key group it is of.
    #[inline]
    fn bits(&self) -> u32 {
        self.key_groups.count().ilog2()
    }

    #[inline]
    fn known(&self, hash: u64) -> &Known {
        &self.groups[usize::from(self.key_groups.of_hash(hash).0)]
    }

    /// Changes what is known of a key group.
    fn change(&mut self, group: KeyGroup, act: impl FnOnce(&mut Known, &mut Pieces, u32)) {
        let bits = self.bits();
        let known = &mut self.groups[usize::from(group.0)];
        self.partial -= usize::from(!known.is_nothing());
        self.unread -= usize::from(known.is_unread);
        act(known, &mut self.pieces, bits);
        self.partial += usize::from(!known.is_nothing());
        self.unread += usize::from(known.is_unread);
    }
}

/// What tables know of a hash, whose first `bits` bits all hashes of a table have in common.
#[inline]
fn tag(hash: u64, bits: u32) -> u64 {
    (hash << bits) >> (u64::BITS - TAG_BITS)
}

impl Known {
    #[inline]
    fn is_nothing(&self) -> bool {
        !self.is_unread && self.listed.is_empty() && self.table.is_empty()
    }

    /// Adds a hash with a place in which it is counted; that of a hash that is known is not known any more.
    fn add(&mut self, hash: u64, place: u16, bits: u32, pieces: &mut Pieces) {
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
    fn replace(&mut self, hash: u64, place: u16, bits: u32) -> Option<u16> {
        match self.listed.get_mut(&hash) {
            Some(before) => Some(std::mem::replace(before, place)),
            None => self.table.replace(tag(hash, bits), place),
        }
    }

    fn places(&self) -> impl Iterator<Item = u16> + '_ {
        self.listed.values().copied().chain(self.table.places())
    }

    fn memory(&self) -> usize {
        self.listed.len() * LISTED_BYTES + self.table.memory()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::key::mix;

    const GROUPS: u16 = 4;

    #[derive(Clone, Debug)]
    enum Step {
        Add(u64),
        /// As many as make a table of the list.
        AddMany(u64),
        Loaded(u64),
        SetPiece(u64, usize),
        TakePiece(u64),
        ForgetPieces(usize),
        /// Every so-manieth of those that are elsewhere still is.
        Narrow(u16, usize),
        ForgetGroup(u16),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        // Some are told from others only by bits that tables do not know.
        let hash = || {
            let upper = prop_oneof![0..40_u64, (0..1_000_u64).prop_map(|n| mix(n, 3) >> 24)];
            (upper, 0..3_u64).prop_map(|(upper, lower)| upper << 24 | lower | (upper & 3) << 62)
        };
        let step = prop_oneof![
            8 => hash().prop_map(Step::Add),
            1 => (0..8_u64).prop_map(Step::AddMany),
            4 => hash().prop_map(Step::Loaded),
            8 => (hash(), 0..5_usize).prop_map(|(hash, piece)| Step::SetPiece(hash, piece)),
            4 => hash().prop_map(Step::TakePiece),
            1 => (0..5_usize).prop_map(Step::ForgetPieces),
            1 => (0..GROUPS, 1..4_usize).prop_map(|(group, part)| Step::Narrow(group, part)),
            1 => (0..GROUPS).prop_map(Step::ForgetGroup),
        ];
        prop::collection::vec(step, 1..120)
    }

    fn key_groups() -> KeyGroupCount {
        KeyGroupCount::new(u32::from(GROUPS)).expect("a power of two")
    }

    /// What there is, against what is known of it.
    struct Harness {
        known: Elsewhere,
        elsewhere: BTreeSet<u64>,
        unread: BTreeSet<u16>,
        /// By hash, the piece that it was put into last, if that is known. Of hashes of which the same is known
        /// only the last one counts.
        pieces: BTreeMap<u64, PieceId>,
    }

    impl Harness {
        fn new(unread: bool) -> Harness {
            let all = KeyGroupSet::all(key_groups());
            Harness {
                known: Elsewhere::new(key_groups(), &all, unread),
                elsewhere: BTreeSet::new(),
                unread: (0..GROUPS).filter(|_| unread).collect(),
                pieces: BTreeMap::new(),
            }
        }

        fn group(hash: u64) -> u16 {
            key_groups().of_hash(hash).0
        }

        fn step(&mut self, step: Step) {
            match step {
                Step::Add(hash) => {
                    self.elsewhere.insert(hash);
                    self.known.add(hash);
                }
                Step::AddMany(seed) => {
                    let many = (0..u64::try_from(LISTED_MAX).expect("few")).map(|n| mix(n, seed));
                    let many = many.map(|hash| hash >> 2 | (seed & 3) << 62);
                    many.for_each(|hash| self.step(Step::Add(hash)));
                }
                Step::Loaded(hash) => {
                    self.elsewhere.remove(&hash);
                    self.known.loaded(hash);
                }
                Step::SetPiece(hash, piece) => {
                    let piece = PieceId::new(piece);
                    self.known.set_piece(hash, piece);
                    let part = self.known.part(hash);
                    self.pieces
                        .retain(|other, _| self.known.part(*other) != part);
                    self.pieces.insert(hash, piece);
                }
                Step::TakePiece(hash) => {
                    let taken = self.known.take_piece(hash);
                    let part = self.known.part(hash);
                    let piece = self
                        .pieces
                        .iter()
                        .find(|(hash, _)| self.known.part(**hash) == part);
                    assert!(
                        taken.is_none() || piece.is_some_and(|(_, piece)| taken == Some(*piece))
                    );
                    self.pieces.remove(&hash);
                }
                Step::ForgetPieces(number) => {
                    self.known.forget_pieces(|piece| piece.number() == number);
                    self.pieces.retain(|_, piece| piece.number() != number);
                }
                Step::Narrow(group, part) => {
                    let number = std::cell::Cell::new(0_usize);
                    self.elsewhere.retain(|hash| {
                        number.set(number.get() + 1);
                        Self::group(*hash) != group || number.get().is_multiple_of(part)
                    });
                    let of_group = self
                        .elsewhere
                        .iter()
                        .filter(|hash| Self::group(**hash) == group);
                    self.known.narrow(KeyGroup(group), of_group.copied());
                    self.unread.remove(&group);
                }
                Step::ForgetGroup(group) => {
                    self.known.forget_group(KeyGroup(group));
                    self.unread.insert(group);
                    self.elsewhere.retain(|hash| Self::group(*hash) != group);
                    self.pieces.retain(|hash, _| Self::group(*hash) != group);
                }
            }
        }

        fn check(&self) {
            for hash in &self.elsewhere {
                assert!(
                    self.known.may_have(*hash, || false),
                    "{hash:x} is taken for absent"
                );
            }
            let is_partial = |group: &u16| {
                self.unread.contains(group)
                    || self
                        .elsewhere
                        .iter()
                        .any(|hash| Self::group(*hash) == *group)
            };
            let partial = (0..GROUPS).filter(is_partial).count();
            assert!(self.known.partial >= partial && self.known.unread == self.unread.len());
            // Every place is counted, and no others.
            let mut live = BTreeMap::<u16, u32>::new();
            let places = self.known.groups.iter().flat_map(Known::places);
            places.for_each(|place| *live.entry(place).or_default() += 1);
            for number in 0..5 {
                let piece = PieceId::new(number);
                let counted = live.get(&piece.0).copied().unwrap_or(0);
                assert_eq!(self.known.live(piece), counted);
            }
        }
    }

    proptest! {
        /// Whatever becomes of places.
        #[test]
        fn what_is_elsewhere_is_never_taken_for_absent(steps in steps(), unread in any::<bool>()) {
            let mut harness = Harness::new(unread);
            for step in steps {
                harness.step(step);
                harness.check();
            }
        }
    }

    #[test]
    fn a_key_group_of_which_all_was_loaded_is_resident_again() {
        let mut harness = Harness::new(false);
        (0..100).for_each(|n| harness.step(Step::Add(n << 40)));
        assert!(!harness.known.is_nothing());
        (0..100).for_each(|n| harness.step(Step::Loaded(n << 40)));
        assert!(harness.known.is_nothing());
    }

    /// Of two that are known alike, one has come back with a newer record when its list becomes a table.
    #[test]
    fn a_key_that_goes_again_is_not_looked_for_where_it_was() {
        let [one, other] = [1, 2].map(|lower| 7 << 30 | lower);
        let [old, new] = [3, 4].map(PieceId::new);
        let mut harness = Harness::new(false);
        for hash in [one, other] {
            harness.step(Step::Add(hash));
            harness.known.set_piece(hash, old);
        }
        assert_eq!(harness.known.part(one), harness.known.part(other));
        harness.known.take_piece(other);
        harness.step(Step::Loaded(other));
        harness.step(Step::Add(other));
        harness.known.set_piece(other, new);
        harness.step(Step::AddMany(0));
        assert_ne!(harness.known.piece(other), Some(old));
        harness.check();
        // And in a table.
        harness.known.set_piece(one, old);
        harness.step(Step::Add(other));
        assert_eq!(harness.known.piece(other), None);
        harness.check();
    }

    #[test]
    fn keys_that_are_gone_do_not_take_memory_for_ever() {
        let all = KeyGroupSet::all(key_groups());
        let mut known = Elsewhere::new(key_groups(), &all, false);
        // In one group.
        let hash = |n: u64| mix(n, 5) >> 2;
        let mut most = 0;
        for round in 0..20 {
            let keys = || (round * 10_000..(round + 1) * 10_000).map(hash);
            keys().for_each(|hash| known.add(hash));
            // All but some are read, and deleted.
            keys().skip(100).for_each(|hash| known.gone(hash));
            if known.is_unread(KeyGroup(0)) {
                let rest = (0..=round).flat_map(|of| (of * 10_000..).map(hash).take(100));
                known.narrow(KeyGroup(0), rest);
            }
            most = most.max(known.memory());
        }
        assert!(most < 400_000, "{most} bytes");
        for round in 0..20 {
            let mut rest = (round * 10_000..).map(hash).take(100);
            assert!(rest.all(|hash| known.may_have(hash, || false)));
        }
    }

    #[test]
    fn a_key_takes_about_five_bytes_and_is_seldom_looked_for_in_vain() {
        for (keys, bytes_max) in [(1_000_000, 5.6), (3_000_000, 5.2)] {
            let all = KeyGroupSet::all(KeyGroupCount::DEFAULT);
            let mut known = Elsewhere::new(KeyGroupCount::DEFAULT, &all, false);
            for key in 0..keys {
                known.add(mix(key, 1));
                known.set_piece(mix(key, 1), PieceId::new(key as usize / 4096));
            }
            let bytes = known.memory() as f64 / keys as f64;
            let others = (keys..2 * keys).step_by(8);
            let others = others.filter(|key| known.may_have(mix(*key, 1), || false));
            let vain = others.count() as f64 * 8.0 / keys as f64;
            println!(
                "{keys} keys: {bytes:.2} bytes each, {:.3} % in vain",
                vain * 100.0
            );
            assert!(
                bytes < bytes_max,
                "{bytes:.2} bytes for each of {keys} keys"
            );
            assert!(vain < 0.001, "{vain} of others are looked for in vain");
            let mut keys = (0..keys).step_by(8);
            assert!(keys.all(|key| known.may_have(mix(key, 1), || false)));
        }
    }
}
