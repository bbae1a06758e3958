//! Letters and prices from random words, without a branch per character.

/// Eight values of 0 to 25, a byte each.
#[inline(always)]
fn letters(word: u64) -> u64 {
    const EVEN: u64 = 0x00FF_00FF_00FF_00FF;
    let even = (((word & EVEN) * 26) >> 8) & EVEN;
    let odd = (((word >> 8) & EVEN) * 26) & !EVEN;
    even | odd
}

const ALL_A: u64 = 0x6161_6161_6161_6161;

/// Eight letters `a` to `z`.
#[inline(always)]
pub(super) fn eight_letters(word: u64) -> [u8; 8] {
    (ALL_A + letters(word)).to_le_bytes()
}

/// Eight characters of padding: as often `a` to `z` as the 26 characters that end with `a`. It is
/// what the public generator makes of negative random numbers, and queries count letters in it.
#[inline(always)]
pub(super) fn eight_of_padding(word: u64) -> [u8; 8] {
    let offset = letters(word);
    // All ones where the lowest bit is set, which the first letter hardly depends on.
    let down = (word & 1).wrapping_neg();
    // No byte borrows from or carries into another, as offsets are below 26.
    let up = ALL_A + (offset & !down);
    (up - (offset & down)).to_le_bytes()
}

/// Prices: `10 ^ (6 u) * 100`, rounded, for a uniform `u`.
#[derive(Debug)]
pub(super) struct Prices {
    /// `10 ^ (6 i / 256) * 100`.
    table: Box<[f64; 256]>,
}

impl Prices {
    pub(super) fn new() -> Prices {
        let mut table = Box::new([0.0; 256]);
        for (index, power) in table.iter_mut().enumerate() {
            *power = 10_f64.powf(6.0 * index as f64 / 256.0) * 100.0;
        }
        Prices { table }
    }

    #[inline(always)]
    pub(super) fn price(&self, word: u64) -> i64 {
        /// ln(10 ^ 6) / 256 / 2 ^ 45.
        const SCALE: f64 = 13.815_510_557_964_274 / 256.0 / 35_184_372_088_832.0;
        let base = self.table[(word >> 56) as usize];
        // What is left of the exponent is below 0.054: five terms of the series are enough.
        let rest = ((word >> 11) & ((1 << 45) - 1)) as i64 as f64 * SCALE;
        let power = 1.0
            + rest * (1.0 + rest * (0.5 + rest * (1.0 / 6.0 + rest * (1.0 / 24.0 + rest / 120.0))));
        (base * power + 0.5) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Field;

    #[test]
    fn prices_follow_the_definition() {
        let prices = Prices::new();
        for step in 0..10_000_u64 {
            let word = step * (u64::MAX / 10_000);
            let uniform = (word >> 11) as f64 / (1_u64 << 53) as f64;
            let exact = (10_f64.powf(uniform * 6.0) * 100.0).round() as i64;
            assert!((prices.price(word) - exact).abs() <= 1, "{uniform}");
        }
    }

    #[test]
    fn letters_are_letters_and_even() {
        let field = Field::new(7, 1);
        let (mut plain, mut padding) = ([0_u32; 256], [0_u32; 256]);
        for event in 0..26_000 {
            for byte in eight_letters(field.word(event)) {
                plain[usize::from(byte)] += 1;
            }
            for byte in eight_of_padding(field.words(event).next()) {
                padding[usize::from(byte)] += 1;
            }
        }
        for byte in b'a'..=b'z' {
            assert!((7_000..9_500).contains(&plain[usize::from(byte)]), "{byte}");
        }
        assert_eq!(plain.iter().sum::<u32>(), 208_000);
        let used: Vec<u8> = (0..=255)
            .filter(|byte| padding[usize::from(*byte)] > 0)
            .collect();
        assert_eq!(used, (b'H'..=b'z').collect::<Vec<u8>>());
    }
}
