//! A sum of floats without any rounding, so that what was added can be subtracted again: a number of
//! as many digits of 32 bits as it takes, each with room to carry later. (Kulisch's long accumulator,
//! with only the digits that are in use.)

/// Digits of 32 bits; digit `i` counts 2^(32 i) of the least positive float, 2^-1074.
const DIGIT_BITS: u32 = 32;
/// The greatest digit.
const DIGIT_MAX: i64 = u32::MAX as i64;
/// More digits than the greatest sum has: the greatest float has 2,098 bits, and there are fewer than
/// 2^64 values.
const DIGITS_MAX: usize = 72;
/// What is added to a digit is less than 2^32, so so often at most before carrying.
const PENDING_MAX: u32 = 1 << 30;
/// Bits of the fraction of a float.
const FRACTION_BITS: u32 = 52;

/// Sum of the values that were added and not subtracted.
#[derive(Clone, Debug, Default)]
pub(super) struct ExactSum {
    /// Number of the first digit that is kept.
    first: usize,
    digits: Vec<i64>,
    pending: u32,
    /// Values that are no numbers: not one, positive and negative infinity.
    nans: i64,
    infinite: [i64; 2],
}

impl ExactSum {
    /// Adds a value, or subtracts one that was added.
    pub(super) fn change(&mut self, value: f64, add: bool) {
        let step = if add { 1 } else { -1 };
        if !value.is_finite() {
            match value.is_nan() {
                true => self.nans += step,
                false => self.infinite[usize::from(value < 0.0)] += step,
            }
            return;
        }
        if value == 0.0 {
            return;
        }
        let bits = value.to_bits();
        let exponent = (bits >> FRACTION_BITS) as u32 & 0x7ff;
        let fraction = bits & ((1 << FRACTION_BITS) - 1);
        // Of a subnormal value the exponent is that of the least normal one, without the hidden bit.
        let (fraction, shift) = match exponent {
            0 => (fraction, 0),
            _ => (fraction | 1 << FRACTION_BITS, exponent - 1),
        };
        let sign = if value < 0.0 { -step } else { step };
        self.add_shifted(fraction, shift, sign);
    }

    /// Adds `sign * fraction * 2^shift` of the least float.
    fn add_shifted(&mut self, fraction: u64, shift: u32, sign: i64) {
        let at = (shift / DIGIT_BITS) as usize;
        let shifted = u128::from(fraction) << (shift % DIGIT_BITS);
        self.make_room(at, at + 3);
        for i in 0..3 {
            let digit = (shifted >> (DIGIT_BITS as usize * i)) as u32;
            self.digits[at - self.first + i] += sign * i64::from(digit);
        }
        self.pending += 1;
        if self.pending == PENDING_MAX {
            self.carry();
        }
    }

    /// Keeps the digits from `from` to `to` at least.
    fn make_room(&mut self, from: usize, to: usize) {
        if self.digits.is_empty() {
            self.first = from;
        }
        if from < self.first {
            let more = self.first - from;
            self.digits.splice(0..0, std::iter::repeat_n(0, more));
            self.first = from;
        }
        if to > self.first + self.digits.len() {
            self.digits.resize(to - self.first, 0);
        }
    }

    /// Brings every digit but the last to 0 … 2^32 - 1; the sign is that of the last one.
    fn carry(&mut self) {
        let mut carried = 0_i64;
        for digit in &mut self.digits {
            let sum = *digit + carried;
            *digit = sum & DIGIT_MAX;
            carried = sum >> DIGIT_BITS;
        }
        match (carried, self.digits.last_mut()) {
            // The last digit takes the sign, so that it is not followed by more and more signs.
            (-1, Some(last)) if *last != 0 => *last -= DIGIT_MAX + 1,
            (0, _) => {}
            _ => self.digits.push(carried),
        }
        self.pending = 0;
    }

    /// The float next to the sum; of two, the even one.
    pub(super) fn value(&mut self) -> f64 {
        let [positive, negative] = self.infinite.map(|count| count != 0);
        match (self.nans != 0, positive, negative) {
            (true, ..) | (_, true, true) => return f64::NAN,
            (_, true, false) => return f64::INFINITY,
            (_, false, true) => return f64::NEG_INFINITY,
            _ => {}
        }
        self.carry();
        self.trim();
        match self.digits.last() {
            Some(last) if *last < 0 => {
                let mut turned = [0_i64; DIGITS_MAX];
                let turned = &mut turned[..self.digits.len()];
                let mut carried = 0;
                for (turned, digit) in turned.iter_mut().zip(&self.digits) {
                    let difference = carried - digit;
                    *turned = difference & DIGIT_MAX;
                    carried = difference >> DIGIT_BITS;
                }
                let zeros = turned.iter().rev().take_while(|digit| **digit == 0);
                let length = turned.len() - zeros.count();
                -rounded(&turned[..length], self.first)
            }
            _ => rounded(&self.digits, self.first),
        }
    }

    /// Forgets digits that are 0 at either end.
    fn trim(&mut self) {
        while self.digits.last() == Some(&0) {
            self.digits.pop();
        }
        let zeros = self.digits.iter().take_while(|digit| **digit == 0).count();
        self.digits.drain(..zeros);
        self.first += zeros;
    }

    /// Bytes of memory beside its own.
    pub(super) fn memory(&self) -> usize {
        self.digits.capacity() * 8
    }
}

