//! Numbers for new pieces: of those that are gone they are free again when no place names them any more, for
//! which places are looked through, some at a time.

use super::{elsewhere::Elsewhere, known::Known, pieces::PieceId};

/// Places are looked through for pieces that are gone once there is one of these for so many places,
const PLACES_PER_GONE_PIECE: usize = 4 << 10;
/// not before there are so many of them,
const GONE_PIECES_MIN: usize = 64;
/// and not later than when they take one in so many of the numbers that pieces can have.
const GONE_PIECES_PART: usize = 16;
/// So many places are looked at when a piece begins,
const SWEPT_MIN: usize = 64 << 10;
/// or more, so that all have been after one in so many of the pieces that can be named.
const SWEPT_PART: usize = 32;

impl Elsewhere {
    /// A piece begins, of the file in a slot. `None`: there are as many as can be named.
    pub(crate) fn begin_piece(&mut self, file: u16) -> Option<PieceId> {
        self.sweep_some();
        if self.pieces.is_full() {
            return None;
        }
        // At most once through all of them, after which no place names what is gone.
        for _ in 0..self.groups.len() {
            if self.pieces.has_number() {
                break;
            }
            self.sweep_group();
        }
        self.pieces.begin(file)
    }

    /// Looks at some places if many pieces are gone. What is gone when a round through all of them begins is
    /// forgotten when it ends, so the looks that a piece costs do not depend on how many places there are, until
    /// there are more than numbers of pieces allow for.
    fn sweep_some(&mut self) {
        let (gone, most) = (self.pieces.gone(), self.pieces.count_max());
        if gone < GONE_PIECES_MIN.min(most / GONE_PIECES_PART) {
            return;
        }
        let places: usize = self.groups.iter().map(Known::room).sum();
        let least = (places / PLACES_PER_GONE_PIECE).max(GONE_PIECES_MIN);
        if gone < least.min(most / GONE_PIECES_PART) {
            return;
        }
        let mut left = SWEPT_MIN.max(places / (most / SWEPT_PART).max(1));
        while left > 0 && self.pieces.gone() > 0 {
            left = left.saturating_sub(self.sweep_group());
        }
    }

    /// Forgets pieces that are gone in the next key group; places that were looked at, or 1.
    pub(super) fn sweep_group(&mut self) -> usize {
        let next = (self.next_swept + 1) % self.groups.len();
        let known = &mut self.groups[std::mem::replace(&mut self.next_swept, next)];
        known.forget_gone(&mut self.pieces);
        known.room().max(1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proto::types::{KeyGroupCount, KeyGroupSet};

    use super::*;
    use crate::key::mix;

    /// Files of 64 pieces, of which there are 16 at a time.
    #[test]
    fn files_are_given_up_at_a_cost_that_does_not_grow_with_what_is_elsewhere() {
        let (count, all) = (
            KeyGroupCount::DEFAULT,
            KeyGroupSet::all(KeyGroupCount::DEFAULT),
        );
        let mut known = Elsewhere::new(count, &all, false);
        let keys = 1_000_000;
        (0..keys).for_each(|key| known.add(mix(key, 1)));
        let places: usize = known.groups.iter().map(Known::room).sum();
        let (mut files, mut looks, mut gone_max) = (VecDeque::new(), 0, 0);
        let (begun, per_piece) = (6_000, 100);
        for number in 0..begun {
            if number % 64 == 0 {
                let mut slot = files.len() as u16;
                if files.len() == 16 {
                    let (oldest, pieces): (u16, Vec<PieceId>) = files.pop_front().expect("16");
                    known.give_up(oldest, &pieces);
                    slot = oldest;
                }
                files.push_back((slot, Vec::new()));
            }
            let before = known.next_swept;
            let (slot, pieces) = files.back_mut().expect("a file");
            let piece = known.begin_piece(*slot).expect("few pieces");
            pieces.push(piece);
            let groups = (known.next_swept + known.groups.len() - before) % known.groups.len();
            looks += groups * places / known.groups.len();
            gone_max = gone_max.max(known.pieces.gone());
            for key in 0..per_piece {
                known.set_piece(mix((number * per_piece + key) % keys, 1), piece);
            }
        }
        let per_piece = looks as u64 / begun;
        println!("{per_piece} looks for each piece, at most {gone_max} are gone");
        assert!(per_piece <= 2 * PLACES_PER_GONE_PIECE as u64);
        assert!(gone_max < 512, "{gone_max} pieces are gone");
    }
}
