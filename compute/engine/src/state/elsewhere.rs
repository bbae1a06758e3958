//! Which keys the store may have while memory has not, and in which piece of a scratch file each of them
//! is found ([`crate::spill`]). One table for both: where state is larger than memory there may be many times
//! as many such keys as others.
//!
//! The invariant that results rest on: a hash that was added is known ([`Elsewhere::may_have`]) until its keys
//! are loaded, or its key group is read or leaves as a whole. What becomes of scratch files changes nothing of
//! it: a place is forgotten, or names a piece that is gone, and the hash is known. A table knows hashes only in
//! part, which says yes in vain where two are alike, and never no; so nothing is taken out of it. Few hashes are
//! listed whole, and leave when their keys are loaded: a key group of which nothing is elsewhere any more is
//! resident again. When many keys of a table are known to be gone, the group counts as unread until its keys have
//! been listed anew.
//!
//! A key that goes is looked for in the store, whatever was known of a hash like its own, until it has been put
//! into a piece itself: an older record of it may lie in that of the other. And in a piece that a hash names there
//! is no record of another one of which the same is known: that one would be found by it when both have become
//! one place of a table.

use proto::types::{KeyGroup, KeyGroupCount, KeyGroupSet};

use super::{
    known::{Known, tag},
    pieces::{PieceId, Pieces, STORE},
    place_table::TAG_BITS,
};

/// Keys that must be read before they can be worked on, by key group.
#[derive(Debug)]
pub struct Elsewhere {
    key_groups: KeyGroupCount,
    pub(super) groups: Vec<Known>,
    /// Number of groups of which anything is elsewhere.
    partial: usize,
    /// Of them, those of which nothing is known.
    unread: usize,
    pub(super) pieces: Pieces,
    /// Key group of which the places are gone through next.
    pub(super) next_swept: usize,
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
            next_swept: 0,
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
    pub(crate) fn loaded(&mut self, hash: u64) {
        self.change(self.key_groups.of_hash(hash), |known, pieces, _| {
            pieces.leave(known.listed.remove(&hash).unwrap_or(STORE));
        });
    }

    /// Keys with this hash, which may have been elsewhere, do not exist.
    pub(super) fn gone(&mut self, hash: u64) {
        self.change(self.key_groups.of_hash(hash), |known, _, bits| {
            known.went(hash, bits);
        });
    }

