//! Pieces of scratch files as places of keys: their numbers, and how many keys are in each piece and each file.
//!
//! A file is given up as a whole, and keys that were in it go on naming its pieces: to find them would be to look
//! at all keys. So such a piece is *gone*, its number stays with it as long as any key names it, and
//! whoever looks at a place takes one that is gone for none. When many numbers are taken up by what is gone,
//! places are gone through, a few at a time ([`super::Elsewhere`]).

use std::collections::BTreeSet;

/// The place of keys that are in no scratch file.
pub(super) const STORE: u16 = 1;

/// A piece of a scratch file, among those of one operator.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct PieceId(u16);

impl PieceId {
    /// Pieces that can be named.
    pub(crate) const COUNT: usize = u16::MAX as usize - STORE as usize;

    /// The piece of a number below [`PieceId::COUNT`].
    fn new(number: usize) -> PieceId {
        debug_assert!(number < PieceId::COUNT);
        PieceId(number as u16 + STORE + 1)
    }

    /// Its number.
    pub(crate) fn number(self) -> usize {
        usize::from(self.0 - STORE - 1)
    }

    /// As a place of keys.
    pub(super) fn place(self) -> u16 {
        self.0
    }

    fn of(place: u16) -> Option<PieceId> {
        (place > STORE).then_some(PieceId(place))
    }
}

/// One in so many numbers is kept for pieces that are gone.
const GONE_PART: usize = 8;

/// Numbers of pieces, and how many keys name each.
#[derive(Debug)]
pub(super) struct Pieces {
    /// By number.
    pieces: Vec<Counted>,
    /// Of those, the ones without a piece.
    free: Vec<PieceId>,
    /// By slot of the file.
    files: Vec<Wanted>,
    /// Files of which nothing is wanted any more.
    emptied: BTreeSet<u16>,
    /// Pieces that are gone and that keys name.
    gone: usize,
    /// Bytes of all files that are wanted.
    wanted_bytes: u64,
    count_max: usize,
}

#[derive(Clone, Copy, Debug)]
struct Counted {
    /// Keys that name it.
    live: u32,
    /// Bytes of a record, about; 0 until they are written.
    record_bytes: u32,
    /// `None`: it is gone.
    file: Option<u16>,
}

/// What is wanted of a file.
#[derive(Clone, Copy, Debug, Default)]
struct Wanted {
    keys: u64,
    bytes: u64,
}

impl Default for Pieces {
    fn default() -> Self {
        Pieces {
            pieces: Vec::new(),
            free: Vec::new(),
            files: Vec::new(),
            emptied: BTreeSet::new(),
            gone: 0,
            wanted_bytes: 0,
            count_max: PieceId::COUNT,
        }
    }
}

impl Pieces {
    /// Fewer can be named.
    #[cfg(test)]
    pub(super) fn limit(&mut self, count_max: usize) {
        self.count_max = count_max;
    }

    /// Pieces that can be named, those that are gone among them.
    pub(super) fn count_max(&self) -> usize {
        self.count_max
    }

    /// Whether there are so many pieces that there may be no more, whatever becomes of those that are gone.
    pub(super) fn is_full(&self) -> bool {
        let there = self.pieces.len() - self.free.len() - self.gone;
        there >= self.count_max - self.count_max / GONE_PART
    }

    /// Whether there is a number for another piece.
    pub(super) fn has_number(&self) -> bool {
        !self.free.is_empty() || self.pieces.len() < self.count_max
    }

    /// Pieces that are gone and that keys name.
    pub(super) fn gone(&self) -> usize {
        self.gone
    }

    /// A piece of the file in a slot begins; `None`: there is no number for it.
    pub(super) fn begin(&mut self, file: u16) -> Option<PieceId> {
        if !self.has_number() {
            return None;
        }
        let begun = Counted {
            live: 0,
            record_bytes: 0,
            file: Some(file),
        };
        let piece = match self.free.pop() {
            Some(piece) => {
                self.pieces[piece.number()] = begun;
                piece
            }
            None => {
                self.pieces.push(begun);
                PieceId::new(self.pieces.len() - 1)
            }
        };
        let files = self.files.len().max(usize::from(file) + 1);
        self.files.resize(files, Wanted::default());
        Some(piece)
    }

