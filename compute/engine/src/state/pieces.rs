//! Pieces of scratch files as places of keys, and how many keys are in each.

/// The place of keys that are in no scratch file.
pub(super) const STORE: u16 = 1;

/// A piece of a scratch file, among those of one operator.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct PieceId(pub(super) u16);

impl PieceId {
    /// Pieces that can be named.
    pub(crate) const COUNT: usize = u16::MAX as usize - STORE as usize;

    /// The piece of a number below [`PieceId::COUNT`].
    pub(crate) fn new(number: usize) -> PieceId {
        debug_assert!(number < PieceId::COUNT);
        PieceId(number as u16 + STORE + 1)
    }

    /// Its number.
    pub(crate) fn number(self) -> usize {
        usize::from(self.0 - STORE - 1)
    }

    pub(super) fn of(place: u16) -> Option<PieceId> {
        (place > STORE).then_some(PieceId(place))
    }
}

/// How many keys are in each piece.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    live: Vec<u32>,
    /// Keys that have left one since that was last asked.
    left: usize,
}

impl Pieces {
    /// A key is in a piece from now on.
    pub(super) fn enter(&mut self, piece: PieceId) {
        let number = piece.number();
        if self.live.len() <= number {
            self.live.resize(number + 1, 0);
        }
        self.live[number] += 1;
    }

    /// A key is not in a place any more.
    pub(super) fn leave(&mut self, place: u16) {
        if let Some(piece) = PieceId::of(place) {
            self.live[piece.number()] -= 1;
            self.left += 1;
        }
    }

    /// Number of keys in a piece.
    pub(super) fn live(&self, piece: PieceId) -> u32 {
        self.live.get(piece.number()).copied().unwrap_or(0)
    }

    /// Whether at least so many keys have left pieces since this was last true.
    pub(super) fn have_left(&mut self, least: usize) -> bool {
        let have = self.left >= least;
        if have {
            self.left = 0;
        }
        have
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        self.live.capacity() * size_of::<u32>()
    }
}