    /// Nothing of a key group is elsewhere but keys with these hashes.
    pub(crate) fn narrow(&mut self, group: KeyGroup, hashes: impl Iterator<Item = u64>) {
        let mut hashes: Vec<u64> = hashes.collect();
        hashes.sort_unstable();
        self.change(group, |known, pieces, bits| {
            let mut before = std::mem::take(known);
            let of = |at: usize| hashes.get(at).map(|hash| tag(*hash, bits));
            for (at, hash) in hashes.iter().enumerate() {
                let mut place = before.replace(*hash, STORE, bits).unwrap_or(STORE);
                if of(at) == of(at + 1) || at > 0 && of(at) == of(at - 1) {
                    // It may be that of the other.
                    pieces.leave(place);
                    place = STORE;
                }
                known.add(*hash, place, bits, pieces);
            }
            for place in before.places() {
                pieces.leave(place);
            }
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
        self.pieces.at(place?)
    }

    /// Keys with this hash are found in a piece, if they are elsewhere. Of others of which the same is known no
    /// record is there, nor do they name it.
    pub(crate) fn set_piece(&mut self, hash: u64, piece: PieceId) {
        let bits = self.bits();
        let known = &mut self.groups[usize::from(self.key_groups.of_hash(hash).0)];
        if let Some(before) = known.replace(hash, piece.place(), bits) {
            self.pieces.leave(before);
            self.pieces.enter(piece);
        }
    }

    /// Keys with this hash are not looked for in a piece from now on; in which they were.
    pub(crate) fn take_piece(&mut self, hash: u64) -> Option<PieceId> {
        let bits = self.bits();
        let known = &mut self.groups[usize::from(self.key_groups.of_hash(hash).0)];
        let before = known.replace(hash, STORE, bits)?;
        self.pieces.leave(before)
    }

    /// No key is put into a piece any more, and its records have about so many bytes.
    pub(crate) fn end_piece(&mut self, piece: PieceId, record_bytes: u32) {
        self.pieces.end(piece, record_bytes);
    }

    /// The file in a slot is given up, and these are all its pieces.
    pub(crate) fn give_up(&mut self, file: u16, pieces: &[PieceId]) {
        self.pieces.give_up(file, pieces);
    }

    /// Number of hashes that are in a piece.
    pub(crate) fn live(&self, piece: PieceId) -> u32 {
        self.pieces.live(piece)
    }

    /// Number of hashes that are in a file.
    #[cfg(test)]
    pub(crate) fn live_in(&self, file: u16) -> u64 {
        self.pieces.live_in(file)
    }

    /// Bytes of a file that are wanted, about, but for its last piece if that has not ended.
    pub(crate) fn wanted_in(&self, file: u16) -> u64 {
        self.pieces.wanted_in(file)
    }

    /// The same for all files.
    pub(crate) fn wanted_bytes(&self) -> u64 {
        self.pieces.wanted_bytes()
    }

    /// Files of which nothing is wanted any more.
    pub(crate) fn emptied(&self) -> impl Iterator<Item = u16> + '_ {
        self.pieces.emptied()
    }

    /// Fewer pieces can be named.
    #[cfg(test)]
    pub(crate) fn limit_pieces(&mut self, count_max: usize) {
        self.pieces.limit(count_max);
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

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::{key::mix, state::known::LISTED_MAX};

    const GROUPS: u16 = 4;
    const FILES: u16 = 3;

    #[derive(Clone, Debug)]
    enum Step {
        Add(u64),
        /// As many as make a table of the list.
        AddMany(u64),
        Loaded(u64),
        /// Into the newest piece of a file.
        SetPiece(u64, u16),
        TakePiece(u64),
        BeginPiece(u16),
        /// The newest piece of a file, with bytes for each record.
        EndPiece(u16, u32),
        GiveUp(u16),
        /// Goes through the places of a key group.
        Sweep,
        /// Every so-manieth of those that are elsewhere still is.
        Narrow(u16, usize),
        ForgetGroup(u16),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        // Some are told from others only by bits that tables do not know.
        let hash = || {
            let upper = prop_oneof![
                0..2_u64,
                0..40_u64,
                (0..1_000_u64).prop_map(|n| mix(n, 3) >> 24)
            ];
            (upper, 0..3_u64).prop_map(|(upper, lower)| upper << 24 | lower | (upper & 3) << 62)
        };
        let step = prop_oneof![
            8 => hash().prop_map(Step::Add),
            1 => (0..8_u64).prop_map(Step::AddMany),
            4 => hash().prop_map(Step::Loaded),
            12 => (hash(), 0..FILES).prop_map(|(hash, file)| Step::SetPiece(hash, file)),
            4 => hash().prop_map(Step::TakePiece),
            6 => (0..FILES).prop_map(Step::BeginPiece),
            2 => (0..FILES, 0..99_u32).prop_map(|(file, bytes)| Step::EndPiece(file, bytes)),
            1 => (0..FILES).prop_map(Step::GiveUp),
            1 => Just(Step::Sweep),
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
        /// By piece and what is known of hashes: the hash whose record was put there last, and which one it was.
        records: BTreeMap<(PieceId, u64), (u64, usize)>,
        /// By hash, its last record, if that is not out of date.
        newest: BTreeMap<u64, usize>,
        puts: usize,
        /// Pieces of each file, with the bytes of their records.
        files: BTreeMap<u16, Vec<(PieceId, u32)>>,
        pieces_max: usize,
    }

    impl Harness {
        fn new(unread: bool, pieces_max: usize) -> Harness {
            let all = KeyGroupSet::all(key_groups());
            let mut known = Elsewhere::new(key_groups(), &all, unread);
            known.limit_pieces(pieces_max);
            Harness {
                known,
                elsewhere: BTreeSet::new(),
                unread: (0..GROUPS).filter(|_| unread).collect(),
                records: BTreeMap::new(),
                newest: BTreeMap::new(),
                puts: 0,
                files: BTreeMap::new(),
                pieces_max,
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
                Step::SetPiece(hash, file) => {
                    let newest = self.files.get(&file).and_then(|pieces| pieces.last());
                    let Some((piece, 0)) = newest.copied() else {
                        return;
                    };
                    self.puts += 1;
                    let place = (piece, self.known.part(hash));
                    let before = self.records.insert(place, (hash, self.puts));
                    if let Some((other, _)) = before.filter(|(other, _)| *other != hash) {
                        self.known.take_piece(other);
                    }
                    self.newest.insert(hash, self.puts);
                    self.known.set_piece(hash, piece);
                }
                Step::TakePiece(hash) => self.take(hash),
                Step::BeginPiece(file) => self.begin(file),
                Step::EndPiece(file, bytes) => {
                    let newest = self
                        .files
                        .get_mut(&file)
                        .and_then(|pieces| pieces.last_mut());
                    if let Some((piece, record_bytes @ 0)) = newest {
                        self.known.end_piece(*piece, bytes);
                        *record_bytes = bytes;
                    }
                }
                Step::GiveUp(file) => {
                    let pieces = self.files.remove(&file).unwrap_or_default();
                    let pieces: Vec<PieceId> = pieces.into_iter().map(|(piece, _)| piece).collect();
                    self.known.give_up(file, &pieces);
                    self.records.retain(|(piece, _), _| !pieces.contains(piece));
                }
                Step::Sweep => drop(self.known.sweep_group()),
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
                }
            }
        }

        /// The record of a hash is taken; it is out of date from then on.
        fn take(&mut self, hash: u64) {
            let newest = self.newest.remove(&hash);
            let Some(piece) = self.known.take_piece(hash) else {
                return;
            };
            let mut there = self.files.values().flatten();
            assert!(there.any(|(there, _)| *there == piece), "it is gone");
            let record = self.records.get(&(piece, self.known.part(hash)));
            // Or that of another one, which is noticed.
            if let Some((_, number)) = record.filter(|(of, _)| *of == hash) {
                assert_eq!(
                    Some(*number),
                    newest,
                    "a record of {hash:x} that is out of date"
                );
            }
        }

        fn begin(&mut self, file: u16) {
            let there = self.files.values().flatten().count();
            let piece = self.known.begin_piece(file);
            let reserved = self.pieces_max / 8;
            assert_eq!(piece.is_some(), there < self.pieces_max - reserved);
            let Some(piece) = piece else { return };
            assert!(piece.number() < self.pieces_max);
            let others = self.files.values().flatten();
            assert!(others.clone().all(|(other, _)| *other != piece));
            self.files.entry(file).or_default().push((piece, 0));
            let named = self.named().contains_key(&piece.place());
            assert!(!named, "what is gone goes on being named");
        }

        /// Number of places that name each piece.
        fn named(&self) -> BTreeMap<u16, u64> {
            let mut named = BTreeMap::new();
            let places = self.known.groups.iter().flat_map(Known::places);
            places.for_each(|place| *named.entry(place).or_default() += 1);
            named
        }

        /// Every place is counted, and no others.
        fn check_pieces(&self) {
            let mut named = self.named();
            named.remove(&STORE);
            let mut wanted_bytes = 0;
            for file in 0..FILES {
                let (mut keys, mut bytes) = (0, 0);
                for (piece, record_bytes) in self.files.get(&file).into_iter().flatten() {
                    let live = named.remove(&piece.place()).unwrap_or(0);
                    assert_eq!(u64::from(self.known.live(*piece)), live);
                    keys += live;
                    bytes += live * u64::from(*record_bytes);
                }
                let known = (self.known.live_in(file), self.known.wanted_in(file));
                assert_eq!(known, (keys, bytes));
                wanted_bytes += bytes;
            }
            assert_eq!(self.known.wanted_bytes(), wanted_bytes);
            assert_eq!(self.known.pieces.gone(), named.len());
            let mut emptied = self.known.emptied();
            assert!(emptied.all(|file| self.known.live_in(file) == 0));
        }

        fn check(&self) {
            self.check_pieces();
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
        }
    }

    proptest! {
        /// Whatever becomes of places.
        #[test]
        fn what_is_elsewhere_is_never_taken_for_absent(
            steps in steps(),
            unread in any::<bool>(),
            // Places are looked through when a piece is gone, when two are, or when there is no number.
            pieces_max in prop_oneof![1..16_usize, 32..48_usize, Just(PieceId::COUNT)],
        ) {
            let mut harness = Harness::new(unread, pieces_max);
            for step in steps {
                harness.step(step);
                harness.check();
            }
        }
    }

    #[test]
    fn a_key_group_of_which_all_was_loaded_is_resident_again() {
        let mut harness = Harness::new(false, PieceId::COUNT);
        (0..100).for_each(|n| harness.step(Step::Add(n << 40)));
        assert!(!harness.known.is_nothing());
        (0..100).for_each(|n| harness.step(Step::Loaded(n << 40)));
        assert!(harness.known.is_nothing());
    }

    /// Of two that are known alike, one has come back with a newer record when its list becomes a table.
    #[test]
    fn a_key_that_goes_again_is_not_looked_for_where_it_was() {
        let [one, other] = [1, 2].map(|lower| 7 << 30 | lower);
        let mut harness = Harness::new(false, PieceId::COUNT);
        [0, 0].into_iter().for_each(|file| harness.begin(file));
        let [old, new] = [0, 1].map(|number| harness.files[&0][number].0);
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
            for start in (0..keys).step_by(4096) {
                let piece = known.begin_piece(0).expect("few pieces");
                for key in start..keys.min(start + 4096) {
                    known.add(mix(key, 1));
                    known.set_piece(mix(key, 1), piece);
                }
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
