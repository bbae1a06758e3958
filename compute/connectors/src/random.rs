//! Random values by hashing: the same (seed, row, field) gives the same value, without a state
//! that would have to be carried from row to row.

/// Odd constants with about as many ones as zeros.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
const MIX: u64 = 0xD6E8_FEB8_6659_FD93;

/// The 128-bit product of two words, folded.
#[inline(always)]
fn fold(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right);
    (product as u64) ^ ((product >> 64) as u64)
}

/// A source of words for one field.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    key: u64,
}

impl Field {
    /// The words of field number `field` under `seed`.
    pub(crate) fn new(seed: u64, field: u64) -> Field {
        let key = fold(seed ^ MIX, STEP.wrapping_add(field.wrapping_mul(STEP)));
        // An even or small key would lose bits of the event number.
        Field {
            key: fold(key ^ STEP, MIX) | 1,
        }
    }

    /// The word of an event.
    #[inline(always)]
    pub(crate) fn word(self, event: u64) -> u64 {
        let spread = (event ^ self.key).wrapping_mul(STEP);
        fold(spread ^ (spread >> 32), self.key ^ MIX)
    }

    /// More words of an event.
    #[inline(always)]
    pub(crate) fn words(self, event: u64) -> Words {
        Words {
            state: self.word(event),
        }
    }
}

/// Words that follow from one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words {
    state: u64,
}

impl Words {
    #[inline(always)]
    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(STEP);
        fold(self.state, self.state ^ MIX)
    }
}

/// From `0..bound`, by the high bits of `word`.
#[inline(always)]
pub(crate) fn below(word: u64, bound: u64) -> u64 {
    ((u128::from(word) * u128::from(bound)) >> 64) as u64
}

/// True once in `ratio` times, by the low bits of `word`: those that [`below`] hardly uses.
#[inline(always)]
pub(crate) fn one_in(word: u64, ratio: u32) -> bool {
    (u64::from(word as u32) * u64::from(ratio)) >> 32 == 0
}
