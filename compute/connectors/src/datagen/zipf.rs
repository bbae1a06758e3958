//! Numbers of which few come often and most seldom: the n-th with a probability as 1 / n^exponent.
//!
//! By rejection-inversion (Hörmann and Derflinger, 1996): a continuous hat over the probabilities is
//! inverted, which costs the same for any count of numbers and needs no table; few draws are refused.

use crate::random::Words;

/// Draws in a row that are refused are fewer than this but once in the age of the universe.
const DRAWS_MAX: usize = 200;

/// A distribution over `1..=count`.
#[derive(Debug)]
pub(super) struct Zipf {
    count: f64,
    exponent: f64,
    /// Areas under the hat: up to the first number, and up to the last.
    first: f64,
    last: f64,
    /// So far above its middle, a number is taken without a look.
    sure: f64,
}

impl Zipf {
    /// `exponent` is above 0, `count` at least 1.
    pub(super) fn new(count: u64, exponent: f64) -> Zipf {
        let mut zipf = Zipf {
            count: count as f64,
            exponent,
            first: 0.0,
            last: 0.0,
            sure: 0.0,
        };
        zipf.first = zipf.area(1.5) - 1.0;
        zipf.last = zipf.area(zipf.count + 0.5);
        zipf.sure = 2.0 - zipf.at_area(zipf.area(2.5) - zipf.height(2.0));
        zipf
    }

    /// One of the numbers.
    pub(super) fn draw(&self, words: &mut Words) -> u64 {
        for _ in 0..DRAWS_MAX {
            let unit = (words.next() >> 11) as f64 / (1_u64 << 53) as f64;
            let area = self.last + unit * (self.first - self.last);
            let place = self.at_area(area);
            let number = place.round().clamp(1.0, self.count);
            let taken = number - place <= self.sure
                || area >= self.area(number + 0.5) - self.height(number);
            if taken {
                return number as u64;
            }
        }
        1
    }

    fn height(&self, x: f64) -> f64 {
        (-self.exponent * x.ln()).exp()
    }

    /// The integral of the height from 1 to x, also where the exponent is 1 or close to it.
    fn area(&self, x: f64) -> f64 {
        let log = x.ln();
        let scaled = (1.0 - self.exponent) * log;
        let slope = if scaled.abs() < 1e-8 {
            1.0 + scaled / 2.0
        } else {
            scaled.exp_m1() / scaled
        };
        slope * log
    }

    /// The inverse of [`Zipf::area`].
    fn at_area(&self, area: f64) -> f64 {
        // Rounding may lead beyond what has a logarithm.
        let scaled = (area * (1.0 - self.exponent)).max(-1.0);
        let slope = if scaled.abs() < 1e-8 {
            1.0 - scaled / 2.0
        } else {
            scaled.ln_1p() / scaled
        };
        (slope * area).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Field;

    /// How often each number is drawn must be what its probability says, within five standard
    /// deviations.
    #[test]
    fn numbers_come_as_often_as_they_should() {
        const DRAWS: u64 = 200_000;
        for exponent in [0.5, 0.99, 1.0, 1.3, 3.0] {
            for count in [1_u64, 2, 10, 1000] {
                let zipf = Zipf::new(count, exponent);
                let field = Field::new(7, count);
                let mut drawn = vec![0_u64; count as usize + 1];
                for row in 0..DRAWS {
                    drawn[zipf.draw(&mut field.words(row)) as usize] += 1;
                }
                let weight = |number: u64| (number as f64).powf(-exponent);
                let sum: f64 = (1..=count).map(weight).sum();
                for number in 1..=count {
                    let part = weight(number) / sum;
                    let expected = part * DRAWS as f64;
                    let deviation = (expected * (1.0 - part)).sqrt();
                    let off = (drawn[number as usize] as f64 - expected).abs();
                    assert!(
                        off <= 5.0 * deviation + 1.0,
                        "{number} of {count}, exponent {exponent}: {off} off {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn numbers_stay_within_the_largest_counts() {
        for count in [1, u64::from(u32::MAX), 1 << 53] {
            let zipf = Zipf::new(count, 0.2);
            let field = Field::new(1, 2);
            for row in 0..1000 {
                let number = zipf.draw(&mut field.words(row));
                assert!((1..=count).contains(&number), "{number} of {count}");
            }
        }
    }
}