/// The float next to a number of digits that are carried and not negative, of which the last is not 0.
fn rounded(digits: &[i64], first: usize) -> f64 {
    let Some(last) = digits.last() else {
        return 0.0;
    };
    // The three highest digits, and whether anything is below them.
    let top = digits.len();
    let digit = |below: usize| match top.checked_sub(below) {
        Some(at) => u128::from(digits[at] as u64),
        None => 0,
    };
    let width = 64 - (*last as u64).leading_zeros();
    let window = digit(1) << 64 | digit(2) << 32 | digit(3);
    let mut sticky = digits[..top.saturating_sub(3)]
        .iter()
        .any(|digit| *digit != 0);
    // The lowest of its `width + 64` bits counts so often the least float:
    let lowest = 32 * (first as i64 + top as i64 - 3);
    // A float has 53 bits, but not below the least one.
    let drop = (i64::from(width) + 64 - 53).max(-lowest);
    let dropped = window & ((1_u128 << drop) - 1);
    let mut kept = (window >> drop) as u64;
    let half = 1_u128 << (drop - 1);
    sticky |= dropped & (half - 1) != 0;
    let is_half = dropped & half != 0;
    if is_half && (sticky || kept & 1 == 1) {
        kept += 1;
    }
    scaled(kept, lowest + drop)
}

/// `value * 2^shift` of the least float; `value` has at most 53 bits, or is 2^53.
fn scaled(mut value: u64, mut shift: i64) -> f64 {
    if value == 1 << 53 {
        (value, shift) = (value >> 1, shift + 1);
    }
    if value < 1 << FRACTION_BITS {
        // Nothing was dropped above the least float.
        debug_assert_eq!(
            shift, 0,
            "a float that is not normal has the least exponent"
        );
        return f64::from_bits(value);
    }
    let exponent = shift as u64 + 1;
    match exponent < 0x7ff {
        true => f64::from_bits(exponent << FRACTION_BITS | value & ((1 << FRACTION_BITS) - 1)),
        false => f64::INFINITY,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(values: &[f64]) -> f64 {
        let mut sum = ExactSum::default();
        values.iter().for_each(|value| sum.change(*value, true));
        sum.value()
    }

    #[test]
    fn nothing_is_lost_between_large_values() {
        assert_eq!(sum(&[]), 0.0);
        assert_eq!(sum(&[1e300, 1.0, -1e300]), 1.0);
        assert_eq!(sum(&[1e16, 1.0, 1.0]), 1e16 + 2.0);
        assert_eq!(sum(&[1e16, 1.0]), 1e16, "half way, to the even one");
        assert_eq!(sum(&[1e16, 1.0, f64::from_bits(1)]), 1e16 + 2.0);
        assert_eq!(sum(&[-1e16, -1.0, -f64::from_bits(1)]), -1e16 - 2.0);
        assert_eq!(sum(&[0.1; 10]), 1.0);
        assert_eq!(sum(&[f64::MAX, f64::MAX]), f64::INFINITY);
        assert_eq!(sum(&[f64::MAX, f64::MAX, -f64::MAX]), f64::MAX);
        assert_eq!(sum(&[-f64::MAX, f64::from_bits(1)]), -f64::MAX);
        let tiny = f64::from_bits(7);
        assert_eq!(sum(&[tiny, -f64::from_bits(9)]), -f64::from_bits(2));
        assert_eq!(sum(&[f64::MIN_POSITIVE, -tiny]), f64::MIN_POSITIVE - tiny);
    }

    #[test]
    fn what_is_no_number_goes_as_it_came() {
        let mut sum = ExactSum::default();
        sum.change(2.5, true);
        sum.change(f64::INFINITY, true);
        assert_eq!(sum.value(), f64::INFINITY);
        sum.change(f64::NEG_INFINITY, true);
        assert!(sum.value().is_nan());
        sum.change(f64::INFINITY, false);
        assert_eq!(sum.value(), f64::NEG_INFINITY);
        sum.change(f64::NEG_INFINITY, false);
        sum.change(f64::NAN, true);
        assert!(sum.value().is_nan());
        sum.change(f64::NAN, false);
        assert_eq!(sum.value(), 2.5);
    }

    /// Floats that are whole numbers times a power of two, so that 128 bits hold their sums.
    fn value() -> impl Strategy<Value = (i64, u32)> {
        (-(1_i64 << 53)..1 << 53, 0..60_u32)
    }

    proptest! {
        #[test]
        fn values_come_and_go_exactly(
            values in prop::collection::vec((value(), any::<bool>()), 1..60),
            scale in -1074..900_i32,
        ) {
            // Scales of less than the least float would not be exact.
            let scale = 2_f64.powi(scale.max(-1022)) * 2_f64.powi(scale.min(-1022) + 1022);
            let float = |(fraction, shift): (i64, u32)| fraction as f64 * 2_f64.powi(shift as i32);
            let mut sum = ExactSum::default();
            let (mut there, mut exact) = (std::collections::VecDeque::new(), 0_i128);
            for (value, goes) in values {
                let number = i128::from(value.0) << value.1;
                sum.change(float(value) * scale, true);
                there.push_back((value, number));
                exact += number;
                if goes && let Some((value, number)) = there.pop_front() {
                    sum.change(float(value) * scale, false);
                    exact -= number;
                }
                // A float times a power of two is exact, unless it is too large or too small.
                let expected = exact as f64 * scale;
                let is_normal = expected == 0.0 || expected.is_normal();
                if is_normal {
                    prop_assert_eq!(sum.value(), expected);
                }
                prop_assert!(sum.digits.len() < 12, "{:?}", sum);
            }
            for (value, _) in there {
                sum.change(float(value) * scale, false);
            }
            prop_assert_eq!(sum.value(), 0.0);
            prop_assert!(sum.digits.is_empty());
        }
    }
}