    /// No key is put into a piece any more, and its records have about so many bytes.
    pub(super) fn end(&mut self, piece: PieceId, record_bytes: u32) {
        let counted = &mut self.pieces[piece.number()];
        counted.record_bytes = record_bytes;
        let bytes = u64::from(counted.live) * u64::from(record_bytes);
        if let Some(file) = counted.file {
            self.files[usize::from(file)].bytes += bytes;
            self.wanted_bytes += bytes;
        }
    }

    /// A key is in a piece from now on.
    pub(super) fn enter(&mut self, piece: PieceId) {
        let counted = &mut self.pieces[piece.number()];
        counted.live += 1;
        if let Some(file) = counted.file {
            let wanted = &mut self.files[usize::from(file)];
            wanted.keys += 1;
            if wanted.keys == 1 {
                self.emptied.remove(&file);
            }
        }
    }

    /// A key is not in a place any more; the piece that it was in, if that is not gone.
    pub(super) fn leave(&mut self, place: u16) -> Option<PieceId> {
        let piece = PieceId::of(place)?;
        let counted = &mut self.pieces[piece.number()];
        counted.live -= 1;
        let Some(file) = counted.file else {
            if counted.live == 0 {
                self.gone -= 1;
                self.free.push(piece);
            }
            return None;
        };
        let bytes = u64::from(counted.record_bytes);
        let wanted = &mut self.files[usize::from(file)];
        wanted.keys -= 1;
        wanted.bytes -= bytes;
        self.wanted_bytes -= bytes;
        if wanted.keys == 0 {
            self.emptied.insert(file);
        }
        Some(piece)
    }

    /// The file in a slot is given up, with these pieces.
    pub(super) fn give_up(&mut self, file: u16, pieces: &[PieceId]) {
        for piece in pieces {
            let counted = &mut self.pieces[piece.number()];
            counted.file = None;
            if counted.live == 0 {
                self.free.push(*piece);
            } else {
                self.gone += 1;
            }
        }
        if let Some(wanted) = self.files.get_mut(usize::from(file)) {
            self.wanted_bytes -= wanted.bytes;
            *wanted = Wanted::default();
        }
        self.emptied.remove(&file);
    }

    /// The piece that a place names, if it is not gone.
    pub(super) fn at(&self, place: u16) -> Option<PieceId> {
        PieceId::of(place).filter(|piece| self.pieces[piece.number()].file.is_some())
    }

    /// A place as it is after what is gone has been forgotten.
    pub(super) fn forget_gone(&mut self, place: u16) -> u16 {
        if PieceId::of(place).is_none() || self.at(place).is_some() {
            return place;
        }
        self.leave(place);
        STORE
    }

    /// Number of keys in a piece.
    pub(super) fn live(&self, piece: PieceId) -> u32 {
        self.pieces[piece.number()].live
    }

    /// Number of keys in a file.
    #[cfg(test)]
    pub(super) fn live_in(&self, file: u16) -> u64 {
        let wanted = self.files.get(usize::from(file));
        wanted.map_or(0, |wanted| wanted.keys)
    }

    /// Bytes of a file that are wanted, about.
    pub(super) fn wanted_in(&self, file: u16) -> u64 {
        let wanted = self.files.get(usize::from(file));
        wanted.map_or(0, |wanted| wanted.bytes)
    }

    /// Bytes of all files that are wanted, about.
    pub(super) fn wanted_bytes(&self) -> u64 {
        self.wanted_bytes
    }

    /// Files of which nothing is wanted any more.
    pub(super) fn emptied(&self) -> impl Iterator<Item = u16> + '_ {
        self.emptied.iter().copied()
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        self.pieces.capacity() * size_of::<Counted>()
            + self.free.capacity() * size_of::<PieceId>()
            + self.files.capacity() * size_of::<Wanted>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_pieces_as_can_be_named_have_names_of_their_own() {
        let mut pieces = Pieces::default();
        let mut all = BTreeSet::new();
        while !pieces.is_full() {
            assert!(all.insert(pieces.begin(7).expect("a number").place()));
        }
        assert_eq!(all.len(), PieceId::COUNT - PieceId::COUNT / GONE_PART);
        while let Some(piece) = pieces.begin(7) {
            assert!(all.insert(piece.place()));
        }
        assert_eq!(all.len(), PieceId::COUNT);
        assert!(all.iter().all(|place| pieces.at(*place).is_some()));
        assert!(!all.contains(&STORE) && !all.contains(&0));
    }
}
